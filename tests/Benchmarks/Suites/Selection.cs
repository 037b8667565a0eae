using System.CommandLine;
using Skiff.Selection;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// How many errors policies make over five models of which the best one breaks, beside an oracle that knows each model's error rate at each query. Models err independently; Exp4 sees every model's
/// loss and answers with one model drawn by its weights, the others see the loss of the model they drew.
/// </summary>
internal static class Selection
{
    // Of the five models in Clipper's experiment (Crankshaw et al. 2017, figure 8).
    private static readonly double[] ErrorRates = [0.46, 0.346, 0.2425, 0.168, 0.0915];

    /// <summary>What the goals are set on: it answers worse than any other from query 1,000 on.</summary>
    private static readonly Pattern Break = new("best breaks to .7 at 1,000 of 3,000", 3000, (t, rates) => rates[4] = t < 1000 ? rates[4] : 0.7);

    private static readonly Pattern[] Others =
    [
        new("to .5 instead", 3000, (t, rates) => rates[4] = t < 1000 ? rates[4] : 0.5),
        new("to .9 instead", 3000, (t, rates) => rates[4] = t < 1000 ? rates[4] : 0.9),
        new("nothing breaks", 3000, (_, _) => { }),
        new("mended at 2,000", 3000, (t, rates) => rates[4] = t is < 1000 or >= 2000 ? rates[4] : 0.7),
        new("all drift: the order turns round at 1,500", 3000, (t, rates) =>
        {
            if (t >= 1500) rates.Reverse();
        }),
        new("breaks to .7 at 15,000 of 20,000", 20000, (t, rates) => rates[4] = t < 15000 ? rates[4] : 0.7),
    ];

    private static readonly Contestant[] Contestants =
    [
        new("Exp4, fixed share", new Exp4()),
        new("Exp4 without share (Hedge)", new Exp4 { Share = 0 }),
        new("Exp3", new Exp3()),
        new("Thompson", new ThompsonSampling()),
        new("ε-greedy", new EpsilonGreedy()),
    ];

    public static Command Command()
    {
        var seeds = new Option<int>("--seeds") { Description = "Runs of each policy and pattern", HelpName = "N", DefaultValueFactory = _ => 50 };
        var sweep = new Option<bool>("--sweep") { Description = "Instead, how the policies' constants do, on other seeds: what their defaults were chosen by" };
        Suite.RequirePositive(seeds);
        return Suite.Create("selection", "Errors of selection policies when the best of five models breaks, beside an oracle's.", [seeds, sweep], (parsed, report) =>
        {
            report.Text("# selection\n");
            report.Text($"- five models with error rates {string.Join(", ", ErrorRates.Select(rate => Report.Number(rate, "0.####")))}; errors are drawn independently");
            if (parsed.GetValue(sweep)) WriteSweep(report, parsed.GetValue(seeds));
            else Write(report, parsed.GetValue(seeds));
        });
    }

    private static void Write(Report report, int seeds)
    {
        report.Text($"- {seeds} seeds; each policy with its default constants; intervals are 95% over seeds, of the errors divided by the oracle's in the same run");
        report.Heading(Break.Name);
        var outcomes = Contestants.Select(contestant => (contestant.Name, Outcome: Play(contestant.Policy, Break, 1, seeds))).ToList();
        outcomes.Add(("always the best at first", Play(null, Break, 1, seeds)));
        report.Table(1, ["policy", "errors a run", "× oracle", "95% interval"], outcomes
            .Select(row => new[] { row.Name, Report.Number(row.Outcome.Errors, "0.0"), Report.Number(row.Outcome.Ratio, "0.000"), Interval(row.Outcome) })
            .Prepend(["oracle that switches", Report.Number(outcomes[0].Outcome.OracleErrors, "0.0"), "1", ""]));
        foreach (var (name, outcome) in outcomes)
        {
            Goal? goal = name == Contestants[0].Name ? Goal.AtMost(1.15) : name == "Exp3" ? Goal.AtMost(1.40) : null;
            report.Add($"selection/{name}/ratio", outcome.Ratio, "ratio", goal);
            report.Add($"selection/{name}/errors", outcome.Errors, "errors");
        }

        report.Heading("The same constants under other patterns, × oracle");
        report.Table(1, ["pattern", "oracle's errors", .. Contestants.Select(contestant => contestant.Name)], Others.Select(pattern =>
        {
            var row = Contestants.Select(contestant => Play(contestant.Policy, pattern, 1, seeds)).ToArray();
            for (var i = 0; i < row.Length; i++) report.Add($"selection/{pattern.Name}/{Contestants[i].Name}/ratio", row[i].Ratio, "ratio");
            return (string[])[pattern.Name, Report.Number(row[0].OracleErrors, "0.0"), .. row.Select(outcome => $"{Report.Number(outcome.Ratio, "0.000")} ± {Report.Number(outcome.HalfWidth, "0.000")}")];
        }));
    }

    /// <summary>Every pattern, so that a constant that suits one break alone shows. Thompson with fewer draws, for time.</summary>
    private static void WriteSweep(Report report, int seeds)
    {
        Pattern[] patterns = [Break, .. Others];
        var grid =
            (from rate in new[] { 0.5, 1, 2 } from share in new[] { 0, 1e-4, 3e-4, 1e-3, 3e-3 } select new Contestant($"Exp4 η {rate} α {share}", new Exp4 { LearningRate = rate, Share = share }))
            .Concat(from rate in new[] { 0.05, 0.1, 0.2, 0.4 } from gamma in new[] { 0.01, 0.03, 0.06 } from share in new[] { 0, 1e-5, 1e-4 }
                    select new Contestant($"Exp3 η {rate} γ {gamma} α {share}", new Exp3 { LearningRate = rate, Exploration = gamma, Share = share }))
            .Concat(from epsilon in new[] { 0.02, 0.05, 0.1 } from step in new[] { 0, 0.02, 0.05, 0.1 }
                    select new Contestant($"ε-greedy ε {epsilon} step {step}", new EpsilonGreedy { Epsilon = epsilon, LeastStep = step }))
            .Concat(from discount in new[] { 1, 0.998, 0.995, 0.99, 0.98 } from floor in new[] { 0.01, 0.02, 0.05 }
                    select new Contestant($"Thompson discount {discount} floor {floor}", new ThompsonSampling { Discount = discount, Floor = floor, Draws = 16 }));
        report.Heading("Errors × oracle");
        report.Table(1, ["policy", .. patterns.Select(pattern => pattern.Name), "worst"], grid.Select(contestant =>
        {
            var row = patterns.Select(pattern => Play(contestant.Policy, pattern, 1_000_001, seeds).Ratio).ToArray();
            return (string[])[contestant.Name, .. row.Append(row.Max()).Select(ratio => Report.Number(ratio, "0.000"))];
        }));
    }

    /// <param name="policy">Null for none: the model that is best at first, throughout.</param>
    private static Outcome Play(Policy? policy, Pattern pattern, int firstSeed, int seeds)
    {
        var errors = new int[seeds];
        var oracles = new int[seeds];
        Parallel.For(0, seeds, run =>
        {
            var k = ErrorRates.Length;
            // The stream is the seed's alone: all policies meet the same errors.
            var stream = new SeededRandom((ulong)(firstSeed + run));
            var state = policy?.Start(k);
            Span<double> rates = stackalloc double[k], losses = stackalloc double[k], propensities = stackalloc double[k];
            for (var t = 0; t < pattern.Queries; t++)
            {
                ErrorRates.CopyTo(rates);
                pattern.Change(t, rates);
                var best = 0;
                for (var i = 0; i < k; i++)
                {
                    losses[i] = stream.NextDouble() < rates[i] ? 1 : 0;
                    if (rates[i] < rates[best]) best = i;
                }
                oracles[run] += (int)losses[best];

                var action = policy?.Choose(state!, (ulong)(firstSeed + run) << 32 | (uint)t, propensities) ?? k - 1;
                errors[run] += (int)losses[action];
                if (policy is Exp4 exp4) exp4.LearnAll(state!, losses);
                else policy?.Learn(state!, action, losses[action], propensities[action]);
            }
        });
        var ratios = errors.Zip(oracles, (error, oracle) => (double)error / oracle).ToArray();
        var mean = ratios.Average();
        var deviation = Math.Sqrt(ratios.Sum(ratio => (ratio - mean) * (ratio - mean)) / Math.Max(1, seeds - 1));
        return new Outcome(errors.Average(), oracles.Average(), mean, 1.96 * deviation / Math.Sqrt(seeds));
    }

    private static string Interval(Outcome outcome) => $"{Report.Number(outcome.Ratio - outcome.HalfWidth, "0.000")}–{Report.Number(outcome.Ratio + outcome.HalfWidth, "0.000")}";

    private sealed record Contestant(string Name, Policy Policy);

    private delegate void ChangeRates(int query, Span<double> rates);

    private sealed record Pattern(string Name, int Queries, ChangeRates Change);

    private sealed record Outcome(double Errors, double OracleErrors, double Ratio, double HalfWidth);
}
