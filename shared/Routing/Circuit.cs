namespace Skiff.Routing;

/// <summary>
/// Whether a replica is asked at all. Closed: it is. Open, after failures in a row or when it is late too often: it isn't, until a pause is over. Then one request at a time is a trial: it closes the circuit or opens it
/// for twice as long. Where the circuit was opened for being slow, several trials in a row must be in time: one may be by luck. Times are <see cref="TimeProvider.GetTimestamp"/>'s, handed in.
/// </summary>
internal sealed class Circuit(RouterOptions options)
{
    /// <summary>What being late once counts in answers in time: a replica that is late no more often than the quantile of lateness says (one in twenty) never gets far, one that mostly is soon does.</summary>
    private const int Late = 4;

    private int _failures;
    private int _lateness;
    private int _inTime;
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
        if (Volatile.Read(ref _lateness) > 0) Interlocked.Decrement(ref _lateness);
        if (!IsOpen) return false;
        if (IsSlow && Interlocked.Increment(ref _inTime) < options.Failures)
        {
            Volatile.Write(ref _onTrial, 0);
            return false;
        }
        return Close();
    }

    /// <summary>Without asking how slow it was: it is another than the one that was.</summary>
    /// <returns>Whether it was open.</returns>
    public bool Close()
    {
        Volatile.Write(ref _failures, 0);
        Volatile.Write(ref _lateness, 0);
        Volatile.Write(ref _pauses, 0);
        var closed = Interlocked.Exchange(ref _openUntil, 0) != 0;
        Volatile.Write(ref _onTrial, 0);
        return closed;
    }

    /// <param name="isDecisive">Nobody listens there: no need to count.</param>
    /// <param name="isSlow">It had not answered by the deadline, and may yet.</param>
    /// <param name="frequency">Ticks a second.</param>
    /// <returns>Whether this opened the circuit.</returns>
    public bool Failed(long now, long frequency, bool isDecisive, bool isSlow) =>
        Opens(now, frequency, Interlocked.Increment(ref _failures) >= options.Failures || isDecisive, isSlow);

    /// <summary>It would have answered, or did, but later than most do.</summary>
    /// <param name="mayOpen">False where so many are late that it is for another reason.</param>
    /// <returns>Whether this opened the circuit.</returns>
    public bool WasLate(long now, long frequency, bool mayOpen) =>
        Opens(now, frequency, Interlocked.Add(ref _lateness, Late) >= Late * options.Failures && mayOpen, isSlow: true);

    private bool Opens(long now, long frequency, bool isEnough, bool isSlow)
    {
        var until = Volatile.Read(ref _openUntil);
        // Requests that began before the circuit opened fail later, all alike: only a trial's failure makes the next pause longer.
        if (until != 0 ? now < until : !isEnough) return false;
        var pause = Math.Min(options.LongestPause.TotalSeconds, options.Pause.TotalSeconds * Math.Pow(2, Math.Min(Interlocked.Increment(ref _pauses) - 1, 30)));
        IsSlow = isSlow;
        Volatile.Write(ref _inTime, 0);
        var opened = Interlocked.CompareExchange(ref _openUntil, Math.Max(1, now + (long)(pause * frequency)), until) == until && until == 0;
        Volatile.Write(ref _onTrial, 0);
        return opened;
    }

    /// <summary>A request that says nothing of the replica, since nobody waited for its end: a trial is free for the next.</summary>
    public void Abandoned() => Volatile.Write(ref _onTrial, 0);
}
