using System.Numerics.Tensors;

namespace Skiff.Personalization;

/// <summary>
/// The head for large d: of P only the diagonal is kept, d floats and O(d K) an update. Each update is the exact one of <see cref="RidgeHead"/> from a diagonal P, of whose result the variances are kept
/// and the covariances dropped (assumed density filtering; adPredictor, Graepel et al., ICML 2010). Features that go together then share what they explain instead of being told apart.
/// </summary>
public static class DiagonalHead
{
    /// <summary>v = P ∘ φ, s = 1 + φᵀv, P ← P − v ∘ v/s, w_k ← w_k + v (target_k − φᵀw_k)/s.</summary>
    /// <param name="weights">K × d, changed in place.</param>
    /// <param name="variances">The diagonal of P, d, changed in place.</param>
    /// <param name="features">φ, d.</param>
    /// <param name="residuals">K; target − base on entry, what was left of it before the update on return.</param>
    /// <param name="scratch">At least d floats.</param>
    public static void Update(Span<float> weights, Span<float> variances, ReadOnlySpan<float> features, Span<float> residuals, Span<float> scratch)
    {
        var d = features.Length;
        var v = scratch[..d];
        var scale = 1 / (1 + Variance(variances, features, v));
        for (var k = 0; k < residuals.Length; k++)
        {
            var w = weights.Slice(k * d, d);
            residuals[k] -= TensorPrimitives.Dot(w, features);
            TensorPrimitives.MultiplyAdd(v, residuals[k] * scale, w, w);
        }
        // 1 − P φ²/s is positive, as s is 1 and a sum that Pφ² is part of; computed as a product it stays so after rounding.
        TensorPrimitives.Multiply(v, features, v);
        TensorPrimitives.Multiply(v, -scale, v);
        TensorPrimitives.Add(v, 1f, v);
        TensorPrimitives.Max(v, float.Epsilon, v);
        TensorPrimitives.Multiply(variances, v, variances);
    }

    /// <summary>φᵀPφ; <paramref name="scratch"/> holds Pφ on return.</summary>
    public static float Variance(ReadOnlySpan<float> variances, ReadOnlySpan<float> features, Span<float> scratch)
    {
        var v = scratch[..features.Length];
        TensorPrimitives.Multiply(variances, features, v);
        return TensorPrimitives.Dot(v, features);
    }

    /// <summary>1/P ← γ/P + (1 − γ)/P₀: forgets towards the prior's certainty, never beyond it.</summary>
    public static void Forget(Span<float> variances, ReadOnlySpan<float> initial, double gamma)
    {
        for (var i = 0; i < variances.Length; i++) variances[i] = (float)(1 / (gamma / variances[i] + (1 - gamma) / initial[i]));
    }
}
