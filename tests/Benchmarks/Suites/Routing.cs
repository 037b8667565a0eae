using System.CommandLine;
using System.Diagnostics;
using Skiff.Planning.Simulation;
using Skiff.Routing;
using Skiff.Selection;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// The router's choices in process: how often a user's state is where the request lands and how evenly the work is spread, beside random choice and plain hashing; how many owners a change of the set moves;
/// what a choice costs.
/// </summary>
internal static class Routing
{
    private const int Users = 10_000, Replicas = 8, Cached = Users / 16, Requests = 400_000, Placements = 10;

    public static Command Command() => Suite.Create("routing", "Hit rate and load of routed users, owners moved by a change, and what a choice costs.", [], (_, report) =>
    {
        report.Text("# routing\n");
        report.Text($"- {Users:N0} users by Zipf's law (exponent 1), {Replicas} replicas that keep {Cached} users each, least recently used out first; {Requests:N0} requests, the first quarter not counted");
        report.Text($"- means over {Placements} sets of addresses, which is what a hash is lucky or not by; of the load also the worst");
        WriteLocality(report);
        WriteMoves(report);
        WriteCost(report);
    });

    private static void WriteLocality(Report report)
    {
        report.Heading("Hit rate and load");
        var rows = new List<string[]>();
        foreach (var (name, slack) in new (string, double?)[] { ("random", null), ("hash, no bound", double.PositiveInfinity), ("router, ε 0.1", 0.1), ("router, ε 0.2 (default)", 0.2), ("router, ε 0.4", 0.4) })
        {
            Suite.Progress(name);
            var played = Enumerable.Range(0, Placements).Select(seed => Play(slack, seed)).ToArray();
            var (hits, load, worst) = (played.Average(run => run.Hits), played.Average(run => run.Load), played.Max(run => run.Load));
            rows.Add([name, Report.Number(hits, "0.000"), Report.Number(load, "0.00"), Report.Number(worst, "0.00")]);
            var isDefault = slack == new RouterOptions().Slack;
            report.Add($"routing/{name}/hit rate", hits, "share", isDefault ? Goal.AtLeast(0.84) : null);
            report.Add($"routing/{name}/worst max/mean load", worst, "ratio", isDefault ? Goal.AtMost(1.25) : null);
        }
        // As many of the most frequent users as all caches together hold, each in one place.
        double Harmonic(int n) => Enumerable.Range(1, n).Sum(i => 1.0 / i);
        rows.Add(["best placement there is", Report.Number(Harmonic(Replicas * Cached) / Harmonic(Users), "0.000"), "", ""]);
        report.Table(1, ["choice", "hit rate", "max/mean load", "worst"], rows);
    }

    private static (double Hits, double Load) Play(double? slack, int seed)
    {
        var router = new Router(new RouterOptions { Slack = slack ?? 1 }, TimeProvider.System);
        router.Replace(Enumerable.Range(0, Replicas).Select(i => new Uri($"http://10.{seed}.0.{i + 1}:8080")));
        var index = new Dictionary<Replica, int>();
        foreach (var replica in router.Replicas.Replicas) index.Add(replica, index.Count);
        LruSet[] caches = [.. Enumerable.Range(0, Replicas).Select(_ => new LruSet(Cached))];
        ulong[] keys = [.. Enumerable.Range(0, Users).Select(user => RouteKey.OfUser("default", "films", $"u{user}"))];
        var (users, random, served, hits, counted) = (new Zipf(Users, 1), new SeededRandom((ulong)seed), new int[Replicas], 0, 0);
        for (var i = 0; i < Requests; i++)
        {
            var user = users.Next(ref random);
            int at;
            if (slack is null)
            {
                at = (int)(random.NextDouble() * Replicas);
            }
            else
            {
                if (!router.TryTake(keys[user], 0, null, out var lease)) throw new BenchmarkException("the router had nobody to ask");
                lease.End(Outcome.Answered);
                at = index[lease.Replica];
            }
            var hit = caches[at].Touch(user);
            if (i < Requests / 4) continue;
            counted++;
            served[at]++;
            if (hit) hits++;
        }
        return ((double)hits / counted, served.Max() / served.Average());
    }

    private static void WriteMoves(Report report)
    {
        report.Heading("Owners that one replica more or less moves, of all slots × N");
        var rows = new List<string[]>();
        foreach (var count in new[] { 8, 64, 65, 1000, 10_000 })
        {
            var options = new RouterOptions();
            var before = ReplicaSet.Of(Enumerable.Range(0, count).Select(Address), options);
            var started = Stopwatch.GetTimestamp();
            var more = ReplicaSet.Of(Enumerable.Range(0, count + 1).Select(Address), options, before);
            var took = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            var less = ReplicaSet.Of(Enumerable.Range(0, count - 1).Select(Address), options, before);
            var (added, removed) = (Moved(before, more) * count, Moved(before, less) * count);
            rows.Add([$"{count:N0}", Report.Number(added, "0.000"), Report.Number(removed, "0.000"), Report.Number(took, "0.0")]);
            foreach (var (what, moved) in new[] { ("added", added), ("removed", removed) }) report.Add($"routing/{count} replicas/{what}: owners moved × N", moved, "ratio", count <= 1000 ? Goal.AtMost(1.1) : null);
        }
        report.Table(1, ["N", "one more", "one less", "ms to build the set"], rows);
        report.Text("\nWith 10,000 replicas each owns about a hundred slots of 2²⁰, so that its share is a tenth off one way or the other.");
    }

    private static Uri Address(int i) => new($"http://10.0.{i / 256}.{i % 256}:8080");

    private static double Moved(ReplicaSet before, ReplicaSet after)
    {
        var moved = 0;
        for (uint slot = 0; slot < SlotOrder.Slots; slot++)
        {
            if (before.Replicas[before.Owner(slot)] != after.Replicas[after.Owner(slot)]) moved++;
        }
        return (double)moved / SlotOrder.Slots;
    }

    private static void WriteCost(Report report)
    {
        report.Heading("A choice, with the request given and ended");
        var rows = new List<string[]>();
        foreach (var count in new[] { 8, 64, 65, 1000, 10_000 })
        {
            var router = new Router(new RouterOptions(), TimeProvider.System);
            router.Replace(Enumerable.Range(0, count).Select(Address));
            const int times = 100_000;
            Run(router, times);
            var rounds = new List<double>();
            long bytes = 0;
            for (var round = 0; round < 15; round++)
            {
                var allocated = GC.GetAllocatedBytesForCurrentThread();
                var started = Stopwatch.GetTimestamp();
                Run(router, times);
                var took = Stopwatch.GetElapsedTime(started);
                bytes = Math.Max(bytes, GC.GetAllocatedBytesForCurrentThread() - allocated);
                rounds.Add(took.TotalNanoseconds / times);
            }
            rows.Add([$"{count:N0}", Report.Number(Suite.Median(rounds), "0"), Report.Number(rounds.Min(), "0"), Report.Number((double)bytes / times, "0.###")]);
            report.Add($"routing/{count} replicas/choice", Suite.Median(rounds) / 1000, "µs", count == 64 ? Goal.AtMost(1) : null);
            report.Add($"routing/{count} replicas/bytes", bytes, "bytes", count == 64 ? Goal.AtMost(0) : null);
        }
        report.Table(1, ["replicas", "ns (median of 15 rounds)", "ns (least)", "bytes"], rows);
    }

    private static void Run(Router router, int times)
    {
        for (var i = 0; i < times; i++)
        {
            router.TryTake((ulong)i, 77, null, out var lease);
            lease.End(Outcome.Answered);
        }
    }
}
