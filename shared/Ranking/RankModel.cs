using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Skiff.Ranking;

/// <summary>How often something was so, lately: a mean whose memory is bounded.</summary>
public readonly record struct RunningShare(long Count, double Mean)
{
    private const int Memory = 1000;

    public RunningShare With(double value) => new(Count + 1, Mean + (value - Mean) / Math.Min(Count + 1, Memory));

    /// <summary>Two shares of different events together.</summary>
    public RunningShare And(RunningShare other)
    {
        var (mine, theirs) = (Math.Min(Count, Memory), Math.Min(other.Count, Memory));
        return Count + other.Count == 0 ? this : new RunningShare(Count + other.Count, (mine * Mean + theirs * other.Mean) / (mine + theirs));
    }
}

/// <summary>
/// One shard of what an app has learnt: the reward as φ(x, a)ᵀw, with w and, of its covariance P, the diagonal, as the head of diagonal form has them (<see cref="Personalization.DiagonalHead"/>), for vectors of which few
/// numbers are not 0: an update costs those few. Shards learn apart and are read together (<see cref="RankView"/>). Not for several threads at once.
/// </summary>
/// <remarks>
/// Stored as little-endian bytes, what was never touched left out:
/// <code>
/// version 1 | bits 1 | 0 2 | space 4 | updates 8 | rewards: count 8, mean 8 | agreement: count 8, mean 8 | touched, a bit each 2^bits/8 | w of those 4 each | P of those 4 each
/// </code>
/// </remarks>
public sealed class RankModel
{
    private const byte FormatVersion = 1;
    private const int HeaderLength = 48;

    private readonly float[] _weights;
    private readonly float[] _variances;

    /// <param name="space"><see cref="FeatureSpace.Id"/>.</param>
    /// <param name="dimensions">A power of 2.</param>
    /// <param name="priorVariance">1/κ, of every weight before anything is learnt.</param>
    public RankModel(uint space, int dimensions, float priorVariance)
    {
        Space = space;
        PriorVariance = priorVariance;
        _weights = new float[dimensions];
        _variances = new float[dimensions];
        _variances.AsSpan().Fill(priorVariance);
    }

    public uint Space { get; }

    public float PriorVariance { get; }

    public int Dimensions => _weights.Length;

    /// <summary>Examples learnt.</summary>
    public long Updates { get; private set; }

    /// <summary>What events were rewarded with, defaults included.</summary>
    public RunningShare Rewards { get; private set; }

    /// <summary>How often the model would have chosen what the caller's own order put first.</summary>
    public RunningShare Agreement { get; private set; }

    /// <summary>Rises with everything that is learnt or counted.</summary>
    internal long Version => Rewards.Count + Agreement.Count;

    /// <summary>w and P of one number.</summary>
    internal (float Weight, float Variance) At(int index) => (_weights[index], _variances[index]);

    /// <summary>‖a − b‖ / ‖b‖ of w and of the evidence 1/P − 1/P₀, whichever is larger; infinite for what was counted otherwise.</summary>
    internal double Difference(RankModel other)
    {
        if (Space != other.Space || Updates != other.Updates || Rewards.Count != other.Rewards.Count || Agreement.Count != other.Agreement.Count) return double.PositiveInfinity;
        double weights = 0, ofWeights = 0, evidence = 0, ofEvidence = 0;
        for (var i = 0; i < Dimensions; i++)
        {
            var (mine, theirs) = (1.0 / _variances[i] - 1.0 / PriorVariance, 1.0 / other._variances[i] - 1.0 / PriorVariance);
            weights += Square((double)_weights[i] - other._weights[i]);
            ofWeights += Square(other._weights[i]);
            evidence += Square(mine - theirs);
            ofEvidence += Square(theirs);
        }
        return Math.Max(Relative(weights, ofWeights), Relative(evidence, ofEvidence));

        static double Square(double value) => value * value;

        static double Relative(double difference, double size) => difference == 0 ? 0 : size == 0 ? double.PositiveInfinity : Math.Sqrt(difference / size);
    }

    /// <summary>Learns what an event was rewarded with.</summary>
    public void Reward(SparseVector features, double reward)
    {
        Learn(features, (float)reward);
        Count(reward);
    }

    /// <summary>Counts a reward that nothing is learnt from.</summary>
    public void Count(double reward) => Rewards = Rewards.With(reward);

    /// <summary>Learns from the caller's own choice: it scores one above another action that was not taken, and whether that was known.</summary>
    /// <param name="difference">φ of the one less φ of the other; null where there was no other.</param>
    public void Imitate(SparseVector? difference, bool agreed)
    {
        if (difference is not null) Learn(difference, 1);
        Agreement = Agreement.With(agreed ? 1 : 0);
    }

    /// <summary>s = 1 + φᵀPφ, w ← w + Pφ (target − φᵀw)/s, P ← P − diag(Pφ)²/s. O(the numbers that are not 0).</summary>
    private void Learn(SparseVector features, float target)
    {
        var scale = 1f;
        var residual = target;
        for (var i = 0; i < features.Count; i++)
        {
            var (at, x) = (features.Indices[i], features.Values[i]);
            scale += _variances[at] * x * x;
            residual -= _weights[at] * x;
        }
        for (var i = 0; i < features.Count; i++)
        {
            var (at, x) = (features.Indices[i], features.Values[i]);
            var v = _variances[at] * x;
            _weights[at] += v * residual / scale;
            // 1 − vx/s is positive, as s is 1 and a sum that vx is part of; as a product P stays so after rounding.
            _variances[at] *= MathF.Max(1 - v * x / scale, float.Epsilon);
        }
        Updates++;
    }

    public byte[] ToBytes()
    {
        var touched = Enumerable.Range(0, Dimensions).Where(i => _weights[i] != 0 || _variances[i] != PriorVariance).ToArray();
        var bytes = new byte[HeaderLength + Dimensions / 8 + touched.Length * 2 * sizeof(float)];
        bytes[0] = FormatVersion;
        bytes[1] = (byte)int.Log2(Dimensions);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), Space);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(8), Updates);
        Write(bytes.AsSpan(16), Rewards);
        Write(bytes.AsSpan(32), Agreement);
        var bits = bytes.AsSpan(HeaderLength);
        var numbers = MemoryMarshal.Cast<byte, float>(bits[(Dimensions / 8)..]);
        for (var n = 0; n < touched.Length; n++)
        {
            var i = touched[n];
            bits[i / 8] |= (byte)(1 << i % 8);
            numbers[n] = _weights[i];
            numbers[touched.Length + n] = _variances[i];
        }
        return bytes;

        static void Write(Span<byte> to, RunningShare share)
        {
            BinaryPrimitives.WriteInt64LittleEndian(to, share.Count);
            BinaryPrimitives.WriteDoubleLittleEndian(to[8..], share.Mean);
        }
    }

    /// <summary>Reads what was stored, and starts anew where nothing was, or only what was learnt on other features.</summary>
    internal static RankModel ReadOrStart(byte[]? bytes, FeatureSpace space, double priorStrength)
    {
        var model = new RankModel(space.Id, space.Dimensions, (float)(1 / priorStrength));
        if (bytes is not { Length: > HeaderLength } || bytes[0] != FormatVersion || 1 << bytes[1] != model.Dimensions || BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4)) != space.Id) return model;
        model.Updates = BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(8));
        model.Rewards = Read(bytes.AsSpan(16));
        model.Agreement = Read(bytes.AsSpan(32));
        ReadOnlySpan<byte> bits = bytes.AsSpan(HeaderLength);
        var numbers = MemoryMarshal.Cast<byte, float>(bits[(model.Dimensions / 8)..]);
        for (int i = 0, n = 0; i < model.Dimensions; i++)
        {
            if ((bits[i / 8] >> i % 8 & 1) == 0) continue;
            model._weights[i] = numbers[n];
            model._variances[i] = numbers[numbers.Length / 2 + n++];
        }
        return model;

        static RunningShare Read(ReadOnlySpan<byte> from) => new(BinaryPrimitives.ReadInt64LittleEndian(from), BinaryPrimitives.ReadDoubleLittleEndian(from[8..]));
    }
}

/// <summary>
/// The shards of one app as one model. Evidence adds up: with A = 1/P for each number, A = A₀ + Σ (A_s − A₀) and w = Σ A_s w_s / A, the product of the shards' posteriors over one prior. Put together number by number where one is
/// read, so that no shard waits for another and nothing is merged that nobody asks about.
/// </summary>
/// <param name="Shards">At least one, all of one space.</param>
public sealed record RankView(IReadOnlyList<RankModel> Shards)
{
    public RunningShare Rewards => Shards.Aggregate(default(RunningShare), (sum, shard) => sum.And(shard.Rewards));

    public RunningShare Agreement => Shards.Aggregate(default(RunningShare), (sum, shard) => sum.And(shard.Agreement));

    public long Updates => Shards.Sum(shard => shard.Updates);

    /// <summary>w and P of one number.</summary>
    public (float Weight, float Variance) At(int index)
    {
        if (Shards.Count == 1) return Shards[0].At(index);
        var prior = 1.0 / Shards[0].PriorVariance;
        double precision = prior, sum = 0;
        foreach (var shard in Shards)
        {
            var (weight, variance) = shard.At(index);
            precision += 1.0 / variance - prior;
            sum += weight / (double)variance;
        }
        return ((float)(sum / precision), (float)(1 / precision));
    }

    /// <summary>φᵀw of each candidate, and ΦPΦᵀ: how unsure the scores are, together.</summary>
    /// <param name="means">K.</param>
    /// <param name="covariance">K × K by rows; empty where nobody asks.</param>
    public void Score(IReadOnlyList<SparseVector> candidates, Span<float> means, Span<double> covariance)
    {
        var k = candidates.Count;
        // Candidates share the context's numbers: each is put together from the shards once, and has a place of its own from then on.
        var places = new Dictionary<int, int>();
        var numbers = new List<(float Weight, float Variance)>();
        var placesOf = new int[k][];
        for (var a = 0; a < k; a++)
        {
            placesOf[a] = new int[candidates[a].Count];
            for (var i = 0; i < placesOf[a].Length; i++)
            {
                ref var place = ref CollectionsMarshal.GetValueRefOrAddDefault(places, candidates[a].Indices[i], out var isKnown);
                if (!isKnown)
                {
                    place = numbers.Count;
                    numbers.Add(At(candidates[a].Indices[i]));
                }
                placesOf[a][i] = place;
            }
        }
        var product = new float[numbers.Count]; // P ∘ φ of one candidate
        for (var a = 0; a < k; a++)
        {
            var (mine, values) = (placesOf[a], candidates[a].Values);
            var mean = 0f;
            for (var i = 0; i < mine.Length; i++)
            {
                var (weight, variance) = numbers[mine[i]];
                mean += weight * values[i];
                product[mine[i]] = variance * values[i];
            }
            means[a] = mean;
            for (var b = 0; b <= a && covariance.Length > 0; b++)
            {
                var sum = 0.0;
                for (var i = 0; i < placesOf[b].Length; i++) sum += (double)product[placesOf[b][i]] * candidates[b].Values[i];
                covariance[a * k + b] = covariance[b * k + a] = sum;
            }
            foreach (var place in mine) product[place] = 0;
        }
    }
}
