namespace Skiff.Monitoring;

/// <summary>A Prometheus histogram with fixed bounds, which adds up over instances where a summary can't.</summary>
public sealed class Histogram(double[] bounds)
{
    private readonly long[] _counts = new long[bounds.Length + 1];
    private long _sumNano;

    /// <summary>From 50 µs to 10 s, about three bounds a decade and a half.</summary>
    public static double[] LatencySeconds { get; } =
        [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

    public IReadOnlyList<double> Bounds => bounds;

    /// <summary>Observations in each bucket, the last one beyond all bounds; not cumulative.</summary>
    public long[] Counts() => [.. _counts.Select((_, i) => Volatile.Read(ref _counts[i]))];

    public double Sum => Volatile.Read(ref _sumNano) / 1e9;

    public void Observe(double value)
    {
        var bucket = 0;
        while (bucket < bounds.Length && value > bounds[bucket]) bucket++;
        Interlocked.Increment(ref _counts[bucket]);
        Interlocked.Add(ref _sumNano, (long)(value * 1e9));
    }
}
