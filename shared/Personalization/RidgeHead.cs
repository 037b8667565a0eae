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
        for (int i = 0, at = 0; i < d; at += d - i, i++)
        {
            var row = covariance.Slice(at, d - i);
            TensorPrimitives.MultiplyAdd(v[i..], -v[i] * scale, row, row);
        }
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

    /// <summary>P₀ = (κ G)⁻¹, packed, by Cholesky in double precision.</summary>
    /// <param name="gram">G, d × d by rows, symmetric positive definite.</param>
    /// <exception cref="ArgumentException">G is not positive definite.</exception>
    public static float[] InvertScaled(ReadOnlySpan<double> gram, int d, double strength)
    {
        var lower = new double[d * d];
        for (var i = 0; i < d; i++)
        {
            for (var j = 0; j <= i; j++)
            {
                var sum = strength * gram[i * d + j] - TensorPrimitives.Dot<double>(lower.AsSpan(i * d, j), lower.AsSpan(j * d, j));
                if (i == j)
                {
                    if (!(sum > 0)) throw new ArgumentException($"the matrix is not positive definite (pivot {i} is {sum:g3})");
                    lower[i * d + i] = Math.Sqrt(sum);
                }
                else lower[i * d + j] = sum / lower[j * d + j];
            }
        }

        // Column c of the inverse of L by forward substitution, then P = L⁻ᵀL⁻¹.
        var inverse = new double[d * d]; // by columns of L⁻¹: inverse[c * d + r]
        for (var c = 0; c < d; c++)
        {
            for (var r = c; r < d; r++)
            {
                var sum = r == c ? 1.0 : 0.0;
                for (var k = c; k < r; k++) sum -= lower[r * d + k] * inverse[c * d + k];
                inverse[c * d + r] = sum / lower[r * d + r];
            }
        }
        var packed = new float[PackedLength(d)];
        for (int i = 0, at = 0; i < d; i++)
        {
            for (var j = i; j < d; j++) packed[at++] = (float)TensorPrimitives.Dot<double>(inverse.AsSpan(i * d + j, d - j), inverse.AsSpan(j * d + j, d - j));
        }
        return packed;
    }
}
