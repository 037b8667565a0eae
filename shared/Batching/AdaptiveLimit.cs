namespace Skiff.Batching;

/// <summary>
/// How many rows a batch may have, found by additive increase and multiplicative decrease (Clipper, Crankshaw et al., NSDI 2017, §4.3): while full batches run well within their time, two more;
/// near it, as many; beyond it, a tenth less. A row waits for the run under way and then for its own, so the time of a run is half the objective.
/// </summary>
public sealed class AdaptiveLimit(int most)
{
    /// <summary>Rows; at least 1.</summary>
    public int Rows { get; private set; } = 1;

    /// <param name="isFull">Whether the limit was what closed the batch: one that could not grow tells nothing of a larger one.</param>
    /// <param name="run">How long it ran.</param>
    /// <param name="objective">The nearest of its requests'.</param>
    public void Ran(bool isFull, TimeSpan run, TimeSpan objective)
    {
        var share = run / (objective / 2);
        if (share >= 1) Rows = Math.Max(1, Rows * 9 / 10);
        else if (share < 0.9 && isFull) Rows = Math.Min(most, Rows + 2);
    }
}
