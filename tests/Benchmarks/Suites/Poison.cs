using System.CommandLine;
using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Benchmarks.Suites;

/// <summary>What bad feedback does to a speaker's head: 300 clips adapt it, some of them tampered with, the last 200 measure.</summary>
internal static class Poison
{
    private const double Inflated = 0.1, Targeted = 0.3;
    private const float Inflation = 10;
    private const int Aim = 7;

    private static readonly HeadDocument Guarded = Speaker.Plain with { Guards = GuardDocument.Default };

    private static readonly Attack[] Attacks =
    [
        new("none", (_, label) => (label, 1)),
        new("(a) 10% with features × 10", (random, label) => (label, random.NextDouble() < Inflated ? Inflation : 1)),
        new("(a) and a wrong label", (random, label) => random.NextDouble() < Inflated ? ((label + 1) % Speaker.Classes, Inflation) : (label, 1)),
        new("(b) 30% of labels say 7", (random, label) => (random.NextDouble() < Targeted ? Aim : label, 1)),
    ];

    public static Command Command()
    {
        var seeds = new Option<int>("--seeds") { Description = "Orders of each speaker's clips", HelpName = "N", DefaultValueFactory = _ => 20 };
        Suite.RequirePositive(seeds);
        return Suite.Create("poison", "Accuracy under tampered feedback with and without guards, and honest feedback kept out.", [seeds], (parsed, report) =>
        {
            var speakers = Speaker.LoadAll();
            report.Text("# poison\n");
            report.Text($"- {speakers.Length} speakers × {parsed.GetValue(seeds)} orders of {Speaker.Adapting} clips; accuracy on the {Speaker.Clips - Speaker.Adapting} held out, mean ± standard error; guards as an app has them that says nothing\n");
            var clean = 0.0;
            report.Table(1, ["feedback", "no guards", "guards", "loss ÷ no guards'", "honest: quarantined", "honest: clipped", "tampered: quarantined or clipped"], Attacks.Select(attack =>
            {
                var open = Run(speakers, Speaker.Plain, attack, parsed.GetValue(seeds));
                var guarded = Run(speakers, Guarded, attack, parsed.GetValue(seeds));
                var isClean = attack == Attacks[0];
                if (isClean) clean = open.Accuracy;
                var ratio = (clean - guarded.Accuracy) / (clean - open.Accuracy);
                report.Add($"poison/{attack.Name}/accuracy, guards", guarded.Accuracy, "share");
                report.Add($"poison/{attack.Name}/accuracy, no guards", open.Accuracy, "share");
                report.Add($"poison/{attack.Name}/honest quarantined", guarded.Quarantined, "share", Goal.AtMost(0.01));
                if (!isClean) report.Add($"poison/{attack.Name}/loss ÷ no guards' loss", ratio, "ratio", attack == Attacks[1] ? Goal.AtMost(0.25) : null);
                return new[]
                {
                    attack.Name, $"{Report.Number(open.Accuracy, "0.000")} ± {Report.Number(open.Error, "0.000")}", $"{Report.Number(guarded.Accuracy, "0.000")} ± {Report.Number(guarded.Error, "0.000")}",
                    isClean ? "" : Report.Number(ratio, "0.00"), Report.Number(guarded.Quarantined, "0.00%"), Report.Number(guarded.Clipped, "0.00%"), isClean ? "" : Report.Number(guarded.Caught, "0.0%"),
                };
            }));
        });
    }

    private static Outcome Run(Speaker[] speakers, HeadDocument document, Attack attack, int seeds)
    {
        var accuracies = new double[speakers.Length * seeds];
        int honest = 0, quarantined = 0, clipped = 0, tampered = 0, caught = 0;
        Parallel.For(0, accuracies.Length, run =>
        {
            var speaker = speakers[run % speakers.Length];
            var seed = run / speakers.Length;
            var random = new Random(1000 + seed);
            var learning = new LearningHead(speaker.Open(document), null);
            foreach (var clip in Speaker.Order(seed, Speaker.Adapting))
            {
                var (label, scale) = attack.Tamper(random, speaker.Labels[clip]);
                var lesson = speaker.Learn(learning, clip, label, scale);
                if (label == speaker.Labels[clip] && scale == 1)
                {
                    Interlocked.Increment(ref honest);
                    if (!lesson.IsLearnt) Interlocked.Increment(ref quarantined);
                    else if (lesson.Note is not null) Interlocked.Increment(ref clipped);
                }
                else
                {
                    Interlocked.Increment(ref tampered);
                    if (lesson.Note is not null) Interlocked.Increment(ref caught);
                }
            }
            accuracies[run] = speaker.Accuracy(learning.Weights, Enumerable.Range(Speaker.Adapting, Speaker.Clips - Speaker.Adapting));
        });
        var mean = accuracies.Average();
        var error = Math.Sqrt(accuracies.Sum(accuracy => (accuracy - mean) * (accuracy - mean)) / Math.Max(1, accuracies.Length - 1) / accuracies.Length);
        return new Outcome(mean, error, (double)quarantined / honest, (double)clipped / honest, (double)caught / Math.Max(1, tampered));
    }

    private delegate (int Label, float Scale) Tampering(Random random, int label);

    private sealed record Attack(string Name, Tampering Tamper);

    private sealed record Outcome(double Accuracy, double Error, double Quarantined, double Clipped, double Caught);
}
