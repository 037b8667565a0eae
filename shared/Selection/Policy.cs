namespace Skiff.Selection;

/// <summary>
/// Chooses one of K actions and learns from what the choice cost. A policy holds its constants and nothing else; what it has learnt is a <see cref="PolicyState"/>, one for each user or context,
/// so one object serves everybody at once. Losses lie in [0, 1]; a reward r is the loss 1 − r.
/// Default constants are those whose worst ratio to an oracle's errors is least over the seven patterns of <c>Skiff.Benchmarks selection --sweep</c>; of those within 0.02 of it, the one that explores most.
/// </summary>
public abstract record Policy
{
    private protected Policy() { }

    /// <summary>Whose states this policy reads.</summary>
    public abstract PolicyKind Kind { get; }

    /// <summary>The state of somebody about whom nothing is known.</summary>
    /// <param name="arms">K, from 1 to <see cref="PolicyState.MostArms"/>.</param>
    public PolicyState Start(int arms) => new(Kind, arms);

    /// <summary>Draws an action. The same state and seed give the same action and the same propensities, on every machine.</summary>
    /// <param name="seed">Another one for each decision; log it with the propensities.</param>
    /// <param name="propensities">K; receives the probability with which each action is chosen: the real one, which is also what the action is drawn from.</param>
    /// <returns>The action.</returns>
    public int Choose(PolicyState state, ulong seed, Span<double> propensities)
    {
        Propensities(state, seed, propensities);
        return new SeededRandom(~seed).Pick(propensities);
    }

    /// <summary>Fills in the probability of each action, K of them; they sum to 1.</summary>
    /// <param name="seed">Only sampling policies need it: their propensities are counted over draws.</param>
    public void Propensities(PolicyState state, ulong seed, Span<double> propensities)
    {
        Require(state);
        if (propensities.Length != state.Arms) throw new ArgumentException($"there are {state.Arms} actions; propensities has room for {propensities.Length}", nameof(propensities));
        FillPropensities(state, seed, propensities);
    }

    /// <summary>Learns what one choice cost, which is all that is known: nothing about the actions that were not chosen.</summary>
    /// <param name="propensity">The probability with which this action was chosen then, not the one it would have now: feedback may come late.</param>
    /// <exception cref="ArgumentOutOfRangeException">The loss is not in [0, 1], the propensity not in (0, 1] or the action not one of K; nothing was learnt.</exception>
    public void Learn(PolicyState state, int action, double loss, double propensity)
    {
        Require(state);
        ArgumentOutOfRangeException.ThrowIfNegative(action);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(action, state.Arms);
        RequireLoss(loss);
        RequirePropensity(propensity);
        Update(state, action, loss, propensity);
        state.CountUpdate();
    }

    private protected abstract void FillPropensities(PolicyState state, ulong seed, Span<double> propensities);

    private protected abstract void Update(PolicyState state, int action, double loss, double propensity);

    private protected void Require(PolicyState state)
    {
        if (state.Kind != Kind) throw new ArgumentException($"a state of {state.Kind} means nothing to {Kind}", nameof(state));
    }

    // Written so that NaN fails. A loss is never rounded to an integer: 0.4 is 0.4.
    private protected static void RequireLoss(double loss)
    {
        if (!(loss is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(loss), loss, "a loss lies in [0, 1]");
    }

    private protected static void RequirePropensity(double propensity)
    {
        if (!(propensity is > 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(propensity), propensity, "a propensity lies in (0, 1]");
    }

    /// <summary>Checks a constant as it is set.</summary>
    private protected static double Within(double value, double least, double most, string name) =>
        value >= least && value <= most ? value : throw new ArgumentOutOfRangeException(name, value, FormattableString.Invariant($"{name} lies in [{least}, {most}]"));
}
