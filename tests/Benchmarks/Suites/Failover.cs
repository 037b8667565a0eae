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
        Suite.RequirePositive(rate);
        return Suite.Create("failover", "A replica killed, hung or slowed under load: errors, and how long until latency is as before.", [rate], (parsed, report) =>
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
            var rows = new List<string[]>();
            foreach (var (name, fault) in new (string, Func<int, Task>)[] { ("killed", pid => SignalAsync(pid, Kill)), ("hung", HangAsync), ("slowed × 20", SlowAsync) }) rows.Add(Run(report, server, workload, parsed.GetValue(rate), name, fault));
            report.Table(1, ["one of three is", "p99 before, ms", "errors", $"worst {Window} s' p99, ms", "as before after, s"], rows);
            report.Text($"\nErrors: any status but 200, and no reply within a second. As before: from when on every {Window} s have a p99 within twice that of the {Fault - Settled} s before the fault.");
        });
    }

    private static string[] Run(Report report, ServerProcess server, Workload workload, double rate, string name, Func<int, Task> fault)
    {
        Suite.Progress(name);
        WaitForAll(server, workload, rate);
        var victim = ChildProcesses.Of(server.Id)[0];
        var happens = Task.Run(async () =>
        {
            await Task.Delay(TimeSpan.FromSeconds(Fault));
            await fault(victim);
        });
        var arrivals = new OpenLoop(server, workload, 256).Run(rate, Length, seed: 7);
        happens.GetAwaiter().GetResult();
        var sent = (int)(rate * Length * 0.9); // fewer would be a generator that didn't keep up
        var errors = arrivals.Count(arrival => arrival.Status != 200);
        if (arrivals.Count < sent) throw new BenchmarkException($"only {arrivals.Count} of some {rate * Length:0} requests were made: the machine is too busy for this rate");
        var before = P99(arrivals, Settled, Fault);
        var (worst, last) = (0.0, Fault);
        for (var start = Fault; start + Window <= Length; start += Step)
        {
            var p99 = P99(arrivals, start, start + Window);
            worst = Math.Max(worst, p99);
            if (p99 > 2 * before) last = start + Step;
        }
        report.Add($"failover/{name}/errors", errors, "", Goal.AtMost(0));
        report.Add($"failover/{name}/as before after", last - Fault, "s", Goal.AtMost(2));
        return [name, $"{1000 * before:0.0}", $"{errors}", $"{1000 * worst:0.0}", $"{last - Fault:0.00}"];
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
}
