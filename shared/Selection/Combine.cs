using System.Numerics;
using System.Numerics.Tensors;

namespace Skiff.Selection;

/// <summary>
/// Makes one answer of those of an ensemble's members. Their class probabilities stand member after member, M × C; a member that is missing is filled in by <see cref="MemberMeans"/> first
/// and left out of <c>present</c>, whose bit m stands for member m. Nothing here allocates.
/// </summary>
public static class Combine
{
    /// <summary>The bits of M members that are all there.</summary>
    public static ulong Everyone(int members) => members == 64 ? ulong.MaxValue : (1UL << members) - 1;

    /// <summary>The mean of the members' probabilities.</summary>
    /// <param name="probabilities">M × C.</param>
    /// <param name="combined">C; sums to 1.</param>
    public static void Mean(ReadOnlySpan<float> probabilities, Span<float> combined)
    {
        var members = Members(probabilities, combined.Length);
        combined.Clear();
        for (var m = 0; m < members; m++) TensorPrimitives.Add(combined, probabilities.Slice(m * combined.Length, combined.Length), combined);
        TensorPrimitives.Multiply(combined, 1f / members, combined);
    }

    /// <summary>The mean weighted by, for example, <see cref="Exp4.Weights"/>.</summary>
    /// <param name="probabilities">M × C.</param>
    /// <param name="weights">M, none negative and not all 0; they need not sum to 1.</param>
    /// <param name="combined">C; sums to 1.</param>
    public static void WeightedMean(ReadOnlySpan<float> probabilities, ReadOnlySpan<double> weights, Span<float> combined)
    {
        RequireWeights(probabilities, weights, combined.Length);
        var scale = 1 / TensorPrimitives.Sum(weights);
        combined.Clear();
        for (var m = 0; m < weights.Length; m++)
            TensorPrimitives.MultiplyAdd(probabilities.Slice(m * combined.Length, combined.Length), (float)(weights[m] * scale), combined, combined);
    }

    /// <summary>Each member that is there votes for its likeliest class. Between equal votes the class with more probability over all members wins, those filled in included.</summary>
    /// <param name="probabilities">M × C.</param>
    /// <param name="weights">M, what each vote counts; empty for 1 each.</param>
    /// <param name="shares">C; receives each class's part of the votes, which sum to 1, or 0 when nobody is there.</param>
    /// <returns>The label.</returns>
    public static int Majority(ReadOnlySpan<float> probabilities, ReadOnlySpan<double> weights, ulong present, Span<float> shares)
    {
        var classes = shares.Length;
        var members = Members(probabilities, classes);
        if (!weights.IsEmpty) RequireWeights(probabilities, weights, classes);
        shares.Clear();
        for (var m = 0; m < members; m++)
        {
            if ((present >> m & 1) != 0) shares[TensorPrimitives.IndexOfMax(probabilities.Slice(m * classes, classes))] += weights.IsEmpty ? 1 : (float)weights[m];
        }
        var most = TensorPrimitives.Max<float>(shares);
        int label = -1;
        float supportOfLabel = 0;
        for (var c = 0; c < classes; c++)
        {
            if (shares[c] < most) continue;
            var support = 0f;
            for (var m = 0; m < members; m++) support += (weights.IsEmpty ? 1 : (float)weights[m]) * probabilities[m * classes + c];
            if (label < 0 || support > supportOfLabel) (label, supportOfLabel) = (c, support);
        }
        var votes = TensorPrimitives.Sum<float>(shares);
        if (votes > 0) TensorPrimitives.Divide(shares, votes, shares);
        return label;
    }

    /// <summary>The share of all M members that vote for a label. A member that is missing doesn't, so an answer with fewer members has less of it.</summary>
    public static double Agreement(ReadOnlySpan<float> probabilities, int classes, ulong present, int label)
    {
        var members = Members(probabilities, classes);
        var votes = 0;
        for (var rest = present & Everyone(members); rest != 0; rest &= rest - 1)
        {
            if (TensorPrimitives.IndexOfMax(probabilities.Slice(BitOperations.TrailingZeroCount(rest) * classes, classes)) == label) votes++;
        }
        return (double)votes / members;
    }

    /// <summary>
    /// Losses for <see cref="Exp4.LearnAll"/> that lead to the best mixture. A member's own errors lead to the best member, and give up what an ensemble is for; these are the slope of the mixture's Brier
    /// score in each weight (exponentiated gradient, Kivinen and Warmuth 1997): ℓ_m = (1 + p_m · p̄ − p_m[label]) / 2, in [0, 1], with p̄ the weighted mean. A member that is right where the mixture is not costs least.
    /// </summary>
    /// <param name="probabilities">M × C; where only labels were kept, 1 for the label and 0 for the others.</param>
    /// <param name="weights">M, the weights at the time of learning; they sum to 1.</param>
    /// <param name="label">The truth.</param>
    /// <param name="mixture">C floats of scratch; receives p̄.</param>
    /// <param name="losses">M; NaN for those not present.</param>
    public static void MixtureLosses(ReadOnlySpan<float> probabilities, ReadOnlySpan<double> weights, ulong present, int label, Span<float> mixture, Span<double> losses)
    {
        var classes = mixture.Length;
        WeightedMean(probabilities, weights, mixture);
        for (var m = 0; m < weights.Length; m++)
        {
            var member = probabilities.Slice(m * classes, classes);
            losses[m] = (present >> m & 1) == 0 ? double.NaN : Math.Clamp((1 + TensorPrimitives.Dot(member, mixture) - member[label]) / 2.0, 0, 1);
        }
    }

    private static int Members(ReadOnlySpan<float> probabilities, int classes)
    {
        var members = classes == 0 ? 0 : probabilities.Length / classes;
        return members is >= 1 and <= PolicyState.MostArms && members * classes == probabilities.Length
            ? members
            : throw new ArgumentException($"{probabilities.Length} probabilities are not those of 1 to {PolicyState.MostArms} members over {classes} classes", nameof(probabilities));
    }

    private static void RequireWeights(ReadOnlySpan<float> probabilities, ReadOnlySpan<double> weights, int classes)
    {
        if (weights.Length != Members(probabilities, classes)) throw new ArgumentException($"{probabilities.Length} probabilities over {classes} classes don't go with {weights.Length} weights", nameof(weights));
    }
}
