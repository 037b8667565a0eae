using System.Numerics.Tensors;

namespace Skiff.Selection;

/// <summary>A bin of a reliability table: how sure the answers in it were on average, and how many of them were right.</summary>
public readonly record struct ReliabilityBin(int Count, double MeanConfidence, double Accuracy);

/// <summary>How far probabilities can be believed.</summary>
public static class Calibration
{
    /// <summary>What a probability of 0 for the true class is taken for: ln 0 would drown all else.</summary>
    private const float LeastProbability = 1e-12f;

    /// <summary>Mean negative log-likelihood of the true classes, in nats.</summary>
    /// <param name="probabilities">N × C.</param>
    /// <param name="labels">N classes.</param>
    public static double NegativeLogLikelihood(ReadOnlySpan<float> probabilities, ReadOnlySpan<int> labels)
    {
        var classes = probabilities.Length / labels.Length;
        var sum = 0.0;
        for (var i = 0; i < labels.Length; i++) sum -= Math.Log(Math.Max(probabilities[i * classes + labels[i]], LeastProbability));
        return sum / labels.Length;
    }

    /// <summary>Each row's largest probability, and whether its class is the label.</summary>
    /// <param name="probabilities">N × C.</param>
    /// <param name="labels">N classes.</param>
    public static (float[] Confidences, bool[] Correct) TopLabel(ReadOnlySpan<float> probabilities, ReadOnlySpan<int> labels)
    {
        var classes = probabilities.Length / labels.Length;
        var confidences = new float[labels.Length];
        var correct = new bool[labels.Length];
        for (var i = 0; i < labels.Length; i++)
        {
            var row = probabilities.Slice(i * classes, classes);
            var top = TensorPrimitives.IndexOfMax(row);
            confidences[i] = row[top];
            correct[i] = top == labels[i];
        }
        return (confidences, correct);
    }

    /// <summary>Expected calibration error: Σ (n_b / n) |accuracy_b − mean confidence_b| over the bins (Naeini et al. 2015; Guo et al. 2017 with 15 of equal width).</summary>
    public static double ExpectedError(ReadOnlySpan<ReliabilityBin> bins)
    {
        double sum = 0, count = 0;
        foreach (var bin in bins)
        {
            count += bin.Count;
            if (bin.Count > 0) sum += bin.Count * Math.Abs(bin.Accuracy - bin.MeanConfidence);
        }
        return count == 0 ? 0 : sum / count;
    }

    /// <summary>Bins (0, 1/B], … ((B − 1)/B, 1]; empty ones have no accuracy (NaN).</summary>
    public static ReliabilityBin[] EqualWidth(ReadOnlySpan<float> confidences, ReadOnlySpan<bool> correct, int bins = 15)
    {
        var counts = new int[bins];
        var sums = new double[bins];
        var hits = new int[bins];
        for (var i = 0; i < confidences.Length; i++)
        {
            var bin = Math.Clamp((int)Math.Ceiling(confidences[i] * (double)bins) - 1, 0, bins - 1);
            counts[bin]++;
            sums[bin] += confidences[i];
            if (correct[i]) hits[bin]++;
        }
        return [.. counts.Select((count, b) => new ReliabilityBin(count, sums[b] / count, (double)hits[b] / count))];
    }

    /// <summary>Bins of about N/B answers each, from the least sure on; answers that are equally sure stay together, so there may be fewer bins.</summary>
    public static ReliabilityBin[] EqualMass(ReadOnlySpan<float> confidences, ReadOnlySpan<bool> correct, int bins = 15)
    {
        var sorted = confidences.ToArray();
        var hits = correct.ToArray();
        Array.Sort(sorted, hits);
        var made = new List<ReliabilityBin>(bins);
        for (var start = 0; start < sorted.Length;)
        {
            var end = Math.Max(start + 1, (int)((long)sorted.Length * (made.Count + 1) / bins));
            while (end < sorted.Length && sorted[end] == sorted[end - 1]) end++;
            double sum = 0;
            var right = 0;
            for (var i = start; i < end; i++)
            {
                sum += sorted[i];
                if (hits[i]) right++;
            }
            made.Add(new ReliabilityBin(end - start, sum / (end - start), (double)right / (end - start)));
            start = end;
        }
        return [.. made];
    }
}
