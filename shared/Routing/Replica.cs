namespace Skiff.Routing;

/// <summary>One process behind the router, and what is known of it; lives on from snapshot to snapshot.</summary>
public sealed class Replica
{
    private readonly Circuit _circuit;
    private readonly LatencyQuantile?[] _latencies = new LatencyQuantile?[Router.Estimators];
    private int _assigned;
    private int _inFlight;
    private int _isGone;
    private long _warming;
    private ReplicaReport? _report;
    private long _reported;

    internal Replica(Uri address, RouterOptions options)
    {
        Address = address;
        Name = address.GetLeftPart(UriPartial.Authority);
        _circuit = new Circuit(options);
    }

    public Uri Address { get; }

    /// <summary>Scheme, host and port: who it is, wherever it is listed.</summary>
    public string Name { get; }

    /// <summary>Whether it is left out after failures.</summary>
    public bool IsOut => _circuit.IsOpen;

    /// <summary>Requests that it was given and has not answered.</summary>
    public int InFlight => Volatile.Read(ref _inFlight);

    /// <summary>What it said last; null before.</summary>
    public ReplicaReport? Report => Volatile.Read(ref _report);

    /// <summary>Requests that it was given lately.</summary>
    internal int Assigned => Volatile.Read(ref _assigned);

    internal Circuit Circuit => _circuit;

    internal bool IsWarm(ulong model) => Report?.IsWarm(model) ?? true;

    /// <summary>Takes the one place for a request that makes this replica load a model.</summary>
    internal bool TryWarm(ulong model) => Interlocked.CompareExchange(ref _warming, (long)model, 0) == 0;

    internal void EndWarming() => Volatile.Write(ref _warming, 0);

    /// <summary>Takes down what the last probe found.</summary>
    /// <returns>What the one before had found.</returns>
    internal bool SetGone(bool isGone) => Interlocked.Exchange(ref _isGone, isGone ? 1 : 0) == 1;

    internal void Begin()
    {
        Interlocked.Increment(ref _assigned);
        Interlocked.Increment(ref _inFlight);
    }

    internal void End() => Interlocked.Decrement(ref _inFlight);

    internal int Halve()
    {
        var assigned = Volatile.Read(ref _assigned);
        return Interlocked.Add(ref _assigned, assigned / 2 - assigned);
    }

    /// <summary>How long requests for these models take here; null before there were any.</summary>
    internal LatencyQuantile? Latency(ulong slot) => Volatile.Read(ref _latencies[slot]);

    /// <returns>Whether its quantile was looked up anew.</returns>
    internal bool Took(ulong slot, long microseconds, double quantile) =>
        (Latency(slot) ?? Interlocked.CompareExchange(ref _latencies[slot], new LatencyQuantile(quantile), null) ?? Latency(slot)!).Add(microseconds);

    internal void Say(ReplicaReport report, long now)
    {
        Volatile.Write(ref _reported, now);
        // A registration doesn't say how much it runs side by side, which changes with its models only: what it said itself stays.
        Volatile.Write(ref _report, report.Workers is null && Report?.Workers is { } workers ? report with { Workers = workers } : report);
    }

    internal bool IsSilent(long now, long age) => Report is null || now - Volatile.Read(ref _reported) >= age;

    internal bool IsSaturated(long now, long age) => Report is { IsSaturated: true } && now - Volatile.Read(ref _reported) < age;
}
