using System.Numerics.Tensors;

namespace Skiff.Selection;

/// <summary>
/// Temperature scaling (Guo et al. 2017): p ∝ p^(1/T), one number fitted on held-out data. T above 1 makes answers less sure; the order of the classes stays. On probabilities rather than logits, which differ
/// from their logarithms by a constant a row only, so that the mean of an ensemble can be scaled as well as a model.
/// </summary>
public static class Temperature
{
    public const double Least = 0.05;
    public const double Most = 20;

    /// <summary>ln of the least probability told from 0.</summary>
    private const float LeastLog = -100;

    private const int Bisections = 40;

    /// <summary>Scales rows in place.</summary>
    /// <param name="probabilities">N × C.</param>
    public static void Apply(Span<float> probabilities, int classes, double temperature)
    {
        for (; !probabilities.IsEmpty; probabilities = probabilities[classes..])
        {
            var row = probabilities[..classes];
            TensorPrimitives.Log(row, row);
            TensorPrimitives.Max(row, LeastLog, row);
            TensorPrimitives.Subtract(row, TensorPrimitives.Max<float>(row), row);
            TensorPrimitives.Multiply(row, (float)(1 / temperature), row);
            TensorPrimitives.SoftMax<float>(row, row);
        }
    }

    /// <summary>
    /// The temperature nearest to 1 whose negative log-likelihood is within so many standard errors (of the paired differences) of the least: what the data do not ask for is left as it is, since
    /// the data to come are never quite those that were fitted on. The likelihood is convex in β = 1/T with slope mean(E_β[z] − z_label), z = ln p, so bisection of ln β finds both.
    /// </summary>
    /// <param name="probabilities">N × C, of data that the model was not trained on.</param>
    /// <param name="labels">N classes.</param>
    /// <param name="standardErrors">1.96 for what can be told at 95% confidence; 0 for the least itself.</param>
    /// <returns>T in [<see cref="Least"/>, <see cref="Most"/>]: an end where the likelihood rises up to it, as it does without end when every answer is right.</returns>
    public static double Fit(ReadOnlySpan<float> probabilities, ReadOnlySpan<int> labels, double standardErrors = 1.96)
    {
        if (labels.IsEmpty || probabilities.Length % labels.Length != 0) throw new ArgumentException($"{probabilities.Length} probabilities are not rows for {labels.Length} labels", nameof(labels));
        var classes = probabilities.Length / labels.Length;
        var logs = new float[probabilities.Length];
        TensorPrimitives.Log(probabilities, logs);
        for (var i = 0; i < labels.Length; i++)
        {
            var row = logs.AsSpan(i * classes, classes);
            TensorPrimitives.Max(row, LeastLog, row);
            TensorPrimitives.Subtract(row, TensorPrimitives.Max<float>(row), row);
        }

        // The middle of the first interval is ln 1.
        double low = -Math.Log(Most), high = -Math.Log(Least);
        for (var i = 0; i < Bisections; i++)
        {
            var middle = (low + high) / 2;
            if (Slope(logs, labels, classes, Math.Exp(middle)) < 0) low = middle;
            else high = middle;
        }
        var best = (low + high) / 2;
        if (standardErrors <= 0) return Math.Exp(-best);

        var least = Losses(logs, labels, classes, Math.Exp(best));
        if (IsWithin(Losses(logs, labels, classes, 1))) return 1;
        double near = 0, far = best;
        for (var i = 0; i < Bisections; i++)
        {
            var middle = (near + far) / 2;
            if (IsWithin(Losses(logs, labels, classes, Math.Exp(middle)))) far = middle;
            else near = middle;
        }
        return Math.Exp(-far);

        bool IsWithin(double[] differences)
        {
            TensorPrimitives.Subtract(differences, least, differences);
            double n = differences.Length, mean = TensorPrimitives.Sum<double>(differences) / n;
            var variance = TensorPrimitives.SumOfSquares<double>(differences) / n - mean * mean;
            return mean <= standardErrors * Math.Sqrt(Math.Max(0, variance) / n);
        }
    }

    /// <summary>Each row's negative log-likelihood.</summary>
    private static double[] Losses(ReadOnlySpan<float> logs, ReadOnlySpan<int> labels, int classes, double beta)
    {
        var losses = new double[labels.Length];
        for (var i = 0; i < losses.Length; i++)
        {
            var row = logs.Slice(i * classes, classes);
            var mass = 0.0;
            foreach (var z in row) mass += Math.Exp(beta * z);
            losses[i] = Math.Log(mass) - beta * row[labels[i]];
        }
        return losses;
    }

    /// <summary>The derivative of the negative log-likelihood in β, summed over the rows.</summary>
    private static double Slope(ReadOnlySpan<float> logs, ReadOnlySpan<int> labels, int classes, double beta)
    {
        var slope = 0.0;
        for (var i = 0; i < labels.Length; i++)
        {
            var row = logs.Slice(i * classes, classes);
            double mass = 0, moment = 0;
            foreach (var z in row)
            {
                var e = Math.Exp(beta * z);
                mass += e;
                moment += e * z;
            }
            slope += moment / mass - row[labels[i]];
        }
        return slope;
    }
}
