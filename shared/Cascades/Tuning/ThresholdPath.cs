namespace Skiff.Cascades.Tuning;

/// <summary>
/// A line of threshold vectors from safest to boldest, fixed before any label is seen: at boldness c the k-th of its gates answers from 1 − 2ᵏc on (never below 0). The first gate is the strictest,
/// because what it lets out nobody looks at again.
/// </summary>
/// <param name="Stages">Which stages of the app take part, in order; the last is the heaviest.</param>
/// <param name="Share">Of the risk of a wrong certificate, what this path may use up.</param>
public sealed record ThresholdPath(IReadOnlyList<int> Stages, double Share)
{
    private const int Points = 64;
    private const double Safest = 1.0 / 2048;

    /// <summary>Of the risk, what goes to the path through all stages; those that leave one out share the rest.</summary>
    private const double ThroughAll = 0.8;

    /// <summary>The boldness of each point: from 1/2048 to 1, each an eighth more than the one before. At 1 the first stage answers everything.</summary>
    public static IReadOnlyList<double> Boldness { get; } = [.. Enumerable.Range(0, Points).Select(i => Math.Pow(Safest, 1 - i / (Points - 1.0)))];

    public double[] Thresholds(double boldness) => [.. Enumerable.Range(0, Stages.Count - 1).Select(k => Math.Round(Math.Max(0, 1 - Math.ScaleB(boldness, k)), 6))];

    /// <summary>The path through all stages and, where something is left then, those that leave out one of them other than the heaviest: an unfit stage need not cost the rest.</summary>
    public static IReadOnlyList<ThresholdPath> Through(int stages)
    {
        var all = Enumerable.Range(0, stages).ToArray();
        if (stages < 3) return [new ThresholdPath(all, 1)];
        return [new ThresholdPath(all, ThroughAll), .. all[..^1].Select(left => new ThresholdPath([.. all.Where(stage => stage != left)], (1 - ThroughAll) / (stages - 1)))];
    }
}
