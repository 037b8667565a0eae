using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What Lambda's way costs a warm instance: the same prediction by the same executable, once as an event through the Runtime API and once as a request through Kestrel, one at a time.
/// The other side, Runtime API or client, is this process both times. The clock runs while a caller waits: from an event for an instance that has asked for one to its answer.
/// What the instance does between two events is a row of its own.
/// </summary>
internal static class Warm
{
    private const int Unmeasured = 2000;

    public static Command Command()
    {
        var rounds = new Option<int>("--rounds") { Description = "Measurements of each kind, by turns; their median is reported", HelpName = "N", DefaultValueFactory = _ => 7 };
        var requests = new Option<int>("--requests") { Description = "Requests in a measurement", HelpName = "N", DefaultValueFactory = _ => 2000 };
        var published = new Option<string?>("--published") { Description = "Keep what is published in this folder, and use what is there already", HelpName = "DIR" };
        Suite.RequirePositive(rounds, requests);
        return Suite.Create("warm", "One prediction through the Runtime API beside the same through Kestrel.", [rounds, requests, published],
            (parsed, report) => RunAsync(parsed.GetValue(rounds), parsed.GetValue(requests), parsed.GetValue(published), report).GetAwaiter().GetResult());
    }

    private static async Task RunAsync(int rounds, int requests, string? published, Report report)
    {
        await using var moto = new MotoServer();
        var deployment = await Deployment.MakeAsync(moto);
        using var scratch = new ScratchFolder();
        var folder = published is null ? scratch.Path : Path.GetFullPath(published);
        report.Text("# warm\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {Environment.ProcessorCount} cores, nothing pinned");
        report.Text($"- {Deployment.Model}, one image as JSON, one request after the other; {rounds} rounds of {requests}, ways by turns; medians over the rounds");
        var rows = new List<string[]>();
        foreach (var kind in new[] { Published.Aot, Published.Jit10 })
        {
            await kind.MakeAsync(folder);
            await using var lambda = await LambdaWay.StartAsync(kind, folder, deployment);
            await using var kestrel = await KestrelWay.StartAsync(kind, folder, deployment);
            (Way Way, List<Measured> Results)[] ways = [(lambda, []), (kestrel, [])];
            for (var round = 0; round <= rounds; round++)
            {
                Console.Error.WriteLine($"... {kind.Name}, round {round} of {rounds}");
                foreach (var (way, results) in ways)
                {
                    var measured = await MeasureAsync(way, round == 0 ? Unmeasured : requests);
                    if (round > 0) results.Add(measured);
                }
            }
            foreach (var (way, results) in ways)
            {
                rows.Add([kind.Name, kind.Framework, way.Name, Report.Number(Suite.Median(results.Select(result => result.P50)), "0"), Report.Number(Suite.Median(results.Select(result => result.P99)), "0"),
                    Report.Number(Suite.Median(results.Select(result => result.Between)), "0")]);
            }
            var ratio = Suite.Median(ways[0].Results.Zip(ways[1].Results, (through, beside) => through.P50 / beside.P50));
            report.Add($"{kind.Name} {kind.Framework}: Runtime API / Kestrel, median round trip", ratio, "ratio", Goal.AtMost(1.5));
        }
        report.Heading("Round trip of a prediction");
        report.Table(3, ["what", "framework", "through", "p50, µs", "p99, µs", "until it asks again, µs"], rows);
    }

    private static async Task<Measured> MeasureAsync(Way way, int requests)
    {
        var times = new double[requests];
        var between = new double[requests];
        for (var i = 0; i < requests; i++)
        {
            var before = Stopwatch.GetTimestamp();
            await way.IdleAsync();
            var started = Stopwatch.GetTimestamp();
            await way.PredictAsync(verify: i == 0);
            times[i] = Stopwatch.GetElapsedTime(started).TotalMicroseconds;
            between[i] = Stopwatch.GetElapsedTime(before, started).TotalMicroseconds;
        }
        Array.Sort(times);
        Array.Sort(between);
        return new Measured(times[requests / 2], times[requests * 99 / 100], between[requests / 2]);
    }

    private readonly record struct Measured(double P50, double P99, double Between);

    /// <summary>A process, and how it is asked.</summary>
    private abstract class Way(string name, Process process) : IAsyncDisposable
    {
        public string Name => name;

        /// <summary>Done when the process waits for a request.</summary>
        public virtual Task IdleAsync() => Task.CompletedTask;

        public abstract Task PredictAsync(bool verify);

        public virtual async ValueTask DisposeAsync()
        {
            process.Kill();
            await process.WaitForExitAsync();
            process.Dispose();
        }

        protected static Process Run(Published kind, string folder, Deployment deployment, params (string Name, string Value)[] environment)
        {
            var program = kind.ProgramIn(folder);
            var info = new ProcessStartInfo(program) { WorkingDirectory = Path.GetDirectoryName(program) };
            foreach (var (variable, value) in deployment.Settings.Concat(environment)) info.Environment[variable] = value;
            return Process.Start(info)!;
        }
    }

    private sealed class LambdaWay(Process process, LambdaRuntimeApi api, Published kind, Deployment deployment) : Way("Runtime API", process)
    {
        public static async Task<LambdaWay> StartAsync(Published kind, string folder, Deployment deployment)
        {
            var api = await LambdaRuntimeApi.StartAsync();
            return new LambdaWay(Run(kind, folder, deployment, ("AWS_LAMBDA_RUNTIME_API", api.Address)), api, kind, deployment);
        }

        public override Task IdleAsync() => api.AskedAsync();

        public override async Task PredictAsync(bool verify)
        {
            var report = await api.InvokeAsync(deployment.Event);
            if (verify) deployment.Verify(kind.Name, report);
        }

        public override async ValueTask DisposeAsync()
        {
            await base.DisposeAsync();
            await api.DisposeAsync();
        }
    }

    private sealed class KestrelWay(Process process, HttpClient client, Published kind, Deployment deployment) : Way("Kestrel", process)
    {
        public static async Task<KestrelWay> StartAsync(Published kind, string folder, Deployment deployment)
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            var address = $"http://127.0.0.1:{((IPEndPoint)socket.LocalEndPoint!).Port}";
            socket.Close();
            var process = Run(kind, folder, deployment, ("ASPNETCORE_URLS", address));
            var client = new HttpClient { BaseAddress = new Uri(address) };
            client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", deployment.Key);
            await Eventually.HoldsAsync($"{kind.Name} listens", async () =>
            {
                try
                {
                    return (await client.GetAsync("/healthz")).IsSuccessStatusCode;
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            });
            return new KestrelWay(process, client, kind, deployment);
        }

        public override async Task PredictAsync(bool verify)
        {
            using var content = new ByteArrayContent(deployment.Body) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
            using var response = await client.PostAsync(Deployment.Route, content);
            var answer = await response.Content.ReadAsByteArrayAsync();
            if (!response.IsSuccessStatusCode) throw new BenchmarkException($"{kind.Name} answered {(int)response.StatusCode}");
            if (verify) deployment.Verify(kind.Name, answer);
        }

        public override async ValueTask DisposeAsync()
        {
            client.Dispose();
            await base.DisposeAsync();
        }
    }
}
