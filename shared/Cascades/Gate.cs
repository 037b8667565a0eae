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

    /// <summary>A logistic function of the sorted probabilities, see <see cref="LearnedGate"/>: the chance that handing on would not help.</summary>
    Learned,
}

/// <summary>Decides whether a stage answers or says "I don't know": it answers when its confidence is at least <paramref name="At"/>. All confidences lie in [0, 1].</summary>
public sealed record Gate(GateOn On, double At)
{
    /// <summary>Of a learned gate, in the order of <see cref="LearnedGate.Features"/>; null for any other.</summary>
    public IReadOnlyList<double>? Weights { get; set; }

    /// <summary>The gate looks at p^(1/T), scaled to sum to 1, rather than at p; null is 1. The answer keeps its own probabilities.</summary>
    public double? Temperature { get; set; }

    /// <param name="probabilities">K class probabilities that sum to 1.</param>
    public bool Answers(ReadOnlySpan<float> probabilities) => Confidence(probabilities) >= At;

    public float Confidence(ReadOnlySpan<float> probabilities)
    {
        if (Temperature is not { } temperature || temperature == 1) return Look(probabilities);
        var tempered = probabilities.Length <= 256 ? stackalloc float[probabilities.Length] : new float[probabilities.Length];
        TensorPrimitives.Pow(probabilities, (float)(1 / temperature), tempered);
        TensorPrimitives.Divide(tempered, TensorPrimitives.Sum<float>(tempered), tempered);
        return Look(tempered);
    }

    private float Look(ReadOnlySpan<float> probabilities) => On switch
    {
        GateOn.MaxSoftmax => TensorPrimitives.Max(probabilities),
        GateOn.Margin => Margin(probabilities),
        GateOn.Entropy => Certainty(probabilities),
        GateOn.Learned => LearnedGate.Confidence(probabilities, Weights ?? throw new InvalidOperationException("a learned gate has weights")),
        _ => throw new InvalidOperationException($"no such gate: {On}"),
    };

    internal static float Margin(ReadOnlySpan<float> probabilities)
    {
        float first = 0, second = 0;
        foreach (var p in probabilities)
        {
            if (p > first) (first, second) = (p, first);
            else if (p > second) second = p;
        }
        return first - second;
    }

    internal static float Certainty(ReadOnlySpan<float> probabilities)
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
