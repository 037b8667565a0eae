namespace Skiff.Selection;

/// <summary>
/// Weights over the members of an ensemble. Where every member ran and the truth is known, every member's loss is, and this is Hedge (Freund and Schapire 1997): w ∝ w e^(−ηℓ), not divided by any
/// probability. Where only the answer's loss is known, ℓ/p of the answer goes to the members in the measure in which they advised it: Exp4 (Auer et al. 2002). After each update a fixed
/// share α of the weights is spread evenly (Herbster and Warmuth 1998), so that no member falls so low that it can't come back.
/// </summary>
public sealed record Exp4 : Policy
{
    /// <summary>η.</summary>
    public double LearningRate { get; init => field = Within(value, 1e-6, 10, nameof(LearningRate)); } = 1;

    /// <summary>α. About once in 1/α losses another member is expected to become the best. No weight is below α/K.</summary>
    public double Share { get; init => field = Within(value, 0, 1, nameof(Share)); } = 3e-4;

    public override PolicyKind Kind => PolicyKind.Exp4;

    /// <summary>The members' weights, K, which sum to 1: what <see cref="Combine"/> takes, and the propensities where one member is drawn to answer.</summary>
    public void Weights(PolicyState state, Span<double> weights) => Propensities(state, 0, weights);

    /// <summary>
    /// Learns from all members at once. A member that did not run is NaN: it learns nothing and keeps its weight, while the others share what they had together
    /// ("sleeping" experts, Freund, Schapire, Singer, Warmuth 1997).
    /// </summary>
    /// <param name="losses">K, each in [0, 1] or NaN. Each member's own, such as wrong or right, steers towards the best member; <see cref="Combine.MixtureLosses"/> towards the best mixture.</param>
    /// <exception cref="ArgumentOutOfRangeException">A loss is not in [0, 1]; nothing was learnt.</exception>
    public void LearnAll(PolicyState state, ReadOnlySpan<double> losses)
    {
        Require(state);
        RequireMembers(state, losses.Length, nameof(losses));
        foreach (var loss in losses)
        {
            if (!double.IsNaN(loss)) RequireLoss(loss);
        }
        Span<double> logs = stackalloc double[state.Arms];
        var heaviest = double.NegativeInfinity;
        for (var i = 0; i < logs.Length; i++)
        {
            logs[i] = state.Values[i];
            if (!double.IsNaN(losses[i])) heaviest = Math.Max(heaviest, logs[i]);
        }
        if (double.IsNegativeInfinity(heaviest)) return; // None ran.

        // Relative to the heaviest of those that ran, whose weight may be nothing beside one that did not.
        double before = 0, after = 0;
        for (var i = 0; i < logs.Length; i++)
        {
            if (double.IsNaN(losses[i])) continue;
            before += Math.Exp(logs[i] - heaviest);
            logs[i] -= LearningRate * losses[i];
            after += Math.Exp(logs[i] - heaviest);
        }
        var gain = Math.Log(before / after);
        for (var i = 0; i < logs.Length; i++)
        {
            if (!double.IsNaN(losses[i])) logs[i] += gain;
        }
        LogWeights.Store(logs, Share, state.Values);
        state.CountUpdate();
    }

    /// <summary>Learns from the answer's loss alone.</summary>
    /// <param name="advice">K: the probability with which each member advised the answer, for members that name one label 1 or 0.</param>
    /// <param name="propensity">The probability with which the answer was given.</param>
    /// <exception cref="ArgumentOutOfRangeException">Advice or loss is not in [0, 1], or the propensity not in (0, 1]; nothing was learnt.</exception>
    public void LearnAnswer(PolicyState state, ReadOnlySpan<double> advice, double loss, double propensity)
    {
        Require(state);
        RequireMembers(state, advice.Length, nameof(advice));
        RequireLoss(loss);
        RequirePropensity(propensity);
        Span<double> logs = stackalloc double[state.Arms];
        for (var i = 0; i < logs.Length; i++)
        {
            if (!(advice[i] is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(advice), advice[i], "advice is a probability");
            logs[i] = state.Values[i] - LearningRate * advice[i] * loss / propensity;
        }
        LogWeights.Store(logs, Share, state.Values);
        state.CountUpdate();
    }

    private protected override void FillPropensities(PolicyState state, ulong seed, Span<double> propensities) => LogWeights.ToWeights(state.Values, propensities);

    // One member was drawn to answer, and only it is known: the member is the answer.
    private protected override void Update(PolicyState state, int action, double loss, double propensity)
    {
        Span<double> logs = stackalloc double[state.Arms];
        for (var i = 0; i < logs.Length; i++) logs[i] = state.Values[i];
        logs[action] -= LearningRate * loss / propensity;
        LogWeights.Store(logs, Share, state.Values);
    }

    private static void RequireMembers(PolicyState state, int given, string name)
    {
        if (given != state.Arms) throw new ArgumentException($"there are {state.Arms} members; {name} has {given}", name);
    }
}
