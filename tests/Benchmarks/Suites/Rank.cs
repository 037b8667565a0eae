using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Serving.Json;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// Actions ranked by features from JSON, rewarded by a click or nothing: readers of four kinds at three times of day, six articles, of which one pays for each pair. Uniform choice earns .217 a round, the best .8. In process: hashing, scoring,
/// choosing and learning, as the server does them.
/// </summary>
internal static class Rank
{
    private const int Kinds = 4, Times = 3, Articles = 6;
    private const double Uniform = (0.8 + (Articles - 1) * 0.1) / Articles, Best = 0.8;

    public static Command Command()
    {
        var seeds = new Option<int>("--seeds") { Description = "Runs of each row", HelpName = "N", DefaultValueFactory = _ => 20 };
        var rounds = new Option<int>("--rounds") { Description = "Rounds of each run", HelpName = "N", DefaultValueFactory = _ => 3000 };
        Suite.RequirePositive(seeds, rounds);
        return Suite.Create("rank", "Mean reward of ranking by features as it learns, beside uniform choice, and the time that it takes.", [seeds, rounds], (parsed, report) =>
        {
            var (runs, length) = (parsed.GetValue(seeds), parsed.GetValue(rounds));
            report.Text("# rank\n");
            report.Text(string.Create(CultureInfo.InvariantCulture, $"- {runs} seeds, {length} rounds; uniform choice earns {Uniform:0.000} a round, the best {Best:0.000}"));
            WriteRewards(report, runs, length);
            WriteTimes(report);
        });
    }

    private static void WriteRewards(Report report, int runs, int length)
    {
        report.Heading("Mean reward a round");
        (string Name, Exploration Policy, int Shards, double Prior)[] rows =
        [
            ("epsilon_greedy ε = .2 (as shipped)", new() { Kind = ExplorationKind.EpsilonGreedy, Epsilon = 0.2 }, 4, 0.1),
            ("epsilon_greedy ε = .1", new() { Kind = ExplorationKind.EpsilonGreedy, Epsilon = 0.1 }, 4, 0.1),
            ("lin_ucb", new() { Kind = ExplorationKind.LinUcb }, 4, 0.1),
            ("thompson", new() { Kind = ExplorationKind.Thompson }, 4, 0.1),
            ("lin_ucb, one shard", new() { Kind = ExplorationKind.LinUcb }, 1, 0.1),
            ("lin_ucb, prior strength 1", new() { Kind = ExplorationKind.LinUcb }, 4, 1),
            ("lin_ucb, prior strength 4", new() { Kind = ExplorationKind.LinUcb }, 4, 4),
        ];
        int[] until = [length / 10, length / 3, length];
        report.Table(1, ["policy", .. until.Select((end, i) => $"rounds {(i == 0 ? 0 : until[i - 1])} to {end}"), "last ÷ uniform"], rows.Select(row =>
        {
            var earned = Enumerable.Range(0, runs).AsParallel().Select(seed => Run(row.Policy, row.Shards, row.Prior, seed, until)).ToArray();
            var means = until.Select((_, i) => earned.Average(run => run[i])).ToArray();
            report.Add($"rank/{row.Name}/mean reward ÷ uniform at the end", means[^1] / Uniform, "ratio", Goal.AtLeast(2));
            return (string[])[row.Name, .. means.Select(mean => Report.Number(mean, "0.000")), Report.Number(means[^1] / Uniform, "0.00")];
        }));
    }

    private static double[] Run(Exploration policy, int shards, double prior, int seed, int[] until)
    {
        var space = new FeatureSpace(14, [("context", "action")], true, prior);
        var models = Enumerable.Range(0, shards).Select(_ => RankModel.ReadOrStart(null, space, prior)).ToArray();
        var view = new RankView(models);
        var random = new Random(seed);
        // The features depend on nothing else: hashed once.
        var features = Enumerable.Range(0, Kinds * Times).Select(place => Candidates(space, place / Times, place % Times)).ToArray();
        var (means, factor, propensities) = (new float[Articles], new double[Articles * Articles], new double[Articles]);
        var earned = new double[until.Length];
        for (int n = 0, part = 0; n < until[^1]; n++)
        {
            if (n == until[part]) part++;
            var (kind, time) = (random.Next(Kinds), random.Next(Times));
            var candidates = features[kind * Times + time];
            view.Score(candidates, means, factor);
            Cholesky.FactorSemidefinite(factor, Articles);
            var chosen = policy.Choose(means, factor, (ulong)random.NextInt64(), propensities);
            var chance = chosen == (time == 0 ? kind : (kind + time + 1) % Articles) ? Best : 0.1;
            models[n % shards].Reward(candidates[chosen], random.NextDouble() < chance ? 1 : 0);
            earned[part] += chance / (until[part] - (part == 0 ? 0 : until[part - 1]));
        }
        return earned;
    }

    private static void WriteTimes(Report report)
    {
        report.Heading("Time");
        var space = new FeatureSpace(14, [("context", "action")], true, 0.1);
        var view = new RankView([.. Enumerable.Range(0, 4).Select(_ => RankModel.ReadOrStart(null, space, 0.1))]);
        var policy = new Exploration { Kind = ExplorationKind.LinUcb };
        var context = Read("""{"user":{"kind":"k1","age":0.3,"city":"c7"},"time":"morning","device":{"os":"linux","width":0.4}}""");
        var actions = Enumerable.Range(0, 50).Select(i => Read($$"""{"topic":"t{{i}}","length":0.{{i}},"source":{"name":"s{{i % 7}}"} }""")).ToArray();
        var (means, factor, propensities) = (new float[50], new double[50 * 50], new double[50]);
        report.Table(1, ["step", "µs"],
        [
            ["rank 50 actions: cross, score, choose", Report.Number(Micros(50, () =>
            {
                List<SparseVector> candidates = [.. actions.Select(action => space.Combine(context, action))];
                view.Score(candidates, means, factor);
                Cholesky.FactorSemidefinite(factor, 50);
                policy.Choose(means, factor, 7, propensities);
            }), "0.0")],
            ["learn one reward", Report.Number(Micros(5000, () => view.Shards[0].Reward(space.Combine(context, actions[3]), 1)), "0.0")],
        ]);
    }

    /// <summary>The least of five means.</summary>
    private static double Micros(int count, Action action)
    {
        var least = double.MaxValue;
        for (var repeat = 0; repeat < 5; repeat++)
        {
            var started = Stopwatch.GetTimestamp();
            for (var i = 0; i < count; i++) action();
            least = Math.Min(least, Stopwatch.GetElapsedTime(started).TotalMicroseconds / count);
        }
        return least;
    }

    private static List<SparseVector> Candidates(FeatureSpace space, int kind, int time)
    {
        var context = Read($$"""{"reader":{"kind":"k{{kind}}"},"time":"{{time}}","both":"{{kind}} {{time}}"}""");
        return [.. Enumerable.Range(0, Articles).Select(i => space.Combine(context, Read($$"""{"id":"{{i}}","article":{"topic":"t{{i}}"} }""")))];
    }

    private static IReadOnlyCollection<FeatureGroup> Read(string json)
    {
        var reader = new FeatureReader();
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        reader.Read(ref cursor, "features");
        return reader.Groups;
    }
}
