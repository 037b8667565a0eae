namespace Skiff.Cascades.Tuning;

/// <summary>What of a gate is fitted to labelled rows. Thresholds must then be certified on other rows.</summary>
public static class Fitting
{
    /// <summary>On standardised features, against rows of the order of a thousand: no more than keeps separable data finite.</summary>
    private const double Ridge = 1;

    /// <summary>
    /// The temperature T under which p^(1/T), scaled to sum to 1, gives the labels the largest likelihood (Guo et al. 2017), found on every other row; 1 unless the remaining rows are likelier
    /// under it too.
    /// </summary>
    /// <param name="probabilities">K for each row of the data.</param>
    /// <param name="rows">Those to look at.</param>
    public static double Temperature(ReadOnlySpan<float> probabilities, int classes, ReadOnlySpan<int> labels, ReadOnlySpan<int> rows)
    {
        // Golden section over ln T from 1/8 to 8; the likelihood has one maximum in 1/T.
        var golden = (Math.Sqrt(5) - 1) / 2;
        var (low, high) = (-Math.Log(8), Math.Log(8));
        for (var i = 0; i < 32; i++)
        {
            var (left, right) = (high - golden * (high - low), low + golden * (high - low));
            if (Loss(probabilities, classes, labels, rows, 0, Math.Exp(left)) < Loss(probabilities, classes, labels, rows, 0, Math.Exp(right))) high = right;
            else low = left;
        }
        var found = Math.Round(Math.Exp((low + high) / 2), 4);
        return Loss(probabilities, classes, labels, rows, 1, found) < Loss(probabilities, classes, labels, rows, 1, 1) ? found : 1;
    }

    /// <summary>Weights of a <see cref="LearnedGate"/>: logistic regression with a ridge, by Newton's method.</summary>
    /// <param name="probabilities">K for each row of the data.</param>
    /// <param name="handingOnHelps">For each row, whether the heaviest stage is right and this one wrong: what the gate should be unsure of.</param>
    /// <param name="rows">Those to look at.</param>
    public static double[] Weights(ReadOnlySpan<float> probabilities, int classes, ReadOnlySpan<bool> handingOnHelps, ReadOnlySpan<int> rows)
    {
        var d = LearnedGate.Count(classes);
        var x = new double[rows.Length * d];
        for (var i = 0; i < rows.Length; i++) LearnedGate.Features(probabilities.Slice(rows[i] * classes, classes), x.AsSpan(i * d, d));
        var (mean, scale) = Standardise(x, d);

        var w = new double[d];
        var gradient = new double[d];
        var hessian = new double[d * d];
        for (var step = 0; step < 100; step++)
        {
            Array.Clear(gradient);
            Array.Clear(hessian);
            for (var i = 0; i < rows.Length; i++)
            {
                var row = x.AsSpan(i * d, d);
                var sum = 0.0;
                for (var j = 0; j < d; j++) sum += w[j] * row[j];
                var p = 1 / (1 + Math.Exp(-sum));
                var residual = (handingOnHelps[rows[i]] ? 0 : 1) - p;
                for (var j = 0; j < d; j++)
                {
                    gradient[j] += residual * row[j];
                    for (var k = 0; k <= j; k++) hessian[j * d + k] += p * (1 - p) * row[j] * row[k];
                }
            }
            for (var j = 0; j < d; j++)
            {
                // The constant too, a little, so that rows of one kind only don't send it to infinity.
                var ridge = j == 0 ? 1e-3 : Ridge;
                gradient[j] -= ridge * w[j];
                hessian[j * d + j] += ridge;
            }
            SolveSymmetric(hessian, gradient, d);
            var longest = 0.0;
            for (var j = 0; j < d; j++) longest = Math.Max(longest, Math.Abs(gradient[j]));
            // A full step may overshoot far from the optimum; no coordinate goes further than 4 at a time.
            for (var j = 0; j < d; j++) w[j] += gradient[j] * Math.Min(1, 4 / longest);
            if (longest < 1e-9) break;
        }

        // Back to features as they come.
        for (var j = 1; j < d; j++)
        {
            w[j] /= scale[j];
            w[0] -= w[j] * mean[j];
        }
        return [.. w.Select(weight => Math.Round(weight, 6))];
    }

    /// <summary>Mean negative log-likelihood of the even (0) or odd (1) of the rows.</summary>
    private static double Loss(ReadOnlySpan<float> probabilities, int classes, ReadOnlySpan<int> labels, ReadOnlySpan<int> rows, int half, double temperature)
    {
        var total = 0.0;
        for (var i = half; i < rows.Length; i += 2)
        {
            var row = probabilities.Slice(rows[i] * classes, classes);
            double largest = 0, sum = 0;
            foreach (var p in row) largest = Math.Max(largest, p);
            foreach (var p in row) sum += Math.Pow(Math.Max(p, 1e-30) / largest, 1 / temperature);
            total -= Math.Log(Math.Max(row[labels[rows[i]]], 1e-30) / largest) / temperature - Math.Log(sum);
        }
        return total;
    }

    /// <summary>Each column but the first to mean 0 and variance 1; a constant one to 0.</summary>
    private static (double[] Mean, double[] Scale) Standardise(double[] x, int d)
    {
        var (mean, scale) = (new double[d], new double[d]);
        var n = x.Length / d;
        for (var j = 1; j < d; j++)
        {
            for (var i = 0; i < n; i++) mean[j] += x[i * d + j] / n;
            var variance = 0.0;
            for (var i = 0; i < n; i++) variance += (x[i * d + j] - mean[j]) * (x[i * d + j] - mean[j]) / n;
            scale[j] = variance > 1e-18 ? Math.Sqrt(variance) : 1;
            for (var i = 0; i < n; i++) x[i * d + j] = (x[i * d + j] - mean[j]) / scale[j];
        }
        return (mean, scale);
    }

    /// <summary>Solves Ax = b in the place of b, by Cholesky; A is symmetric, positive definite, its lower triangle is read and overwritten.</summary>
    private static void SolveSymmetric(double[] a, double[] b, int d)
    {
        for (var j = 0; j < d; j++)
        {
            for (var i = j; i < d; i++)
            {
                var sum = a[i * d + j];
                for (var k = 0; k < j; k++) sum -= a[i * d + k] * a[j * d + k];
                a[i * d + j] = i == j ? Math.Sqrt(sum) : sum / a[j * d + j];
            }
        }
        for (var i = 0; i < d; i++)
        {
            for (var k = 0; k < i; k++) b[i] -= a[i * d + k] * b[k];
            b[i] /= a[i * d + i];
        }
        for (var i = d - 1; i >= 0; i--)
        {
            for (var k = i + 1; k < d; k++) b[i] -= a[k * d + i] * b[k];
            b[i] /= a[i * d + i];
        }
    }
}
