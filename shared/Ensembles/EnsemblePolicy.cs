using System.Buffers.Binary;
using System.Numerics.Tensors;
using Skiff.Apps;
using Skiff.Selection;

namespace Skiff.Ensembles;

/// <summary>
/// An ensemble's policy with the members that it is about. Its state is stored as 4 bytes that tell which members they are, then a <see cref="PolicyState"/>: an app whose members or whose kind of policy have
/// changed starts anew.
/// </summary>
public sealed class EnsemblePolicy(PolicyDocument document, IReadOnlyList<string> members, int classes)
{
    private readonly Policy _policy = document.Create();
    private readonly uint _members = MemberAnswers.Identify(members);

    public PolicyPer Per => document.Per;

    /// <summary>Whether it chooses one member, which alone runs; if not, it weights all.</summary>
    public bool Chooses => _policy is not Exp4;

    /// <param name="stored">Null where nothing was.</param>
    public PolicyState Read(byte[]? stored)
    {
        if (stored is { Length: > sizeof(uint) } && BinaryPrimitives.ReadUInt32LittleEndian(stored) == _members)
        {
            try
            {
                var state = PolicyState.Read(stored.AsSpan(sizeof(uint)));
                if (state.Kind == _policy.Kind && state.Arms == members.Count) return state;
            }
            catch (FormatException)
            {
                // Of a later version of this program, which was taken back: what it learnt can't be read.
            }
        }
        return _policy.Start(members.Count);
    }

    public byte[] Write(PolicyState state)
    {
        var bytes = new byte[sizeof(uint) + state.ByteLength];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, _members);
        state.Write(bytes.AsSpan(sizeof(uint)));
        return bytes;
    }

    /// <summary>The members' weights, which sum to 1; only of a policy that doesn't choose.</summary>
    public double[] Weights(PolicyState state)
    {
        var weights = new double[members.Count];
        ((Exp4)_policy).Weights(state, weights);
        return weights;
    }

    /// <returns>A member, and the probability with which it was chosen.</returns>
    public (int Member, double Propensity) Choose(PolicyState state, ulong seed)
    {
        Span<double> propensities = stackalloc double[members.Count];
        var member = _policy.Choose(state, seed, propensities);
        return (member, propensities[member]);
    }

    /// <summary>What feedback will need to know of an answer.</summary>
    internal byte[] Keep(int chosen, ReadOnlySpan<float> probabilities, ulong present) => MemberAnswers.Write(_members, chosen, probabilities, classes, present);

    /// <summary>Who was chosen for an answer, and whether that was right; null where nobody was, or these are other members' answers.</summary>
    /// <param name="kept">From <see cref="Keep"/>.</param>
    public (int Member, bool IsRight)? Look(byte[] kept, int label)
    {
        var probabilities = new float[members.Count * classes];
        if (MemberAnswers.Read(kept, _members, probabilities, classes) is not (>= 0 and var chosen, var present) || (present >> chosen & 1) == 0) return null;
        return (chosen, TensorPrimitives.IndexOfMax<float>(probabilities.AsSpan(chosen * classes, classes)) == label);
    }

    /// <summary>Learns the truth about a row: Exp4 from all that were there, the others whether the chosen member was wrong, divided by its propensity then.</summary>
    /// <param name="kept">From <see cref="Keep"/>.</param>
    /// <returns>Why nothing can be learnt; null when it was.</returns>
    public string? Learn(PolicyState state, byte[] kept, double propensity, int label)
    {
        if (kept.Length == 0) return "no answers of members";
        var probabilities = new float[members.Count * classes];
        if (label < 0 || label >= classes) return "no label of this app";
        if (MemberAnswers.Read(kept, _members, probabilities, classes) is not var (chosen, present)) return "answers of other members";
        if (_policy is Exp4 exp4)
        {
            if (chosen >= 0) return "one member's answer, and all are needed";
            Span<double> losses = stackalloc double[members.Count];
            var weights = Weights(state);
            // Who was missing had no part in it.
            for (var m = 0; m < weights.Length; m++) weights[m] *= present >> m & 1;
            if (present == 0) return "nobody was there";
            Combine.MixtureLosses(probabilities, weights, present, label, new float[classes], losses);
            exp4.LearnAll(state, losses);
            return null;
        }
        if (chosen < 0 || (present >> chosen & 1) == 0) return "nobody was chosen";
        if (propensity is not (> 0 and <= 1)) return "no propensity";
        var answered = TensorPrimitives.IndexOfMax<float>(probabilities.AsSpan(chosen * classes, classes));
        _policy.Learn(state, chosen, answered == label ? 0 : 1, propensity);
        return null;
    }
}
