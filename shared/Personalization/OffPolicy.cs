namespace Skiff.Personalization;

/// <summary>What a policy would have earned a decision, judged on what another one logged.</summary>
/// <param name="Value">Mean reward.</param>
/// <param name="Low">Of a 95% interval.</param>
/// <param name="High">Of a 95% interval.</param>
/// <param name="EffectiveCount">(Σw)²/Σw²: how many decisions of its own the log is worth.</param>
public readonly record struct PolicyValue(double Value, double Low, double High, double EffectiveCount, double LargestWeight);

/// <summary>The log can't say what the policy would have earned; the message says why.</summary>
public sealed class NoOverlapException(string message) : Exception(message);

/// <summary>
/// Off-policy evaluation over n logged decisions, with weights w = π(a|x)/p(a|x): inverse propensity (Horvitz and Thompson 1952), self-normalised (Swaminathan and Joachims 2015) and doubly robust (Dudík, Langford, Li 2011).
/// Intervals are normal, from the variance of the estimate's influence function. Without overlap there is no answer, and it says so instead of giving a small number.
/// </summary>
public static class OffPolicy
{
    private const double Deviations = 1.96;

    /// <summary>Decisions' worth below which a normal interval means little.</summary>
    private const double LeastEffective = 30;

    /// <summary>Of a weight, relative: propensities are kept as float32, and 1/3 comes back as 0.33333334.</summary>
    private const double Rounding = 1e-6;

    /// <summary>Mean of w r.</summary>
    /// <param name="rewards">r, n.</param>
    /// <param name="logged">p(a|x): with what probability each action was taken then, n.</param>
    /// <param name="target">π(a|x): with what probability the policy would take it, n.</param>
    /// <exception cref="NoOverlapException">The policy does too much that was not logged.</exception>
    public static PolicyValue Ips(ReadOnlySpan<double> rewards, ReadOnlySpan<double> logged, ReadOnlySpan<double> target)
    {
        var overlap = Overlap.Of(rewards.Length, logged, target);
        var terms = new double[rewards.Length];
        for (var i = 0; i < terms.Length; i++) terms[i] = overlap.Weights[i] * rewards[i];
        return overlap.Around(terms);
    }

    /// <summary>Σwr/Σw: a little biased, of less variance, and never outside the rewards' range.</summary>
    /// <exception cref="NoOverlapException">The policy does too much that was not logged.</exception>
    public static PolicyValue Snips(ReadOnlySpan<double> rewards, ReadOnlySpan<double> logged, ReadOnlySpan<double> target)
    {
        var overlap = Overlap.Of(rewards.Length, logged, target);
        double sum = 0, weights = 0;
        for (var i = 0; i < rewards.Length; i++)
        {
            sum += overlap.Weights[i] * rewards[i];
            weights += overlap.Weights[i];
        }
        var value = sum / weights;
        var terms = new double[rewards.Length];
        // Linearised around the ratio.
        for (var i = 0; i < terms.Length; i++) terms[i] = value + overlap.Weights[i] * (rewards[i] - value) * rewards.Length / weights;
        return overlap.Around(terms);
    }

    /// <summary>Mean of Σ_a π(a) q̂(a) + w (r − q̂): unbiased when the propensities are right, whatever q̂, and of little variance when q̂ is good.</summary>
    /// <param name="direct">Σ_a π(a|x) q̂(x, a), n; q̂ from a model that has not seen the decision (<see cref="RewardModel.CrossFit"/>).</param>
    /// <param name="predicted">q̂(x, a) of the action that was taken, n.</param>
    /// <exception cref="NoOverlapException">The policy does too much that was not logged.</exception>
    public static PolicyValue DoublyRobust(ReadOnlySpan<double> rewards, ReadOnlySpan<double> logged, ReadOnlySpan<double> target, ReadOnlySpan<double> direct, ReadOnlySpan<double> predicted)
    {
        if (direct.Length != rewards.Length || predicted.Length != rewards.Length) throw new ArgumentException($"{rewards.Length} decisions don't go with {direct.Length} and {predicted.Length} predictions");
        var overlap = Overlap.Of(rewards.Length, logged, target);
        var terms = new double[rewards.Length];
        for (var i = 0; i < terms.Length; i++) terms[i] = direct[i] + overlap.Weights[i] * (rewards[i] - predicted[i]);
        return overlap.Around(terms);
    }

    /// <summary>The weights, and whether they carry anything.</summary>
    private readonly record struct Overlap(double[] Weights, double EffectiveCount, double LargestWeight)
    {
        public static Overlap Of(int n, ReadOnlySpan<double> logged, ReadOnlySpan<double> target)
        {
            if (n == 0 || logged.Length != n || target.Length != n) throw new ArgumentException($"{n} rewards don't go with {logged.Length} logged and {target.Length} target probabilities");
            var weights = new double[n];
            double sum = 0, squares = 0, largest = 0;
            for (var i = 0; i < n; i++)
            {
                if (!(logged[i] is > 0 and <= 1)) throw new NoOverlapException($"decision {i} was logged with a propensity of {logged[i]:g3}: it takes a probability above 0");
                if (!(target[i] is >= 0 and <= 1)) throw new ArgumentException($"the policy gives decision {i} a probability of {target[i]:g3}", nameof(target));
                weights[i] = target[i] / logged[i];
                sum += weights[i];
                squares += weights[i] * weights[i];
                largest = Math.Max(largest, weights[i]);
            }
            if (sum == 0) throw new NoOverlapException("the policy would have taken none of the actions that were taken");
            var effective = sum * sum / squares;
            if (effective < LeastEffective)
                throw new NoOverlapException(FormattableString.Invariant($"{n} logged decisions are worth {effective:f1} of this policy's (at least {LeastEffective} are needed): it mostly does what was not logged"));
            // Over what was logged w has mean 1, unless the policy takes actions that could not be logged at all.
            var mean = sum / n;
            var error = Math.Sqrt(Math.Max(0, squares / n - mean * mean) / n);
            if (mean + 5 * error < 1 - Rounding)
                throw new NoOverlapException(FormattableString.Invariant($"the weights' mean is {mean:f3} ± {error:f3} and should be 1: the policy takes actions that were never logged"));
            return new Overlap(weights, effective, largest);
        }

        public PolicyValue Around(double[] terms)
        {
            var mean = terms.Average();
            var variance = terms.Sum(term => (term - mean) * (term - mean)) / Math.Max(1, terms.Length - 1);
            var half = Deviations * Math.Sqrt(variance / terms.Length);
            return new PolicyValue(mean, mean - half, mean + half, EffectiveCount, LargestWeight);
        }
    }
}

/// <summary>q̂(x, a): what an action would be rewarded with, by a ridge head for each action.</summary>
public static class RewardModel
{
    /// <summary>Predicts every decision's K rewards from the decisions of the other folds, so that no decision is judged by a model that has seen it. O(folds · n d²).</summary>
    /// <param name="features">x, n × d.</param>
    /// <param name="actions">n.</param>
    /// <param name="rewards">n.</param>
    /// <param name="ridge">κ in P₀ = I/κ.</param>
    /// <returns>n × K.</returns>
    public static double[] CrossFit(ReadOnlySpan<float> features, ReadOnlySpan<int> actions, ReadOnlySpan<double> rewards, int k, double ridge, int folds = 5)
    {
        var n = actions.Length;
        var d = features.Length / n;
        var predicted = new double[n * k];
        Span<float> residual = stackalloc float[1];
        var scratch = new float[d];
        var weights = new float[k * d];
        var covariances = new float[k * RidgeHead.PackedLength(d)];
        for (var fold = 0; fold < folds; fold++)
        {
            weights.AsSpan().Clear();
            covariances.AsSpan().Clear();
            for (var a = 0; a < k; a++)
            {
                for (int i = 0, at = a * RidgeHead.PackedLength(d); i < d; at += d - i, i++) covariances[at] = (float)(1 / ridge);
            }
            for (var i = 0; i < n; i++)
            {
                if (i % folds == fold) continue;
                residual[0] = (float)rewards[i];
                RidgeHead.Update(weights.AsSpan(actions[i] * d, d), covariances.AsSpan(actions[i] * RidgeHead.PackedLength(d), RidgeHead.PackedLength(d)), features.Slice(i * d, d), residual, scratch);
            }
            for (var i = fold; i < n; i += folds)
            {
                for (var a = 0; a < k; a++) predicted[i * k + a] = System.Numerics.Tensors.TensorPrimitives.Dot<float>(weights.AsSpan(a * d, d), features.Slice(i * d, d));
            }
        }
        return predicted;
    }
}
