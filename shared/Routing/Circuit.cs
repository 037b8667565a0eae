namespace Skiff.Routing;

/// <summary>
/// Whether a replica is asked at all. Closed: it is. Open, after failures in a row: it isn't, until a pause is over. Then one request at a time is a trial: it closes the circuit or opens it
/// for twice as long. Times are <see cref="TimeProvider.GetTimestamp"/>'s, handed in.
/// </summary>
internal sealed class Circuit(RouterOptions options)
{
    private int _failures;
    private int _pauses;
    private long _openUntil; // 0 when closed
    private int _onTrial;
    private bool _isSlow;

    public bool IsOpen => Volatile.Read(ref _openUntil) != 0;

    /// <summary>Whether it was opened since answers were late, though they came.</summary>
    public bool IsSlow
    {
        get => Volatile.Read(ref _isSlow);
        set => Volatile.Write(ref _isSlow, value);
    }

    /// <summary>Whether <see cref="TryEnter"/> would let a request through.</summary>
    public bool Admits(long now)
    {
        var until = Volatile.Read(ref _openUntil);
        return until == 0 || (now >= until && Volatile.Read(ref _onTrial) == 0);
    }

    /// <summary>Lets a request through; while the circuit is open, the first one after the pause, as its trial.</summary>
    public bool TryEnter(long now) => !IsOpen || (Admits(now) && Interlocked.CompareExchange(ref _onTrial, 1, 0) == 0);

    /// <returns>Whether this closed the circuit.</returns>
    public bool Succeeded()
    {
        Volatile.Write(ref _failures, 0);
        Volatile.Write(ref _pauses, 0);
        var closed = Interlocked.Exchange(ref _openUntil, 0) != 0;
        Volatile.Write(ref _onTrial, 0);
        return closed;
    }

    /// <param name="isDecisive">Nobody listens there: no need to count.</param>
    /// <param name="isSlow">It is late, and may yet answer.</param>
    /// <param name="frequency">Ticks a second.</param>
    /// <returns>Whether this opened the circuit.</returns>
    public bool Failed(long now, long frequency, bool isDecisive, bool isSlow)
    {
        var failures = Interlocked.Increment(ref _failures);
        var until = Volatile.Read(ref _openUntil);
        // Requests that began before the circuit opened fail later, all alike: only a trial's failure makes the next pause longer.
        if (until != 0 && now < until) return false;
        if (until == 0 && !isDecisive && failures < options.Failures) return false;
        var pause = Math.Min(options.LongestPause.TotalSeconds, options.Pause.TotalSeconds * Math.Pow(2, Math.Min(Interlocked.Increment(ref _pauses) - 1, 30)));
        IsSlow = isSlow;
        var opened = Interlocked.CompareExchange(ref _openUntil, Math.Max(1, now + (long)(pause * frequency)), until) == until && until == 0;
        Volatile.Write(ref _onTrial, 0);
        return opened;
    }

    /// <summary>A request that says nothing of the replica, since nobody waited for its end: a trial is free for the next.</summary>
    public void Abandoned() => Volatile.Write(ref _onTrial, 0);
}
