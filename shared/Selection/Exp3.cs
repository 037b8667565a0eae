namespace Skiff.Selection;

/// <summary>
/// Exp3 (Auer, Cesa-Bianchi, Freund, Schapire 2002) in Clipper's form, over losses: one model runs, one loss is seen. p = (1 − γ) s/Σs + γ/K; of the drawn arm alone ln s −= η ℓ/p.
/// Assumes nothing of where losses come from, so it leaves a model that breaks.
/// </summary>
public sealed record Exp3 : Policy
{
    /// <summary>η.</summary>
    public double LearningRate { get; init => field = Within(value, 1e-6, 10, nameof(LearningRate)); } = 0.2;

    /// <summary>γ: the part of the choices that is spread evenly.</summary>
    public double Exploration { get; init => field = Within(value, 1e-6, 1, nameof(Exploration)); } = 0.03;

    /// <summary>
    /// α of a fixed share (Exp3.S). It costs a little all the time, and bounds the lead that a model can build up, which is the time it takes to see that it broke.
    /// </summary>
    public double Share { get; init => field = Within(value, 0, 1, nameof(Share)); } = 1e-5;

    public override PolicyKind Kind => PolicyKind.Exp3;

    private protected override void FillPropensities(PolicyState state, ulong seed, Span<double> propensities)
    {
        LogWeights.ToWeights(state.Values, propensities);
        foreach (ref var p in propensities) p = (1 - Exploration) * p + Exploration / state.Arms;
    }

    private protected override void Update(PolicyState state, int action, double loss, double propensity)
    {
        Span<double> logs = stackalloc double[state.Arms];
        for (var i = 0; i < logs.Length; i++) logs[i] = state.Values[i];
        logs[action] -= LearningRate * loss / propensity;
        LogWeights.Store(logs, Share, state.Values);
    }
}
