using System.Numerics.Tensors;
using Skiff.Models;

namespace Skiff.Selection;

/// <summary>
/// What each member of an ensemble says on average: C probabilities a member, in place of which it says nothing in time (Clipper, Crankshaw et al. 2017, section 5.2). Old answers fade.
/// For many threads at once; each member has its own lock, held for one pass over C floats.
/// </summary>
public sealed class MemberMeans
{
    private readonly Mean[] _means;
    private readonly double _decay;

    /// <param name="decay">The part of a mean that each new answer replaces, once it has seen 1/decay of them; until then it is the plain mean.</param>
    public MemberMeans(int members, int classes, double decay = 0.001)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(members, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(members, PolicyState.MostArms);
        ArgumentOutOfRangeException.ThrowIfLessThan(classes, 1);
        if (!(decay is > 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(decay), decay, "decay lies in (0, 1]");
        Classes = classes;
        _decay = decay;
        _means = new Mean[members];
        for (var m = 0; m < members; m++)
        {
            _means[m] = new Mean(new float[classes]);
            // A member that never answered favours nothing.
            _means[m].Values.AsSpan().Fill(1f / classes);
        }
    }

    public int Members => _means.Length;

    public int Classes { get; }

    /// <summary>Takes a member's answers into its mean, row after row; a row with NaN or infinity would stay in it for ever and is passed over.</summary>
    /// <param name="rows">N × C probabilities.</param>
    public void Observe(int member, ReadOnlySpan<float> rows)
    {
        if (rows.Length % Classes != 0) throw new ArgumentException($"{rows.Length} values are not rows of {Classes}", nameof(rows));
        var mean = _means[member];
        lock (mean.Lock)
        {
            for (; !rows.IsEmpty; rows = rows[Classes..])
            {
                var row = rows[..Classes];
                if (row.ContainsNotFinite()) continue;
                mean.Seen++;
                TensorPrimitives.Lerp(mean.Values, row, (float)Math.Max(1.0 / mean.Seen, _decay), mean.Values);
            }
        }
    }

    /// <summary>Puts the means in the places of the members that are missing.</summary>
    /// <param name="probabilities">M × C; the rows of those present stay as they are.</param>
    /// <param name="present">Bit m stands for member m.</param>
    public void FillMissing(Span<float> probabilities, ulong present)
    {
        if (probabilities.Length != Members * Classes) throw new ArgumentException($"{probabilities.Length} probabilities are not {Members} × {Classes}", nameof(probabilities));
        for (var m = 0; m < Members; m++)
        {
            if ((present >> m & 1) == 0) Read(m, probabilities.Slice(m * Classes, Classes));
        }
    }

    /// <summary>Copies one member's mean, C floats.</summary>
    public void Read(int member, Span<float> mean)
    {
        lock (_means[member].Lock) _means[member].Values.CopyTo(mean);
    }

    private sealed class Mean(float[] values)
    {
        public readonly Lock Lock = new();
        public readonly float[] Values = values;
        public long Seen;
    }
}
