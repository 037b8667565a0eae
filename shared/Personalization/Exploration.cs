using System.Numerics.Tensors;
using Skiff.Selection;

namespace Skiff.Personalization;

/// <summary>How a ranking explores.</summary>
public enum ExplorationKind
{
    /// <summary>The best mean, and ε evenly.</summary>
    EpsilonGreedy,

    /// <summary>The best of mean + α deviations (Li, Chu, Langford, Schapire, WWW 2010), and ε evenly.</summary>
    LinUcb,

    /// <summary>The best under weights drawn from N(w, α²P) (Agrawal and Goyal, ICML 2013), and ε evenly.</summary>
    Thompson,
}

/// <summary>
/// Chooses one of K candidates from what a head says of them. Propensities are real: the vector p is made first, over seeded draws where it has no closed form, ties share alike, every candidate has at least ε/K, and then the choice is
/// drawn from p itself. Log all of p, the seed and the versions: a choice can be replayed from them, and another policy judged on them (<see cref="OffPolicy"/>).
/// </summary>
/// <remarks>
/// The form that ranks is one shared head over φ(x, a), not a head for each action: candidates come and go without state of their own, a new one is known by its features at once, and the state does not grow with them.
/// A few fixed actions without features of their own are the special case φ(x, a) = φ(x) ⊗ e_a, whose P falls into K blocks that are best kept as K heads (<see cref="Independent"/>); blocks that shared one P would believe of an
/// action what was seen of others.
/// </remarks>
public sealed record Exploration
{
    public ExplorationKind Kind { get; init; } = ExplorationKind.LinUcb;

    /// <summary>α: deviations of optimism, or the deviation of the noise.</summary>
    public double Alpha { get; init => field = value is >= 0 and <= 100 ? value : throw new ArgumentOutOfRangeException(nameof(Alpha), value, "Alpha lies in [0, 100]"); } = 0.3;

    /// <summary>ε: the part of the choices that is spread evenly; above 0, or nothing else could be judged on what was logged.</summary>
    public double Epsilon { get; init => field = value is > 0 and <= 1 ? value : throw new ArgumentOutOfRangeException(nameof(Epsilon), value, "Epsilon lies in (0, 1]"); } = 0.02;

    /// <summary>M, draws that Thompson's propensities are counted over.</summary>
    public int Draws { get; init => field = value is >= 1 and <= 100_000 ? value : throw new ArgumentOutOfRangeException(nameof(Draws), value, "Draws lies in [1, 100000]"); } = 64;

    /// <summary>The scores' joint uncertainty under one shared head: L with LLᵀ = ΦPΦᵀ. O(K d² + K³).</summary>
    /// <param name="covariance">P, packed.</param>
    /// <param name="candidates">Φ, K × d.</param>
    /// <param name="factor">L, K × K by rows.</param>
    public static void Shared(ReadOnlySpan<float> covariance, ReadOnlySpan<float> candidates, int k, Span<double> factor)
    {
        var d = candidates.Length / k;
        Span<float> product = d <= 1024 ? stackalloc float[d] : new float[d];
        for (var i = 0; i < k; i++)
        {
            RidgeHead.Multiply(covariance, candidates.Slice(i * d, d), product);
            for (var j = 0; j < k; j++) factor[i * k + j] = TensorPrimitives.Dot<float>(product, candidates.Slice(j * d, d));
        }
        Cholesky.FactorSemidefinite(factor, k);
    }

    /// <summary>The same for scores that know nothing of each other, each from a head of its own.</summary>
    /// <param name="variances">φᵀP_aφ, K.</param>
    public static void Independent(ReadOnlySpan<float> variances, Span<double> factor)
    {
        factor.Clear();
        for (var i = 0; i < variances.Length; i++) factor[i * variances.Length + i] = Math.Sqrt(Math.Max(0, variances[i]));
    }

    /// <summary>Fills in the probability of each candidate; they sum to 1.</summary>
    /// <param name="means">φᵀw of each, K.</param>
    /// <param name="factor">L of their covariance, K × K by rows.</param>
    /// <param name="seed">Another one for each decision.</param>
    /// <param name="propensities">K.</param>
    public void Propensities(ReadOnlySpan<float> means, ReadOnlySpan<double> factor, ulong seed, Span<double> propensities)
    {
        var k = means.Length;
        if (k == 0 || factor.Length != k * k || propensities.Length != k) throw new ArgumentException($"{k} candidates take a factor of {k * k} and {k} propensities; here are {factor.Length} and {propensities.Length}");
        Span<double> scores = k <= 256 ? stackalloc double[k] : new double[k];
        propensities.Clear();
        if (Kind == ExplorationKind.Thompson)
        {
            Span<double> noise = k <= 256 ? stackalloc double[k] : new double[k];
            var random = new SeededRandom(seed);
            for (var m = 0; m < Draws; m++)
            {
                foreach (ref var normal in noise) normal = random.NextNormal();
                for (var i = 0; i < k; i++) scores[i] = means[i] + Alpha * TensorPrimitives.Dot(factor.Slice(i * k, i + 1), noise[..(i + 1)]);
                AddBest(scores, 1.0 / Draws, propensities);
            }
        }
        else
        {
            for (var i = 0; i < k; i++) scores[i] = means[i] + (Kind == ExplorationKind.LinUcb ? Alpha * TensorPrimitives.Norm(factor.Slice(i * k, i + 1)) : 0);
            AddBest(scores, 1, propensities);
        }
        foreach (ref var p in propensities) p = (1 - Epsilon) * p + Epsilon / k;
    }

    /// <summary>Fills in the propensities and draws from them: the same state and seed give the same choice, on every machine.</summary>
    /// <returns>The candidate.</returns>
    public int Choose(ReadOnlySpan<float> means, ReadOnlySpan<double> factor, ulong seed, Span<double> propensities)
    {
        Propensities(means, factor, seed, propensities);
        return new SeededRandom(~seed).Pick(propensities);
    }

    private static void AddBest(ReadOnlySpan<double> scores, double mass, Span<double> propensities)
    {
        var best = TensorPrimitives.Max(scores);
        var ties = scores.Count(best);
        for (var i = 0; i < scores.Length; i++)
        {
            if (scores[i] == best) propensities[i] += mass / ties;
        }
    }
}
