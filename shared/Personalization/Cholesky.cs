using System.Numerics.Tensors;

namespace Skiff.Personalization;

/// <summary>A = LLᵀ of small symmetric matrices in double precision: d³/6 multiplications to factor, d² to solve. L is d × d by rows, zeros above its diagonal.</summary>
public static class Cholesky
{
    /// <param name="matrix">A, d × d by rows; its lower triangle is read.</param>
    /// <param name="scale">What is factored is scale · A.</param>
    /// <exception cref="ArgumentException">The matrix is not positive definite.</exception>
    public static double[] Factor(ReadOnlySpan<double> matrix, int d, double scale = 1)
    {
        var lower = new double[d * d];
        for (var i = 0; i < matrix.Length; i++) lower[i] = scale * matrix[i];
        var pivot = FactorInPlace(lower, d);
        return pivot < 0 ? lower : throw new ArgumentException($"the matrix is not positive definite (pivot {pivot} is {lower[pivot * d + pivot]:g3})");
    }

    /// <summary>Whether a packed symmetric matrix is positive definite, seen by factoring it.</summary>
    /// <param name="packed">d (d + 1) / 2, the upper triangle by rows.</param>
    /// <param name="scratch">At least d × d.</param>
    public static bool IsPositiveDefinite(ReadOnlySpan<float> packed, int d, Span<double> scratch)
    {
        Unpack(packed, d, scratch);
        return FactorInPlace(scratch[..(d * d)], d) < 0;
    }

    /// <summary>Factors a matrix that may have lost rank, such as the covariance of scores two of which are one: a direction without variance gets a column of zeros.</summary>
    /// <param name="matrix">K × K by rows on entry, L on return.</param>
    public static void FactorSemidefinite(Span<double> matrix, int k)
    {
        for (var j = 0; j < k; j++)
        {
            var pivot = matrix[j * k + j] - TensorPrimitives.Dot<double>(matrix.Slice(j * k, j), matrix.Slice(j * k, j));
            // What is left of a diagonal after cancellation, in float32 inputs.
            var root = pivot > 1e-6 * matrix[j * k + j] ? Math.Sqrt(pivot) : 0;
            for (var i = j + 1; i < k; i++)
            {
                var sum = matrix[i * k + j] - TensorPrimitives.Dot<double>(matrix.Slice(i * k, j), matrix.Slice(j * k, j));
                matrix[i * k + j] = root > 0 ? sum / root : 0;
                matrix[j * k + i] = 0;
            }
            matrix[j * k + j] = root;
        }
    }

    /// <summary>x of LLᵀx = b.</summary>
    /// <param name="lower">L, d × d.</param>
    /// <param name="vector">b on entry, x on return, d.</param>
    public static void Solve(ReadOnlySpan<double> lower, int d, Span<double> vector)
    {
        for (var i = 0; i < d; i++) vector[i] = (vector[i] - TensorPrimitives.Dot<double>(lower.Slice(i * d, i), vector[..i])) / lower[i * d + i];
        for (var i = d - 1; i >= 0; i--)
        {
            var sum = vector[i];
            for (var j = i + 1; j < d; j++) sum -= lower[j * d + i] * vector[j];
            vector[i] = sum / lower[i * d + i];
        }
    }

    /// <summary>(LLᵀ)⁻¹, packed: column c of L⁻¹ by forward substitution, then L⁻ᵀL⁻¹.</summary>
    public static float[] InvertPacked(ReadOnlySpan<double> lower, int d)
    {
        var inverse = new double[d * d]; // by columns of L⁻¹: inverse[c * d + r]
        for (var c = 0; c < d; c++)
        {
            for (var r = c; r < d; r++)
            {
                var sum = (r == c ? 1.0 : 0.0) - TensorPrimitives.Dot<double>(lower.Slice(r * d + c, r - c), inverse.AsSpan(c * d + c, r - c));
                inverse[c * d + r] = sum / lower[r * d + r];
            }
        }
        var packed = new float[RidgeHead.PackedLength(d)];
        for (int i = 0, at = 0; i < d; i++)
        {
            for (var j = i; j < d; j++) packed[at++] = (float)TensorPrimitives.Dot<double>(inverse.AsSpan(i * d + j, d - j), inverse.AsSpan(j * d + j, d - j));
        }
        return packed;
    }

    /// <summary>The whole d × d matrix of a packed one.</summary>
    public static void Unpack(ReadOnlySpan<float> packed, int d, Span<double> matrix)
    {
        for (int i = 0, at = 0; i < d; i++)
        {
            for (var j = i; j < d; j++, at++) matrix[i * d + j] = matrix[j * d + i] = packed[at];
        }
    }

    /// <returns>The first pivot that is not positive, left on the diagonal; -1 when the matrix is positive definite and L stands in its place.</returns>
    private static int FactorInPlace(Span<double> matrix, int d)
    {
        for (var i = 0; i < d; i++)
        {
            for (var j = 0; j <= i; j++)
            {
                var sum = matrix[i * d + j] - TensorPrimitives.Dot<double>(matrix.Slice(i * d, j), matrix.Slice(j * d, j));
                if (i != j) matrix[i * d + j] = sum / matrix[j * d + j];
                else if (sum > 0) matrix[i * d + i] = Math.Sqrt(sum);
                else
                {
                    matrix[i * d + i] = sum;
                    return i;
                }
            }
            matrix.Slice(i * d + i + 1, d - i - 1).Clear();
        }
        return -1;
    }
}
