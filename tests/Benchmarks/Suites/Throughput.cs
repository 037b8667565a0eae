using System.CommandLine;
using System.Runtime.InteropServices;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What a request costs the server: one image for <c>fm_mlp</c> over loopback, closed loop. The servers stand side by side in one run, with the same bodies, the same
/// environment and one core, and take turns in short rounds, so that whatever else the machine does meets them alike.
/// </summary>
internal static class Throughput
{
    private const int Images = 256;
    private const int VerifyEvery = 64;
    private static readonly int[] Connections = [1, 16, 64];
    private static readonly TimeSpan Settle = TimeSpan.FromMilliseconds(200);

    public static Command Command()
    {
        var seconds = new Option<double>("--seconds") { Description = "Length of one measurement", HelpName = "N", DefaultValueFactory = _ => 2 };
        var rounds = new Option<int>("--rounds") { Description = "Measurements of each kind; their median is reported", HelpName = "N", DefaultValueFactory = _ => 5 };
        var warmUp = new Option<double>("--warm-up") { Description = "Seconds of load that come first, for each server and body", HelpName = "N", DefaultValueFactory = _ => 6 };
        var numbers = new Option<NumberStyle>("--numbers") { Description = "How JSON bodies write their numbers", DefaultValueFactory = _ => NumberStyle.Python };
        var samples = new Option<string?>("--samples") { Description = "Folder of the model and the images, instead of infrastructure/samples/fashion", HelpName = "DIR" };
        var only = new Option<string[]>("--only") { Description = "Measure these servers only", DefaultValueFactory = _ => Servers.Names, AllowMultipleArgumentsPerToken = true };
        only.AcceptOnlyFromAmong(Servers.Names);
        Suite.RequirePositive(seconds, rounds, warmUp);

        return Suite.Create("throughput", "CPU, rate, latency and allocation a request, beside a constant endpoint and a plain baseline.",
            [seconds, rounds, warmUp, numbers, samples, only],
            (parsed, report) =>
            {
                // First of all, so that every thread started from here on keeps off the servers' core.
                var cores = Cores.Split();
                var inputs = Samples.Load(parsed.GetValue(samples), Images);
                var style = parsed.GetValue(numbers);
                var length = TimeSpan.FromSeconds(parsed.GetValue(seconds));
                Describe(report, cores, inputs, style);
                report.Text($"- {parsed.GetValue(rounds)} rounds of {length.TotalSeconds} s, servers by turns");

                using var scratch = new ScratchFolder();
                var servers = new List<ServerProcess>();
                try
                {
                    foreach (var name in Servers.Names.Intersect(parsed.GetValue(only)!)) servers.Add(Servers.Start(name, cores, inputs, scratch.Path));
                    var streams = Streams(servers, InferRequests.Json(inputs, style), InferRequests.Binary(inputs));
                    WarmUp(streams, TimeSpan.FromSeconds(parsed.GetValue(warmUp)));
                    var results = Measure(streams, length, parsed.GetValue(rounds));
                    ThroughputReport.Write(report, results);
                }
                finally
                {
                    foreach (var server in servers) server.Dispose();
                }
            });
    }

    private static void Describe(Report report, Cores cores, Samples samples, NumberStyle style)
    {
        report.Text("# throughput\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.ProcessArchitecture}");
        report.Text($"- {cores.Description}");
        report.Text($"- {Samples.ModelName}, {samples.Description}, numbers as {style switch
        {
            NumberStyle.Python => "Python writes float64",
            _ => "the shortest text of a float32",
        }}");
    }

    /// <summary>What is sent to whom: JSON to all, binary tensors to those that take any body or understand them.</summary>
    private static List<Stream> Streams(List<ServerProcess> servers, Workload json, Workload binary)
    {
        var streams = servers.Select(server => new Stream(server, json)).ToList();
        streams.AddRange(servers.Where(server => server.Name != Servers.Baseline).Select(server => new Stream(server, binary)));
        return streams.ConvertAll(stream => stream.Server.Name == Servers.Constant ? stream with { Workload = stream.Workload.Unread() } : stream);
    }

    /// <summary>Until tiered compilation has settled. Every answer is verified here; when it counts, a sample is.</summary>
    private static void WarmUp(List<Stream> streams, TimeSpan length)
    {
        foreach (var (server, workload) in streams)
        {
            Suite.Progress($"warming up {server.Name}, {workload.Name}");
            using var generator = new LoadGenerator(server, workload, Connections[^1]);
            generator.Run(length, verifyEvery: 1);
        }
    }

    /// <summary>The servers take turns within a round, each number of connections at a time.</summary>
    private static Dictionary<Cell, List<Measurement>> Measure(List<Stream> streams, TimeSpan length, int rounds)
    {
        var cells =
            (from body in streams.GroupBy(stream => stream.Workload.Name)
             from connections in Connections
             from stream in body
             select (Stream: stream, Cell: new Cell(body.Key, connections, stream.Server.Name))).ToArray();
        var results = cells.ToDictionary(cell => cell.Cell, _ => new List<Measurement>());
        for (var round = 1; round <= rounds; round++)
        {
            Suite.Progress($"round {round} of {rounds}");
            foreach (var (stream, cell) in cells) results[cell].Add(Measure(stream, cell.Connections, length));
        }
        return results;
    }

    private static Measurement Measure(Stream stream, int connections, TimeSpan length)
    {
        var (server, workload) = stream;
        using var generator = new LoadGenerator(server, workload, connections);
        generator.Run(Settle, VerifyEvery);

        var allocatedBefore = server.AllocatedBytes();
        var generatorBefore = Environment.CpuUsage.TotalTime;
        var serverBefore = server.ProcessorTime;
        var load = generator.Run(length, VerifyEvery);
        var serverTime = server.ProcessorTime - serverBefore;
        var generatorTime = Environment.CpuUsage.TotalTime - generatorBefore;
        var allocated = server.AllocatedBytes() - allocatedBefore;

        return new Measurement(
            CpuMicroseconds: serverTime.TotalMicroseconds / load.Requests,
            RequestsPerSecond: load.Requests / load.Elapsed.TotalSeconds,
            P50Milliseconds: load.Percentile(0.50).TotalMilliseconds,
            P99Milliseconds: load.Percentile(0.99).TotalMilliseconds,
            AllocatedBytes: allocated / load.Requests,
            ServerBusy: serverTime / load.Elapsed,
            GeneratorBusy: generatorTime / load.Elapsed);
    }

    private sealed record Stream(ServerProcess Server, Workload Workload);
}
