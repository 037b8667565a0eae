using System.Numerics.Tensors;

namespace Skiff.Personalization;

/// <summary>One user's examples in order: φ of each, and its target less what the global models said, K numbers.</summary>
public sealed record ExampleStream(IReadOnlyList<float[]> Features, IReadOnlyList<float[]> Targets);

/// <summary>
/// Chooses how strong an app's prior is, and how it fades, from users who gave labels already: each stream is learnt from the start, every example is predicted before it is learnt (prequential loss, Dawid 1984), and nothing is held out.
/// It costs one learning of the streams a candidate, offline, and nothing a user.
/// </summary>
public static class PriorStrength
{
    /// <summary>
    /// The loss of each candidate on each stream. Most users are new, so the n-th label counts in the measure 1/(n + 9): the first ten labels, the next ninety and the next nine hundred weigh about alike.
    /// </summary>
    /// <returns>A row a candidate, a number a stream: the share of wrong labels, or for one output the mean squared error.</returns>
    public static double[][] Losses(IReadOnlyList<Head> candidates, IReadOnlyList<ExampleStream> streams) =>
        [.. candidates.Select(head => streams.AsParallel().AsOrdered().Select(stream => Loss(head, stream)).ToArray())];

    /// <summary>
    /// Of candidates from the strongest prior to the weakest, the first whose loss is within one standard error of the best one's, paired over streams: where the data can't tell, a new user is better off with what is known of others.
    /// </summary>
    /// <returns>Its index.</returns>
    public static int Choose(IReadOnlyList<double[]> losses)
    {
        var best = losses.MinBy(row => row.Average())!;
        for (var i = 0; i < losses.Count; i++)
        {
            var differences = losses[i].Zip(best, (ours, least) => ours - least).ToArray();
            var mean = differences.Average();
            var error = Math.Sqrt(differences.Sum(difference => (difference - mean) * (difference - mean)) / Math.Max(1, differences.Length - 1) / differences.Length);
            if (mean <= error) return i;
        }
        throw new InvalidOperationException("the best candidate is within its own standard error");
    }

    private static double Loss(Head head, ExampleStream stream)
    {
        var learning = new LearningHead(head, null);
        var scores = new float[head.Outputs];
        double loss = 0, weights = 0;
        for (var n = 0; n < stream.Features.Count; n++)
        {
            var target = stream.Targets[n];
            scores.AsSpan().Clear();
            RidgeHead.Score(learning.Weights, stream.Features[n], scores);
            var weight = 1.0 / (n + 10);
            weights += weight;
            loss += weight * (scores.Length == 1 ? Math.Pow(target[0] - scores[0], 2) : TensorPrimitives.IndexOfMax<float>(scores) == TensorPrimitives.IndexOfMax<float>(target) ? 0 : 1);
            target.CopyTo(scores, 0);
            learning.Learn(stream.Features[n], scores, DateTimeOffset.UnixEpoch);
        }
        return loss / weights;
    }
}
