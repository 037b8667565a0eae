using System.Diagnostics;
using Skiff.Benchmarks.Suites;

namespace Skiff.Benchmarks;

/// <summary>One of several ways to do the same.</summary>
internal abstract class Contender(string name)
{
    public string Name => name;

    /// <summary>Makes ready what the next <paramref name="operations"/> need; not measured.</summary>
    public virtual void Prepare(int operations)
    {
    }

    public abstract Task RunAsync();
}

/// <summary>An operation's cost, to this process alone: CPU is user and kernel time of all its threads, whatever they do meanwhile.</summary>
internal readonly record struct Effort(double Milliseconds, double CpuMicroseconds, double AllocatedBytes)
{
    /// <summary>Each figure's median by itself.</summary>
    public static Effort Median(IReadOnlyCollection<Effort> rounds) => new(
        Suite.Median(rounds.Select(round => round.Milliseconds)), Suite.Median(rounds.Select(round => round.CpuMicroseconds)), Suite.Median(rounds.Select(round => round.AllocatedBytes)));
}

/// <summary>Contenders take turns in short rounds, so that whatever else the machine does meets them alike; who begins changes with the round.</summary>
internal static class Turns
{
    /// <returns>For each contender, by name, what its rounds' operations cost: of their times the median, of CPU and allocation the mean.</returns>
    public static async Task<IReadOnlyDictionary<string, List<Effort>>> MeasureAsync(IReadOnlyList<Contender> contenders, int rounds, int operations, TimeSpan warmUp)
    {
        foreach (var contender in contenders)
        {
            for (var started = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(started) < warmUp;) await RoundAsync(contender, operations);
        }
        var costs = contenders.ToDictionary(contender => contender.Name, _ => new List<Effort>());
        for (var round = 0; round < rounds; round++)
        {
            for (var turn = 0; turn < contenders.Count; turn++)
            {
                var contender = contenders[(round + turn) % contenders.Count];
                costs[contender.Name].Add(await RoundAsync(contender, operations));
            }
        }
        return costs;
    }

    private static async Task<Effort> RoundAsync(Contender contender, int operations)
    {
        contender.Prepare(operations);
        GC.Collect(); // Nobody collects another's garbage.
        var times = new double[operations];
        var allocated = GC.GetTotalAllocatedBytes(precise: true);
        var cpu = Environment.CpuUsage.TotalTime;
        for (var i = 0; i < operations; i++)
        {
            var started = Stopwatch.GetTimestamp();
            await contender.RunAsync();
            times[i] = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        }
        return new Effort(
            Suite.Median(times),
            (Environment.CpuUsage.TotalTime - cpu).TotalMicroseconds / operations,
            (double)(GC.GetTotalAllocatedBytes(precise: true) - allocated) / operations);
    }
}
