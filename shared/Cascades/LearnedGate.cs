namespace Skiff.Cascades;

/// <summary>
/// A gate that is fitted: the logistic function of a weighted sum over a constant 1, the logarithms of the three largest probabilities (of two, where there are two classes),
/// their margin and their certainty. Which classes they are of does not matter.
/// </summary>
public static class LearnedGate
{
    private const int Largest = 3;

    // A float's softmax reaches 0; its logarithm must not be infinite.
    private const double Least = 1e-7;

    /// <returns>How many weights a gate over so many classes has.</returns>
    public static int Count(int classes) => 1 + Math.Min(Largest, classes) + 2;

    /// <param name="probabilities">K class probabilities.</param>
    /// <param name="features"><see cref="Count"/> numbers: 1, ln p₁, ln p₂, ln p₃ from the largest down, p₁ − p₂, 1 − H(p)/ln K.</param>
    public static void Features(ReadOnlySpan<float> probabilities, Span<double> features)
    {
        Span<float> sorted = stackalloc float[Largest];
        sorted.Clear();
        foreach (var p in probabilities)
        {
            if (p > sorted[0]) (sorted[0], sorted[1], sorted[2]) = (p, sorted[0], sorted[1]);
            else if (p > sorted[1]) (sorted[1], sorted[2]) = (p, sorted[1]);
            else if (p > sorted[2]) sorted[2] = p;
        }
        features[0] = 1;
        var largest = Math.Min(Largest, probabilities.Length);
        for (var i = 0; i < largest; i++) features[1 + i] = Math.Log(Math.Max(sorted[i], Least));
        features[largest + 1] = sorted[0] - sorted[1];
        features[largest + 2] = Gate.Certainty(probabilities);
    }

    public static float Confidence(ReadOnlySpan<float> probabilities, IReadOnlyList<double> weights)
    {
        // Comparisons with not-a-number are false, so it would pass for probability 0; whoever is asked next may do better.
        foreach (var p in probabilities)
        {
            if (float.IsNaN(p)) return float.NaN;
        }
        Span<double> features = stackalloc double[Largest + 3];
        features = features[..Count(probabilities.Length)];
        Features(probabilities, features);
        var sum = 0.0;
        for (var i = 0; i < features.Length; i++) sum += weights[i] * features[i];
        return (float)(1 / (1 + Math.Exp(-sum)));
    }
}
