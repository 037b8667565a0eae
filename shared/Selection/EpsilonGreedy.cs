namespace Skiff.Selection;

/// <summary>
/// The action with the smallest mean loss, except that a part ε of the choices is spread evenly. Actions that were never tried count as never having failed, so all are tried once.
/// </summary>
public sealed record EpsilonGreedy : Policy
{
    /// <summary>ε.</summary>
    public double Epsilon { get; init => field = Within(value, 0, 1, nameof(Epsilon)); } = 0.02;

    /// <summary>How far a mean moves towards each new loss once it has seen 1/step of them; 0 for the plain mean, which a break moves ever more slowly.</summary>
    public double LeastStep { get; init => field = Within(value, 0, 1, nameof(LeastStep)); } = 0.1;

    public override PolicyKind Kind => PolicyKind.EpsilonGreedy;

    private protected override void FillPropensities(PolicyState state, ulong seed, Span<double> propensities)
    {
        var means = state.Values.AsSpan(0, state.Arms);
        var least = float.PositiveInfinity;
        foreach (var mean in means) least = Math.Min(least, mean);
        var best = means.Count(least);
        for (var i = 0; i < means.Length; i++) propensities[i] = Epsilon / state.Arms + (means[i] == least ? (1 - Epsilon) / best : 0);
    }

    private protected override void Update(PolicyState state, int action, double loss, double propensity)
    {
        ref var mean = ref state.Values[action];
        ref var count = ref state.Values[state.Arms + action];
        // A float counts to 2²⁴ and then stays there: from then on the step does too.
        count++;
        mean = (float)(mean + Math.Max(1.0 / count, LeastStep) * (loss - mean));
    }
}
