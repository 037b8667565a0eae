using System.CommandLine;
using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// A user who changes: a speaker's labels 3 and 8, and 1 and 9, change places after 250. Error on clips that the head has not heard, 100 labels later, beside that of a head that forgets nothing; and what the same heads cost when
/// nothing changes.
/// </summary>
internal static class Drift
{
    private const int Before = 250, After = 100;
    private const double Noise = 0.05;

    private static readonly (string Name, HeadDocument Document)[] Heads =
    [
        ("forgets nothing", Speaker.Plain),
        ("γ = .99", Speaker.Plain with { Forgetting = 0.99 }),
        ("γ = .98", Speaker.Plain with { Forgetting = 0.98 }),
        ("detects changes", Speaker.Plain with { DetectChanges = true }),
        ("detects changes, guards on", Speaker.Plain with { DetectChanges = true, Guards = GuardDocument.Default }),
        ("as shipped", Speaker.Shipped),
    ];

    public static Command Command()
    {
        var seeds = new Option<int>("--seeds") { Description = "Orders of each speaker's clips", HelpName = "N", DefaultValueFactory = _ => 20 };
        var labels = new Option<int>("--labels") { Description = "Stationary labels of each speaker that false alarms are counted over, with and without noise", HelpName = "N", DefaultValueFactory = _ => 100_000 };
        Suite.RequirePositive(seeds, labels);
        return Suite.Create("drift", "Error after a user has changed, cost when none has, and false alarms.", [seeds, labels], (parsed, report) =>
        {
            var speakers = Speaker.LoadAll();
            report.Text("# drift\n");
            report.Text($"- {speakers.Length} speakers × {parsed.GetValue(seeds)} orders of their {Speaker.Clips} clips: {Before} labels, {After} after the change, the rest measure");
            WriteErrors(report, speakers, parsed.GetValue(seeds));
            WriteAlarms(report, speakers, parsed.GetValue(labels));
        });
    }

    private static void WriteErrors(Report report, Speaker[] speakers, int seeds)
    {
        report.Heading("Error");
        var rows = Heads.Select(head =>
        {
            var changed = Measure(speakers, head.Document, seeds, true);
            var same = Measure(speakers, head.Document, seeds, false);
            return (head.Name, Changed: changed, Same: same);
        }).ToArray();
        report.Table(1, ["head", "after the change", "÷ forgets nothing", "nothing changed", "points more", "changes seen, of all", "labels until seen, median"], rows.Select(row => new[]
        {
            row.Name, Report.Number(row.Changed.Error, "0.0000"), Report.Number(row.Changed.Error / rows[0].Changed.Error, "0.000"), Report.Number(row.Same.Error, "0.0000"),
            Report.Number(100 * (row.Same.Error - rows[0].Same.Error), "0.00"), Report.Number(row.Changed.Seen, "0%"), Report.Number(row.Changed.Delay, "0"),
        }));
        foreach (var row in rows.Skip(1))
        {
            var isDetector = row.Name == "detects changes";
            report.Add($"drift/{row.Name}/error ÷ forgets nothing", row.Changed.Error / rows[0].Changed.Error, "ratio", isDetector || row.Name == "as shipped" ? Goal.AtMost(0.3) : null);
            report.Add($"drift/{row.Name}/cost when nothing changes", 100 * (row.Same.Error - rows[0].Same.Error), "points", isDetector || row.Name == "as shipped" ? Goal.AtMost(1) : null);
        }
    }

    private static void WriteAlarms(Report report, Speaker[] speakers, int labels)
    {
        report.Heading("False alarms");
        report.Text("Clips drawn with replacement, so the source is stationary however long; with noise, that part of the labels is drawn at random. The bound is the 95% one of a Poisson count.\n");
        report.Table(1, ["labels", "seen", "alarms", "per 10⁴", "at most"], new[] { 0, Noise, 4 * Noise }.Select(noise =>
        {
            var alarms = 0;
            Parallel.ForEach(speakers, speaker =>
            {
                var learning = new LearningHead(speaker.Open(Speaker.Plain with { DetectChanges = true }), null);
                var random = new Random(7);
                for (var t = 0; t < labels; t++)
                {
                    var clip = random.Next(Speaker.Clips);
                    speaker.Learn(learning, clip, random.NextDouble() < noise ? random.Next(Speaker.Classes) : speaker.Labels[clip]);
                }
                Interlocked.Add(ref alarms, learning.Memory.Reopened);
            });
            var seen = labels * speakers.Length;
            var rate = 1e4 * alarms / seen;
            var name = noise == 0 ? "as recorded" : $"{Report.Number(noise, "0%")} random";
            report.Add($"drift/false alarms per 10⁴ labels/{name}", rate, "alarms", Goal.AtMost(1));
            return new[] { name, $"{seen}", $"{alarms}", Report.Number(rate, "0.00"), Report.Number(1e4 * UpperPoisson(alarms) / seen, "0.00") };
        }));
    }

    private static Outcome Measure(Speaker[] speakers, HeadDocument document, int seeds, bool changes)
    {
        var errors = new double[speakers.Length * seeds];
        var delays = new double[errors.Length];
        Parallel.For(0, errors.Length, run =>
        {
            var speaker = speakers[run % speakers.Length];
            var order = Speaker.Order(run / speakers.Length, Speaker.Clips);
            var learning = new LearningHead(speaker.Open(document), null);
            delays[run] = double.NaN;
            for (var t = 0; t < Before + After; t++)
            {
                var reopened = learning.Memory.Reopened;
                speaker.Learn(learning, order[t], t >= Before ? Truth(order[t]) : speaker.Labels[order[t]]);
                if (learning.Memory.Reopened > reopened && t >= Before && double.IsNaN(delays[run])) delays[run] = t + 1 - Before;
            }
            errors[run] = 1 - speaker.Accuracy(learning.Weights, order[(Before + After)..], Truth);

            int Truth(int clip) => !changes ? speaker.Labels[clip] : speaker.Labels[clip] switch { 3 => 8, 8 => 3, 1 => 9, 9 => 1, var label => label };
        });
        var seen = delays.Where(delay => !double.IsNaN(delay)).ToArray();
        return new Outcome(errors.Average(), (double)seen.Length / delays.Length, seen.Length == 0 ? null : Suite.Median(seen));
    }

    /// <summary>The mean under which so few events have a chance of 2.5%: χ² with 2n + 2 degrees, by Wilson and Hilferty.</summary>
    private static double UpperPoisson(int events)
    {
        var n = events + 1.0;
        return n * Math.Pow(1 - 1 / (9 * n) + 1.96 / (3 * Math.Sqrt(n)), 3);
    }

    private sealed record Outcome(double Error, double Seen, double? Delay);
}
