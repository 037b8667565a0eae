using System.CommandLine;
using System.Numerics.Tensors;
using Skiff.Personalization;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// Digits as a bandit: a clip, ten actions, a reward of 1 for the right digit and no word otherwise. No prior; an action's head is a block of the shared one over φ(x) ⊗ e_a. Beside it a head that is told every label. Then what other policies would
/// have earned, estimated from logs, beside the truth, which here is known.
/// </summary>
internal static class Bandit
{
    private const int D = Speaker.Dimensions, K = Speaker.Classes, Rounds = 2000, Early = 500;

    /// <summary>κ: |φ|² of a clip is about 2,500.</summary>
    private const double Ridge = 100;

    private static readonly (string Name, Exploration Policy, double AtEarly, double AtEnd)[] Policies =
    [
        ("LinUCB", new Exploration { Kind = ExplorationKind.LinUcb, Alpha = 0.3, Epsilon = 0.005 }, 0.75, 0.90),
        ("Thompson", new Exploration { Kind = ExplorationKind.Thompson, Alpha = 0.1, Epsilon = 0.005 }, 0.65, 0.88),
        ("ε-greedy, ε = .1", new Exploration { Kind = ExplorationKind.EpsilonGreedy, Epsilon = 0.1 }, double.NaN, double.NaN),
        ("greedy", new Exploration { Kind = ExplorationKind.EpsilonGreedy, Epsilon = 1e-9 }, double.NaN, double.NaN),
    ];

    public static Command Command()
    {
        var seeds = new Option<int>("--seeds") { Description = "Streams of each speaker", HelpName = "N", DefaultValueFactory = _ => 5 };
        var logs = new Option<int>("--logs") { Description = "Logs that policies are judged on", HelpName = "N", DefaultValueFactory = _ => 500 };
        Suite.RequirePositive(seeds, logs);
        return Suite.Create("bandit", "Rewards of exploring policies beside full information, and off-policy estimates beside the truth.", [seeds, logs], (parsed, report) =>
        {
            var speakers = Speaker.LoadAll();
            report.Text("# bandit\n");
            WriteRewards(report, speakers, parsed.GetValue(seeds));
            WriteCoverage(report, speakers, parsed.GetValue(logs));
        });
    }

    private static void WriteRewards(Report report, Speaker[] speakers, int seeds)
    {
        report.Text($"- {speakers.Length} speakers × {seeds} streams of {Rounds} clips drawn with replacement; reward: of all rounds so far; greedy accuracy: of the heads as they then are, on all clips");
        report.Heading("Rewards");
        var full = Average(speakers, seeds, null);
        var rows = Policies.Select(policy => (policy, Outcome: Average(speakers, seeds, policy.Policy))).ToArray();
        report.Table(1, ["policy", $"reward to {Early}", "÷ full", $"reward to {Rounds}", "÷ full", $"greedy accuracy at {Early}", "÷ full", $"at {Rounds}", "÷ full"], rows.Select(row => (row.policy.Name, row.Outcome)).Prepend(("full information", full)).Select(row => new[]
        {
            row.Item1,
            Report.Number(row.Item2[0], "0.000"), Report.Number(row.Item2[0] / full[0], "0.000"), Report.Number(row.Item2[1], "0.000"), Report.Number(row.Item2[1] / full[1], "0.000"),
            Report.Number(row.Item2[2], "0.000"), Report.Number(row.Item2[2] / full[2], "0.000"), Report.Number(row.Item2[3], "0.000"), Report.Number(row.Item2[3] / full[3], "0.000"),
        }));
        foreach (var (policy, outcome) in rows)
        {
            report.Add($"bandit/{policy.Name}/reward to {Early} ÷ full", outcome[0] / full[0], "ratio", double.IsNaN(policy.AtEarly) ? null : Goal.AtLeast(policy.AtEarly));
            report.Add($"bandit/{policy.Name}/reward to {Rounds} ÷ full", outcome[1] / full[1], "ratio", double.IsNaN(policy.AtEnd) ? null : Goal.AtLeast(policy.AtEnd));
        }
        report.Add($"bandit/LinUCB ÷ greedy/reward to {Early}", rows[0].Outcome[0] / rows[^1].Outcome[0], "ratio", Goal.AtLeast(1.25));
    }

    private static double[] Average(Speaker[] speakers, int seeds, Exploration? policy)
    {
        var runs = new double[speakers.Length * seeds][];
        Parallel.For(0, runs.Length, run => runs[run] = Play(speakers[run % speakers.Length], run / speakers.Length, policy));
        return [.. Enumerable.Range(0, 4).Select(i => runs.Average(run => run[i]))];
    }

    /// <param name="policy">Null for full information: the best mean, and every action's reward is told.</param>
    private static double[] Play(Speaker speaker, int seed, Exploration? policy)
    {
        var stream = new Random(seed);
        var packed = RidgeHead.PackedLength(D);
        var weights = new float[K * D];
        var covariances = new float[(policy is null ? 1 : K) * packed];
        for (var head = 0; head < covariances.Length; head += packed)
        {
            for (int i = 0, at = head; i < D; at += D - i, i++) covariances[at] = (float)(1 / Ridge);
        }
        float[] means = new float[K], variances = new float[K], rewards = new float[K], scratch = new float[D];
        double[] factor = new double[K * K], propensities = new double[K];
        var result = new double[4];
        var earned = 0.0;
        for (var t = 0; t < Rounds; t++)
        {
            var clip = stream.Next(Speaker.Clips);
            var phi = speaker[clip];
            means.AsSpan().Clear();
            RidgeHead.Score(weights, phi, means);
            if (policy is null)
            {
                if (TensorPrimitives.IndexOfMax<float>(means) == speaker.Labels[clip]) earned++;
                rewards.AsSpan().Clear();
                rewards[speaker.Labels[clip]] = 1;
                RidgeHead.Update(weights, covariances, phi, rewards, scratch);
            }
            else
            {
                for (var a = 0; a < K; a++) variances[a] = RidgeHead.Variance(covariances.AsSpan(a * packed, packed), phi, scratch);
                Exploration.Independent(variances, factor);
                var action = policy.Choose(means, factor, (ulong)seed << 32 | (uint)t, propensities);
                rewards[0] = action == speaker.Labels[clip] ? 1 : 0;
                earned += rewards[0];
                RidgeHead.Update(weights.AsSpan(action * D, D), covariances.AsSpan(action * packed, packed), phi, rewards.AsSpan(0, 1), scratch);
            }
            if (t + 1 is not (Early or Rounds)) continue;
            var at_ = t + 1 == Early ? 0 : 1;
            result[at_] = earned / (t + 1);
            result[2 + at_] = speaker.Accuracy(weights, Enumerable.Range(0, Speaker.Clips));
        }
        return result;
    }

    private static void WriteCoverage(Report report, Speaker[] speakers, int logs)
    {
        const int decisions = 1000;
        report.Heading($"Off-policy: {logs} logs of {decisions} decisions");
        report.Text("Logged by a policy half of which is spread evenly and half of which follows a softmax of the population's head. Judged: the best of the population's head with ε = .1 (near), and of the head that knows the speaker's 300 labels (far).\n");
        var names = new[] { "IPS", "SNIPS", "doubly robust" };
        var rows = new List<string[]>();
        foreach (var isFar in new[] { false, true })
        {
            var covered = new int[names.Length];
            var errors = new double[names.Length];
            var widths = new double[names.Length];
            double effective = 0, truths = 0;
            var gate = new Lock();
            Parallel.For(0, logs, log =>
            {
                var speaker = speakers[log % speakers.Length];
                var (truth, estimates) = Judge(speaker, log, decisions, isFar);
                lock (gate)
                {
                    for (var i = 0; i < names.Length; i++)
                    {
                        if (estimates[i].Low <= truth && truth <= estimates[i].High) covered[i]++;
                        errors[i] += Math.Pow(estimates[i].Value - truth, 2) / logs;
                        widths[i] += (estimates[i].High - estimates[i].Low) / logs;
                    }
                    effective += estimates[0].EffectiveCount / logs;
                    truths += truth / logs;
                }
            });
            for (var i = 0; i < names.Length; i++)
            {
                var policy = isFar ? "far" : "near";
                rows.Add([policy, names[i], Report.Number(truths, "0.000"), Report.Number(effective, "0"), Report.Number(Math.Sqrt(errors[i]), "0.0000"), Report.Number(widths[i], "0.000"), Report.Number((double)covered[i] / logs, "0.0%")]);
                report.Add($"bandit/{policy}/{names[i]}/coverage of 95% intervals", (double)covered[i] / logs, "share", Goal.AtLeast(0.91));
            }
        }
        report.Table(2, ["policy", "estimator", "truth, mean", "effective decisions", "RMS error", "interval's width", "covers"], rows);
    }

    private static (double Truth, PolicyValue[] Estimates) Judge(Speaker speaker, int seed, int n, bool isFar)
    {
        var random = new Random(seed);
        var logging = speaker.Prior.Weights;
        var judged = logging;
        if (isFar)
        {
            var learning = new LearningHead(speaker.Open(Speaker.Plain), null);
            for (var clip = 0; clip < Speaker.Adapting; clip++) speaker.Learn(learning, clip, speaker.Labels[clip]);
            judged = learning.Weights;
        }
        var truth = Enumerable.Range(0, Speaker.Clips).Average(clip => Target(clip, speaker.Labels[clip]));
        double[] rewards = new double[n], logged = new double[n], target = new double[n], direct = new double[n], predicted = new double[n];
        var actions = new int[n];
        var clips = new int[n];
        var features = new float[n * D];
        float[] scores = new float[K];
        for (var i = 0; i < n; i++)
        {
            clips[i] = random.Next(Speaker.Clips);
            speaker[clips[i]].CopyTo(features.AsSpan(i * D));
            scores.AsSpan().Clear();
            RidgeHead.Score(logging, speaker[clips[i]], scores);
            TensorPrimitives.Multiply(scores, 5f, scores);
            TensorPrimitives.SoftMax<float>(scores, scores);
            var draw = random.NextDouble();
            while (actions[i] < K - 1 && (draw -= Logged(scores[actions[i]])) >= 0) actions[i]++;
            logged[i] = Logged(scores[actions[i]]);
            target[i] = Target(clips[i], actions[i]);
            rewards[i] = actions[i] == speaker.Labels[clips[i]] ? 1 : 0;
        }
        var q = RewardModel.CrossFit(features, actions, rewards, K, Ridge);
        for (var i = 0; i < n; i++)
        {
            predicted[i] = q[i * K + actions[i]];
            for (var a = 0; a < K; a++) direct[i] += Target(clips[i], a) * q[i * K + a];
        }
        return (truth, [OffPolicy.Ips(rewards, logged, target), OffPolicy.Snips(rewards, logged, target), OffPolicy.DoublyRobust(rewards, logged, target, direct, predicted)]);

        double Logged(float softmax) => 0.5 / K + 0.5 * softmax;
        double Target(int clip, int action) => 0.1 / K + (speaker.Answer(judged, clip) == action ? 0.9 : 0);
    }
}
