namespace Skiff.Selection;

/// <summary>
/// Thompson sampling with Beta posteriors over each action's chance of no loss (Thompson 1933), from a uniform prior. A loss between 0 and 1 counts as that part of a failure.
/// Discounting (Raj and Kalyani 2017) fades all evidence a little with each update, so that what broke or was mended is found out.
/// The chance of being chosen has no closed form: it is counted over seeded draws, given a floor, and then the action is drawn from what was counted, which makes the propensities real.
/// </summary>
public sealed record ThompsonSampling : Policy
{
    // Past 2²⁴ a float no longer counts: one more would be none, and the other count would catch up.
    private const double MostEvidence = 1 << 20;

    /// <summary>What is left of all evidence after an update; 1 keeps it.</summary>
    public double Discount { get; init => field = Within(value, 0.5, 1, nameof(Discount)); } = 0.995;

    /// <summary>ε: the part of the choices that is spread evenly, whatever the draws say.</summary>
    public double Floor { get; init => field = Within(value, 1e-6, 1, nameof(Floor)); } = 0.02;

    /// <summary>M, draws that the propensities are counted over.</summary>
    public int Draws { get; init => field = (int)Within(value, 1, 100_000, nameof(Draws)); } = 64;

    public override PolicyKind Kind => PolicyKind.Thompson;

    private protected override void FillPropensities(PolicyState state, ulong seed, Span<double> propensities)
    {
        var k = state.Arms;
        var random = new SeededRandom(seed);
        Span<double> drawn = stackalloc double[k];
        propensities.Clear();
        for (var m = 0; m < Draws; m++)
        {
            var best = 0.0;
            var ties = 0;
            for (var i = 0; i < k; i++)
            {
                drawn[i] = random.NextBeta(1 + state.Values[i], 1 + state.Values[k + i]);
                if (drawn[i] > best) (best, ties) = (drawn[i], 1);
                else if (drawn[i] == best) ties++;
            }
            for (var i = 0; i < k; i++)
            {
                if (drawn[i] == best) propensities[i] += 1.0 / ties;
            }
        }
        foreach (ref var p in propensities) p = (1 - Floor) * p / Draws + Floor / k;
    }

    private protected override void Update(PolicyState state, int action, double loss, double propensity)
    {
        var values = state.Values.AsSpan();
        if (Discount < 1)
        {
            foreach (ref var value in values) value = (float)(value * Discount);
        }
        ref var gains = ref values[action];
        ref var losses = ref values[state.Arms + action];
        gains += (float)(1 - loss);
        losses += (float)loss;
        if (gains + losses > MostEvidence) (gains, losses) = (gains / 2, losses / 2);
    }
}
