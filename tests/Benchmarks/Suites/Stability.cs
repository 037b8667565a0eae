using System.CommandLine;
using System.Numerics.Tensors;
using Skiff.Personalization;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// A million updates of one head on a speaker's real features, a third of which are dead, with and without forgetting: float32 by Sherman–Morrison beside the normal equations of the same examples in float64, solved anew by Cholesky.
/// </summary>
internal static class Stability
{
    private const int D = Speaker.Dimensions, K = Speaker.Classes, Looks = 10;
    private static readonly double[] Forgettings = [1, 0.999, 0.99, 0.98];

    public static Command Command()
    {
        var updates = new Option<int>("--updates") { Description = "Updates of each head", HelpName = "N", DefaultValueFactory = _ => 1_000_000 };
        Suite.RequirePositive(updates);
        return Suite.Create("stability", "A million updates with forgetting: finite, positive definite, and how far from the batch solution.", [updates], (parsed, report) =>
        {
            var count = parsed.GetValue(updates);
            report.Text("# stability\n");
            report.Text($"- {count} updates drawn with replacement from a speaker's 500 clips (d = {D}, {K} classes), a speaker a row, looked at {Looks} times on the way; features without a value other than 0: see the table");
            report.Text("- distance: |w − w_batch| / |w_batch|, the largest of the looks; the batch is A = Σγ^(t−i)(φφᵀ + what gives the prior back), solved by Cholesky in float64\n");
            var speakers = Speaker.LoadAll();
            var rows = new string[Forgettings.Length][];
            var outcomes = new Outcome[Forgettings.Length];
            Parallel.For(0, rows.Length, i =>
            {
                var speaker = speakers[i % speakers.Length];
                var outcome = outcomes[i] = Run(speaker, Forgettings[i], count);
                rows[i] = [Report.Number(Forgettings[i], "0.###"), speaker.Name, $"{outcome.Dead}", outcome.IsFinite ? "yes" : "no", $"{outcome.PositiveDefinite} of {Looks}", Report.Number(outcome.LargestVariance, "0.0"), $"{outcome.Reopened}", Report.Number(outcome.Distance, "0.0e0")];
            });
            report.Table(2, ["γ", "speaker", "dead features", "finite", "positive definite", "largest variance ÷ prior's", "opened anew", "distance"], rows);
            for (var i = 0; i < rows.Length; i++)
            {
                var name = $"stability/γ {Report.Number(Forgettings[i], "0.###")}";
                report.Add($"{name}/finite and positive definite", outcomes[i].IsFinite ? outcomes[i].PositiveDefinite / (double)Looks : 0, "share of looks", Goal.AtLeast(1));
                report.Add($"{name}/distance from batch", outcomes[i].Distance, "relative", Goal.AtMost(1e-3));
                report.Add($"{name}/opened anew", outcomes[i].Reopened, "times", Goal.AtMost(0));
            }
        });
    }

    private static Outcome Run(Speaker speaker, double gamma, int count)
    {
        var head = speaker.Open(Speaker.Plain with { Forgetting = gamma });
        var learning = new LearningHead(head, null);
        var lower = Cholesky.Factor(speaker.Prior.Gram, D, Speaker.Plain.PriorStrength);
        var a = new double[D * D];
        for (var i = 0; i < D; i++)
        {
            for (var j = 0; j < D; j++) a[i * D + j] = Speaker.Plain.PriorStrength * speaker.Prior.Gram[i * D + j];
        }
        var b = new double[K * D];
        for (var k = 0; k < K; k++)
        {
            for (var i = 0; i < D; i++) b[k * D + i] = TensorPrimitives.Dot<double>(a.AsSpan(i * D, D), Widen(speaker.Prior.Weights.AsSpan(k * D, D)));
        }

        var random = new Random(1);
        var outcome = new Outcome { IsFinite = true, Dead = Enumerable.Range(0, D).Count(i => Enumerable.Range(0, Speaker.Clips).All(clip => speaker[clip][i] == 0)) };
        double[] column = new double[D], scratch = new double[D * D];
        for (var t = 0; t < count; t++)
        {
            var clip = random.Next(Speaker.Clips);
            speaker.Learn(learning, clip, speaker.Labels[clip]);
            var phi = Widen(speaker[clip]);
            for (var i = 0; i < D; i++)
            {
                if (phi[i] != 0) TensorPrimitives.MultiplyAdd<double>(phi, phi[i], a.AsSpan(i * D, D), a.AsSpan(i * D, D));
            }
            var target = b.AsSpan(speaker.Labels[clip] * D, D);
            TensorPrimitives.Add<double>(target, phi, target);
            if (gamma < 1)
            {
                TensorPrimitives.Multiply<double>(a, gamma, a);
                TensorPrimitives.Multiply<double>(b, gamma, b);
                var c = t % D;
                for (var i = 0; i < D; i++) column[i] = i < c ? 0 : lower[i * D + c];
                var weight = D * (1 - gamma);
                for (var i = c; i < D; i++) TensorPrimitives.MultiplyAdd<double>(column, weight * column[i], a.AsSpan(i * D, D), a.AsSpan(i * D, D));
                for (var k = 0; k < K; k++)
                {
                    var says = TensorPrimitives.Dot<double>(column, Widen(learning.Weights.AsSpan(k * D, D)));
                    TensorPrimitives.MultiplyAdd<double>(column, weight * says, b.AsSpan(k * D, D), b.AsSpan(k * D, D));
                }
            }
            if ((t + 1) % Math.Max(1, count / Looks) == 0) Look(learning, head, a, b, scratch, outcome);
        }
        outcome.Reopened = learning.Memory.Reopened;
        return outcome;
    }

    private static void Look(LearningHead learning, Head head, double[] a, double[] b, double[] scratch, Outcome outcome)
    {
        outcome.IsFinite &= learning.Weights.Concat(learning.Covariance).All(float.IsFinite);
        if (Cholesky.IsPositiveDefinite(learning.Covariance, D, scratch)) outcome.PositiveDefinite++;
        for (int i = 0, at = 0; i < D; at += D - i, i++) outcome.LargestVariance = Math.Max(outcome.LargestVariance, learning.Covariance[at] / head.InitialCovariance[at]);
        var lower = Cholesky.Factor(a, D);
        double difference = 0, norm = 0;
        for (var k = 0; k < K; k++)
        {
            var batch = b.AsSpan(k * D, D).ToArray();
            Cholesky.Solve(lower, D, batch);
            for (var i = 0; i < D; i++)
            {
                difference += Math.Pow(learning.Weights[k * D + i] - batch[i], 2);
                norm += batch[i] * batch[i];
            }
        }
        outcome.Distance = Math.Max(outcome.Distance, Math.Sqrt(difference / norm));
    }

    private static double[] Widen(ReadOnlySpan<float> values)
    {
        var wide = new double[values.Length];
        TensorPrimitives.ConvertTruncating(values, wide);
        return wide;
    }

    private sealed class Outcome
    {
        public bool IsFinite { get; set; }
        public int PositiveDefinite { get; set; }
        public double LargestVariance { get; set; }
        public double Distance { get; set; }
        public int Reopened { get; set; }
        public int Dead { get; init; }
    }
}
