using System.Numerics.Tensors;

namespace Skiff.Personalization;

/// <summary>
/// Online ridge regression, the head of Velox (Crankshaw et al., CIDR 2015), by Sherman–Morrison: O(d²) an update and exactly the batch solution.
/// The d × d matrix P = (A₀ + Σ φφᵀ)⁻¹ is symmetric; its upper triangle is kept packed by rows, d (d + 1) / 2 floats. One P serves all K outputs, because they share φ.
/// </summary>
public static class RidgeHead
{
    /// <summary>Floats of a packed d × d matrix.</summary>
    public static int PackedLength(int d) => d * (d + 1) / 2;

    /// <summary>y_k = base_k + φᵀw_k.</summary>
    /// <param name="weights">K × d, an output a row.</param>
    /// <param name="features">d.</param>
    /// <param name="scores">K; holds base on entry, y on return.</param>
    public static void Score(ReadOnlySpan<float> weights, ReadOnlySpan<float> features, Span<float> scores)
    {
        var d = features.Length;
        for (var k = 0; k < scores.Length; k++) scores[k] += TensorPrimitives.Dot(weights.Slice(k * d, d), features);
    }

    /// <summary>
    /// Learns one example: v = Pφ, s = 1 + φᵀv, P ← P − vvᵀ/s, w_k ← w_k + v (target_k − base_k − φᵀw_k)/s, with the old P in v.
    /// </summary>
    /// <param name="weights">K × d, changed in place.</param>
    /// <param name="covariance">P, packed, changed in place.</param>
    /// <param name="features">φ, d.</param>
    /// <param name="residuals">K; target − base on entry, what was left of it before the update on return.</param>
    /// <param name="scratch">At least d floats.</param>
    public static void Update(Span<float> weights, Span<float> covariance, ReadOnlySpan<float> features, Span<float> residuals, Span<float> scratch)
    {
        var d = features.Length;
        var v = scratch[..d];
        Multiply(covariance, features, v);
        var scale = 1 / (1 + TensorPrimitives.Dot(features, v));
        for (var k = 0; k < residuals.Length; k++)
        {
            var w = weights.Slice(k * d, d);
            residuals[k] -= TensorPrimitives.Dot(w, features);
            TensorPrimitives.MultiplyAdd(v, residuals[k] * scale, w, w);
        }
        Subtract(covariance, v, scale);
    }

    /// <summary>product = Pφ for a packed symmetric P.</summary>
    public static void Multiply(ReadOnlySpan<float> packed, ReadOnlySpan<float> features, Span<float> product)
    {
        var d = features.Length;
        product.Clear();
        for (int i = 0, at = 0; i < d; at += d - i, i++)
        {
            var row = packed.Slice(at, d - i);
            // The row stands for its half above the diagonal and, mirrored, for the half below.
            var upper = TensorPrimitives.Dot(row, features[i..]);
            var rest = product[(i + 1)..];
            TensorPrimitives.MultiplyAdd(row[1..], features[i], rest, rest);
            product[i] += upper;
        }
    }

    /// <summary>φᵀPφ: how unsure the head is of φᵀw, in units of the noise's variance.</summary>
    /// <param name="scratch">At least d floats; holds Pφ on return.</param>
    public static float Variance(ReadOnlySpan<float> covariance, ReadOnlySpan<float> features, Span<float> scratch)
    {
        var v = scratch[..features.Length];
        Multiply(covariance, features, v);
        return TensorPrimitives.Dot(features, v);
    }

    /// <summary>
    /// Fades all evidence by γ: P ← P/γ. Of itself it has no bound: where no example comes, P grows until it overflows. Either fade for a few updates only, or <see cref="Anchor"/> after each.
    /// </summary>
    public static void Fade(Span<float> covariance, double gamma) => TensorPrimitives.Multiply(covariance, (float)(1 / gamma), covariance);

    /// <summary>
    /// Gives back, for one column l of L in A₀ = LLᵀ, what fading took of the prior's certainty: A ← A + weight · llᵀ, by Sherman–Morrison. One column an update, in turn, with weight d (1 − γ), makes
    /// A ← γA + (1 − γ)A₀ + φφᵀ over every d updates at O(d²) each; so P stays positive definite and below about P₀ where no example comes (dead features), for ever.
    /// The weights stay: the pseudo-example asks for what the head says already (levelled regularisation: Gunnarsson, "Combining tracking and regularization in recursive least squares identification", CDC 1996).
    /// </summary>
    /// <param name="column">l from its diagonal down, d − first numbers; zeros before.</param>
    /// <param name="first">Which column.</param>
    /// <param name="scratch">At least 2 d floats.</param>
    public static void Anchor(Span<float> covariance, ReadOnlySpan<float> column, int first, float weight, Span<float> scratch)
    {
        var d = first + column.Length;
        var l = scratch.Slice(d, d);
        l[..first].Clear();
        TensorPrimitives.Multiply(column, MathF.Sqrt(weight), l[first..]);
        var variance = Variance(covariance, l, scratch);
        Subtract(covariance, scratch[..d], 1 / (1 + variance));
    }

    /// <summary>P ← P − vvᵀ · scale.</summary>
    private static void Subtract(Span<float> covariance, ReadOnlySpan<float> v, float scale)
    {
        for (int i = 0, at = 0; i < v.Length; at += v.Length - i, i++)
        {
            var row = covariance.Slice(at, v.Length - i);
            TensorPrimitives.MultiplyAdd(v[i..], -v[i] * scale, row, row);
        }
    }

    /// <summary>P₀ = (κ G)⁻¹, packed, by Cholesky in double precision.</summary>
    /// <param name="gram">G, d × d by rows, symmetric positive definite.</param>
    /// <exception cref="ArgumentException">G is not positive definite.</exception>
    public static float[] InvertScaled(ReadOnlySpan<double> gram, int d, double strength) => Cholesky.InvertPacked(Cholesky.Factor(gram, d, strength), d);
}
