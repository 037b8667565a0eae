using System.Numerics.Tensors;

namespace Skiff.Cascades;

/// <summary>What a gate looks at.</summary>
public enum GateOn
{
    /// <summary>The largest probability.</summary>
    MaxSoftmax,

    /// <summary>The largest probability less the second largest.</summary>
    Margin,

    /// <summary>1 − H(p)/ln K: 1 when one class has it all, 0 when all are equal.</summary>
    Entropy,
}

/// <summary>Decides whether a stage answers or says "I don't know": it answers when its confidence is at least <paramref name="At"/>. All confidences lie in [0, 1].</summary>
public sealed record Gate(GateOn On, double At)
{
    /// <param name="probabilities">K class probabilities that sum to 1.</param>
    public bool Answers(ReadOnlySpan<float> probabilities) => Confidence(probabilities) >= At;

    public float Confidence(ReadOnlySpan<float> probabilities) => On switch
    {
        GateOn.MaxSoftmax => TensorPrimitives.Max(probabilities),
        GateOn.Margin => Margin(probabilities),
        GateOn.Entropy => Certainty(probabilities),
        _ => throw new InvalidOperationException($"no such gate: {On}"),
    };

    private static float Margin(ReadOnlySpan<float> probabilities)
    {
        float first = 0, second = 0;
        foreach (var p in probabilities)
        {
            if (p > first) (first, second) = (p, first);
            else if (p > second) second = p;
        }
        return first - second;
    }

    private static float Certainty(ReadOnlySpan<float> probabilities)
    {
        if (probabilities.Length < 2) return 1;
        var entropy = 0.0;
        foreach (var p in probabilities)
        {
            if (p > 0) entropy -= p * Math.Log(p);
        }
        return (float)(1 - entropy / Math.Log(probabilities.Length));
    }
}
