using System.CommandLine;
using System.Diagnostics;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>What callers notice when a replica goes wrong: <c>skiff serve --replicas 3</c> under an open loop, and one of the three is killed, stops, or runs a twentieth of the time.</summary>
internal static class Failover
{
    private const int Kill = 9, Continue = 18, Stop = 19;
    private const double Fault = 6; // seconds from the beginning
    private const double Length = 13;
    private const double Settled = 1;
    private const double Window = 2; // of a hundred requests the slowest is no p99
    private const double Step = 0.25;

    public static Command Command()
    {
        var rate = new Option<double>("--rate") { Description = "Requests a second", HelpName = "N", DefaultValueFactory = _ => 100 };
        var times = new Option<int>("--times") { Description = "How often each goes wrong; the median counts", HelpName = "N", DefaultValueFactory = _ => 3 };
        Suite.RequirePositive(rate);
        Suite.RequirePositive(times);
        return Suite.Create("failover", "A replica killed, hung or slowed under load: errors, and how long until latency is as before.", [rate, times], (parsed, report) =>
        {
            var cores = Cores.Split(); // before any other thread is started
            using var scratch = new ScratchFolder();
            var requests = new FashionRequests();
            using var server = Servers.StartSkiffWithApp(cores, requests.WriteApp(scratch.Path), requests.Models, Path.Combine(scratch.Path, "data"), ["--replicas", "3"]);
            var workload = requests.OfApp(1000);
            report.Text("# failover\n");
            report.Text($"- {cores.Description}; three replicas and their router on the one core; {parsed.GetValue(rate)} requests a second (Poisson, latency from the intended moment), fashion without cache, one image each");
            Suite.Progress("warming up");
            new OpenLoop(server, workload, 256).Run(parsed.GetValue(rate), 15, seed: 1);
            (string Name, Func<int, Task> Happens)[] faults = [("killed", pid => SignalAsync(pid, Kill)), ("hung", HangAsync), ("slowed × 20", SlowAsync)];
            var seen = faults.Select(_ => new List<Seen>()).ToArray();
            for (var time = 1; time <= parsed.GetValue(times); time++)
            {
                WaitForAll(server, workload, parsed.GetValue(rate));
                // The same requests at the same moments: what a crowd among them does is not the fault's doing.
                var usual = P99(Arrive(server, workload, parsed.GetValue(rate), seed: time), Settled, Length);
                foreach (var (fault, i) in faults.Select((fault, i) => (fault, i)))
                {
                    WaitForAll(server, workload, parsed.GetValue(rate));
                    var victim = ChildProcesses.Of(server.Id)[0];
                    var happens = Task.Run(async () =>
                    {
                        await Task.Delay(TimeSpan.FromSeconds(Fault));
                        await fault.Happens(victim);
                    });
                    var arrivals = Arrive(server, workload, parsed.GetValue(rate), seed: time);
                    happens.GetAwaiter().GetResult();
                    var one = Look(arrivals, usual);
                    Suite.Progress($"{fault.Name}, {time}: p99 {1000 * one.Worst:0.0} ms at worst, {1000 * usual:0.0} without; as usual after {one.After:0.00} s");
                    seen[i].Add(one);
                }
            }
            report.Table(1, ["one of three is", "p99 without, ms", "errors", $"worst {Window} s' p99, ms", "as usual after, s"], [.. faults.Select((fault, i) => Row(report, fault.Name, seen[i]))]);
            report.Text($"\nWithout: the same requests while nothing happens. Errors: any status but 200, and no reply within a second. As usual: from when on every {Window} s have a p99 within twice that. "
                + $"Each went wrong {parsed.GetValue(times)} times: errors are of all, the others medians.");
        });
    }

    private static List<Arrival> Arrive(ServerProcess server, Workload workload, double rate, int seed)
    {
        var arrivals = new OpenLoop(server, workload, 256).Run(rate, Length, seed);
        // Fewer would be a generator that didn't keep up.
        return arrivals.Count >= (int)(rate * Length * 0.9) ? arrivals : throw new BenchmarkException($"only {arrivals.Count} of some {rate * Length:0} requests were made: the machine is too busy for this rate");
    }

    private static Seen Look(List<Arrival> arrivals, double usual)
    {
        var (worst, last) = (0.0, Fault);
        for (var start = Fault; start + Window <= Length; start += Step)
        {
            var p99 = P99(arrivals, start, start + Window);
            worst = Math.Max(worst, p99);
            if (p99 > 2 * usual) last = start + Step;
        }
        return new Seen(usual, arrivals.Count(arrival => arrival.Status != 200), worst, last - Fault);
    }

    private static string[] Row(Report report, string name, List<Seen> runs)
    {
        double Median(Func<Seen, double> figure) => Suite.Median(runs.Select(figure));
        report.Add($"failover/{name}/errors", runs.Sum(run => run.Errors), "", Goal.AtMost(0));
        report.Add($"failover/{name}/as usual after", Median(run => run.After), "s", Goal.AtMost(2));
        return [name, $"{1000 * Median(run => run.Usual):0.0}", $"{runs.Sum(run => run.Errors)}", $"{1000 * Median(run => run.Worst):0.0}", $"{Median(run => run.After):0.00}"];
    }

    private static double P99(IEnumerable<Arrival> arrivals, double from, double to)
    {
        double[] sorted = [.. arrivals.Where(arrival => arrival.Intended >= from && arrival.Intended < to).Select(arrival => arrival.Seconds).Order()];
        return sorted.Length == 0 ? 0 : sorted[Math.Max(0, (int)Math.Ceiling(0.99 * sorted.Length) - 1)];
    }

    private static Task SignalAsync(int process, int signal)
    {
        SkiffProcess.Signal(process, signal);
        return Task.CompletedTask;
    }

    private static async Task HangAsync(int process)
    {
        SkiffProcess.Signal(process, Stop);
        await Task.Delay(TimeSpan.FromSeconds(Length - Fault));
        SkiffProcess.Signal(process, Continue);
    }

    /// <summary>Runs it for a millisecond in twenty.</summary>
    private static async Task SlowAsync(int process)
    {
        var until = Stopwatch.GetTimestamp() + (long)((Length - Fault) * Stopwatch.Frequency);
        while (Stopwatch.GetTimestamp() < until)
        {
            SkiffProcess.Signal(process, Stop);
            await Task.Delay(19);
            SkiffProcess.Signal(process, Continue);
            await Task.Delay(1);
        }
    }

    /// <summary>Until the last fault has been got over; under load, since a replica that was late is tried by requests.</summary>
    private static void WaitForAll(ServerProcess server, Workload workload, double rate)
    {
        using var client = new HttpClient { BaseAddress = new Uri($"http://{server.EndPoint}") };
        for (var i = 0; i < 80; i++)
        {
            var metrics = client.GetStringAsync("/metrics").GetAwaiter().GetResult();
            var isOut = metrics.Split('\n').Any(line => line.StartsWith("skiff_replica_out{", StringComparison.Ordinal) && line.EndsWith(" 1", StringComparison.Ordinal));
            if (!isOut && ChildProcesses.Of(server.Id).Count == 3) return;
            new OpenLoop(server, workload, 256).Run(rate, 0.5, seed: i);
        }
        throw new BenchmarkException($"a replica has not come back:\n{server.Obituary()}");
    }

    /// <summary>Seconds, but for the errors.</summary>
    private sealed record Seen(double Usual, int Errors, double Worst, double After);
}
