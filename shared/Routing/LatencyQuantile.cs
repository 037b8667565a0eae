using System.Numerics;

namespace Skiff.Routing;

/// <summary>A quantile of how long requests took lately, within an eighth of itself: counts in buckets of which eight double, halved when there are 256. No locks; a count lost to a race does no harm.</summary>
internal sealed class LatencyQuantile(double quantile)
{
    private const int Fine = 8;
    private const int FewestForSaying = 16;
    private const int Kept = 256;
    private readonly int[] _counts = new int[Fine * 40];
    private int _total;
    private long _value;

    /// <summary>Microseconds; null until enough is known.</summary>
    public long? Microseconds => Volatile.Read(ref _value) is > 0 and var value ? value : null;

    /// <returns>Whether the quantile was looked up anew.</returns>
    public bool Add(long microseconds)
    {
        _counts[Bucket(microseconds)]++;
        var total = Interlocked.Increment(ref _total);
        if (total % FewestForSaying != 0) return false;
        var (below, sum) = (0, 0);
        foreach (var count in _counts) sum += count;
        for (var i = 0; i < _counts.Length; i++)
        {
            below += _counts[i];
            if (below < quantile * sum) continue;
            Volatile.Write(ref _value, UpperEnd(i));
            break;
        }
        if (total < Kept) return true;
        for (var i = 0; i < _counts.Length; i++) _counts[i] /= 2;
        Volatile.Write(ref _total, Kept / 2);
        return true;
    }

    private static int Bucket(long microseconds)
    {
        var value = (ulong)Math.Clamp(microseconds, 0, 1L << 40);
        if (value < Fine) return (int)value;
        var exponent = BitOperations.Log2(value);
        return Math.Min(Fine * 40 - 1, Fine * (exponent - 2) + (int)(value >> (exponent - 3) & (Fine - 1)));
    }

    private static long UpperEnd(int bucket) => bucket < Fine ? bucket + 1 : (Fine + bucket % Fine + 1L) << (bucket / Fine - 1);
}
