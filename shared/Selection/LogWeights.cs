namespace Skiff.Selection;

/// <summary>
/// Weights kept as logarithms with the largest at 0. Weights themselves would only shrink until all of them are 0 and nothing can be learnt or normalised any more.
/// </summary>
internal static class LogWeights
{
    /// <summary>K weights that sum to 1.</summary>
    public static void ToWeights(ReadOnlySpan<float> logs, Span<double> weights)
    {
        var sum = 0.0;
        for (var i = 0; i < logs.Length; i++) sum += weights[i] = Math.Exp(logs[i]);
        for (var i = 0; i < logs.Length; i++) weights[i] /= sum;
    }

    /// <summary>Takes K new logarithms, which need not be normalised, after a fixed share: each weight hands on α of itself, to all alike.</summary>
    /// <param name="logs">K; changed.</param>
    public static void Store(Span<double> logs, double share, Span<float> stored)
    {
        var largest = double.NegativeInfinity;
        foreach (var log in logs) largest = Math.Max(largest, log);
        if (share > 0)
        {
            var sum = 0.0;
            foreach (ref var log in logs) sum += log = Math.Exp(log - largest);
            foreach (ref var log in logs) log = Math.Log((1 - share) * log / sum + share / logs.Length);
            largest = double.NegativeInfinity;
            foreach (var log in logs) largest = Math.Max(largest, log);
        }
        // Below -1e30 a weight is 0 whatever becomes of it; infinity could not be stored.
        for (var i = 0; i < logs.Length; i++) stored[i] = (float)Math.Max(logs[i] - largest, -1e30);
    }
}
