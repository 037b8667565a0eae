namespace Skiff.Planning.Simulation;

/// <summary>Times from a microsecond to a day in buckets 1% wide, for quantiles of any number of them.</summary>
internal sealed class Latencies
{
    private const double Least = 1e-6;
    private static readonly double s_width = Math.Log(1.01);
    private readonly long[] _counts = new long[2600];
    private long _count;
    private double _sum;

    public double Mean => _count == 0 ? 0 : _sum / _count;

    public void Add(double seconds)
    {
        _counts[seconds <= Least ? 0 : Math.Min(_counts.Length - 1, 1 + (int)(Math.Log(seconds / Least) / s_width))]++;
        _count++;
        _sum += seconds;
    }

    public double Quantile(double share)
    {
        var below = 0L;
        for (var i = 0; i < _counts.Length; i++)
        {
            below += _counts[i];
            if (below >= share * _count && below > 0) return i == 0 ? 0 : Least * Math.Exp((i - 0.5) * s_width);
        }
        return 0;
    }
}
