using System.Collections.Concurrent;
using System.CommandLine;
using System.Diagnostics;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Skiff.Planning.Simulation;
using Skiff.Routing;
using Skiff.Selection;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// The simulator: ten million requests over ten thousand instances, and its word against a real run. That one has eight replicas on sockets of their own, each with a cache of users and so many requests at once, which take a seeded
/// time; the real router and client send them requests at the simulated moments.
/// </summary>
internal static class Simulate
{
    private const int Replicas = 8;

    public static Command Command()
    {
        var requests = new Option<long>("--requests") { Description = "Of the large run", HelpName = "N", DefaultValueFactory = _ => 10_000_000 };
        var instances = new Option<int>("--instances") { Description = "Of the large run", HelpName = "N", DefaultValueFactory = _ => 10_000 };
        var seconds = new Option<double>("--seconds") { Description = "Of each real run: in 20, the p99 of one seed and the next can be twice each other", HelpName = "S", DefaultValueFactory = _ => 60 };
        Suite.RequirePositive(requests, instances, seconds);
        return Suite.Create("simulate", "The simulator at size, and against eight real replicas behind the real router.", [requests, instances, seconds], (parsed, report) =>
        {
            report.Text("# simulate");
            WriteAgainstReal(report, parsed.GetValue(seconds));
            WriteAtSize(report, parsed.GetValue(requests), parsed.GetValue(instances));
        });
    }

    private static void WriteAtSize(Report report, long requests, int instances)
    {
        report.Heading($"{requests:N0} requests over {instances:N0} instances");
        var arrivals = new GeneratedArrivals(requests, 40 * instances, 100 * instances, 0.8, 20, 1, 0.5, 3600, 1);
        var rows = new List<string[]>();
        foreach (var placement in new[] { Placement.Bounded })
        {
            Suite.Progress($"{placement}");
            var started = Stopwatch.GetTimestamp();
            var result = Simulator.Run(new SimulationOptions
            {
                Front = new TierOptions { Instances = instances, Placement = placement, Service = 0.01, Miss = 0.005, CachedUsers = 50, LoadedModels = 20, Load = 0.05, ColdStart = 0.3, KeepAlive = 300 },
            }, arrivals, null, CancellationToken.None);
            var took = Stopwatch.GetElapsedTime(started).TotalSeconds;
            rows.Add([$"{placement}", Report.Number(took, "0.0"), Report.Number(1e6 * took / requests, "0.00"), Report.Number(result.Front.HitRate, "0.000"), Report.Number(1000 * result.P99, "0.0"), Report.Number(result.Front.MaxOverMean, "0.00")]);
            report.Add($"simulate/{placement}/{requests} requests over {instances} instances", took, "s", Goal.AtMost(120));
        }
        report.Table(1, ["policy", "s", "µs a request", "hit rate", "p99 ms", "max/mean load"], rows);
    }

    private static void WriteAgainstReal(Report report, double seconds)
    {
        report.Heading("Against eight real replicas");
        var rows = new List<string[]>();
        foreach (var (name, rate, slack) in new[] { ("half busy", 260.0, 0.2), ("half busy, no bound", 260.0, double.PositiveInfinity), ("busier", 380.0, 0.2) })
        {
            Suite.Progress(name);
            var arrivals = new GeneratedArrivals((long)(rate * seconds), rate, 2000, 1, 1, 1, 0, 86_400, 7);
            var tier = new TierOptions
            {
                Instances = Replicas, Concurrency = 2, Service = 0.02, Miss = 0.02, CachedUsers = 125, Slack = slack, Placement = double.IsInfinity(slack) ? Placement.Hash : Placement.Bounded,
            };
            var (real, addresses) = RealAsync(tier, arrivals).GetAwaiter().GetResult();
            var runs = Enumerable.Range(1, 5).Select(seed => Simulator.Run(new SimulationOptions { Front = tier with { Addresses = addresses }, Seed = (ulong)seed }, arrivals, null, CancellationToken.None)).ToArray();
            var (hits, p50, p99) = (runs.Average(run => run.Front.HitRate), 1000 * runs.Average(run => run.P50), 1000 * runs.Average(run => run.P99));
            var (pointsOff, shareOff) = (100 * Math.Abs(hits - real.Hits), 100 * Math.Abs(p99 / real.P99 - 1));
            rows.Add([name, Report.Number(real.Hits, "0.000"), Report.Number(hits, "0.000"), Report.Number(real.P50, "0.0"), Report.Number(p50, "0.0"), Report.Number(real.P99, "0.0"), Report.Number(p99, "0.0"), $"{Report.Number(1000 * runs.Min(run => run.P99), "0.0")} to {Report.Number(1000 * runs.Max(run => run.P99), "0.0")}", Report.Number(real.Lag, "0.0")]);
            report.Add($"simulate/{name}/hit rate off by", pointsOff, "points", Goal.AtMost(3));
            report.Add($"simulate/{name}/p99 off by", shareOff, "%", Goal.AtMost(20));
        }
        report.Table(1, ["run", "hit rate, real", "simulated", "p50 ms, real", "simulated", "p99 ms, real", "simulated", "by five seeds", "sent late by at most, ms"], rows);
    }

    private static async Task<(Figures Figures, IReadOnlyList<Uri> Addresses)> RealAsync(TierOptions tier, GeneratedArrivals arrivals)
    {
        var replicas = await Task.WhenAll(Enumerable.Range(0, Replicas).Select(index => RealReplica.StartAsync(tier, (ulong)index + 1)));
        try
        {
            var router = new Router(new RouterOptions { Slack = tier.Slack, PrefersWarm = false, HedgeQuantile = 1, Attempts = 1 }, TimeProvider.System);
            router.Replace(replicas.Select(replica => replica.Address));
            using var http = new HttpMessageInvoker(ReplicaClient.Handler(TimeSpan.FromSeconds(30)));
            var client = new ReplicaClient(router, http, null, TimeProvider.System);
            ulong[] keys = [.. Enumerable.Range(0, arrivals.Users).Select(user => RouteKey.OfUser(Tier.Tenant, Tier.App, arrivals.UserName(user)))];
            for (var i = 0; i < 200; i++) await AskAsync(client, keys[0], -1); // connections and code, not caches

            var uncounted = arrivals.Count / 10;
            var (times, hits, asked, lag) = (new ConcurrentBag<double>(), 0, new List<Task>(), 0.0);
            var (began, number) = (Stopwatch.GetTimestamp(), 0);
            foreach (var arrival in arrivals.Read())
            {
                while (Stopwatch.GetElapsedTime(began).TotalSeconds < arrival.Time) await Task.Delay(1);
                lag = Math.Max(lag, Stopwatch.GetElapsedTime(began).TotalSeconds - arrival.Time);
                var counts = number++ >= uncounted;
                asked.Add(Task.Run(async () =>
                {
                    var started = Stopwatch.GetTimestamp();
                    var hit = await AskAsync(client, keys[arrival.User], arrival.User);
                    if (!counts) return;
                    times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
                    if (hit) Interlocked.Increment(ref hits);
                }));
            }
            await Task.WhenAll(asked);
            double[] sorted = [.. times.Order()];
            return (new Figures((double)hits / sorted.Length, sorted[sorted.Length / 2], sorted[(int)(0.99 * sorted.Length)], 1000 * lag), [.. replicas.Select(replica => replica.Address)]);
        }
        finally
        {
            foreach (var replica in replicas) await replica.DisposeAsync();
        }
    }

    private static async Task<bool> AskAsync(ReplicaClient client, ulong key, int user)
    {
        using var reply = await client.SendAsync(new ForwardedRequest { Method = HttpMethod.Get, Target = $"/{user}", Key = key, IsSafe = true }, CancellationToken.None);
        var body = await reply.Response.Content.ReadAsStringAsync();
        if (reply.Response.StatusCode != HttpStatusCode.OK) throw new BenchmarkException($"a replica answered {(int)reply.Response.StatusCode}: {body}");
        return body == "hit";
    }

    private sealed record Figures(double Hits, double P50, double P99, double Lag);

    /// <summary>A server that takes its time, and less for users that it knows.</summary>
    private sealed class RealReplica : IAsyncDisposable
    {
        private readonly WebApplication _web;
        private readonly SemaphoreSlim _workers;
        private readonly LruSet _users;
        private readonly TierOptions _tier;
        private SeededRandom _random;

        private RealReplica(WebApplication web, TierOptions tier, ulong seed) => (_web, _tier, _workers, _users, _random) = (web, tier, new SemaphoreSlim(tier.Concurrency), new LruSet(tier.CachedUsers), new SeededRandom(seed));

        public Uri Address => new(_web.Urls.First());

        public static async Task<RealReplica> StartAsync(TierOptions tier, ulong seed)
        {
            var builder = WebApplication.CreateSlimBuilder();
            builder.WebHost.UseUrls("http://127.0.0.1:0");
            builder.Logging.ClearProviders();
            var replica = new RealReplica(builder.Build(), tier, seed);
            replica._web.Run(replica.AnswerAsync);
            await replica._web.StartAsync();
            return replica;
        }

        public ValueTask DisposeAsync() => _web.DisposeAsync();

        private async Task AnswerAsync(HttpContext http)
        {
            var user = int.Parse(http.Request.Path.Value.AsSpan(1), System.Globalization.CultureInfo.InvariantCulture);
            if (user < 0)
            {
                await http.Response.WriteAsync("");
                return;
            }
            await _workers.WaitAsync();
            try
            {
                bool hit;
                double time;
                lock (_users)
                {
                    hit = _users.Touch(user);
                    time = -Math.Log(1 - _random.NextDouble()) * _tier.Service + (hit ? 0 : _tier.Miss);
                }
                await Task.Delay(TimeSpan.FromSeconds(time));
                await http.Response.WriteAsync(hit ? "hit" : "miss");
            }
            finally
            {
                _workers.Release();
            }
        }
    }
}
