namespace Skiff.Routing;

/// <summary>
/// Whether a replica is asked at all. Closed: it is. Open, after failures in a row, many refusals in a row, or when it is late too often: it isn't, until a pause is over. Then one request at a time is a trial: it closes the circuit or opens it
/// for twice as long as the trial before. Where it was opened for being slow, the trials are copies of requests that another answers, where there can be such (nobody waits for them), and most must be in time for a while: one may be by luck. A replica that was
/// gone and is back is slow until it has warmed up. Times are <see cref="TimeProvider.GetTimestamp"/>'s, handed in.
/// </summary>
internal sealed class Circuit(RouterOptions options)
{
    /// <summary>
    /// What being late once counts in answers in time. The sum opens the circuit and, at nothing, closes it: a replica that is late no more often than the quantile of lateness says (one in twenty) never gets far, and out of any
    /// distance; one that mostly is soon does.
    /// </summary>
    private const int Late = 4;

    private const int MostLate = 64;

    /// <summary>A replica that is only full takes some in between: one that refuses so many in a row can't do what it is asked.</summary>
    private const int MostRefusals = 16;

    /// <summary>Over so long requests must come too late to be more than one stall, which many wait for at once.</summary>
    private static readonly TimeSpan Stall = TimeSpan.FromSeconds(0.1);

    /// <summary>So many trials a replica that is back has to warm up with, one shortly after the other.</summary>
    private const int WarmingTrials = 64;

    private static readonly TimeSpan WarmingPause = TimeSpan.FromMilliseconds(50);

    private int _failures;
    private long _failedFirst;
    private int _refusals;
    private int _lateness;
    private int _warming;
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

    /// <summary>Whether a request may go there: all of them while it is closed; after failures the first one after the pause, as its trial.</summary>
    public bool Admits(long now) => !IsOpen || (!IsSlow && IsDue(now));

    /// <summary>Whether it is slow, and due for a trial.</summary>
    public bool AwaitsTrial(long now) => IsOpen && IsSlow && IsDue(now);

    /// <summary>Lets a request or a copy through that <see cref="Admits"/> or <see cref="AwaitsTrial"/> would, unless another was faster.</summary>
    public bool TryEnter(long now) => !IsOpen || (IsDue(now) && Interlocked.CompareExchange(ref _onTrial, 1, 0) == 0);

    private bool IsDue(long now) => now >= Volatile.Read(ref _openUntil) && Volatile.Read(ref _onTrial) == 0;

    /// <returns>Whether this closed the circuit.</returns>
    public bool Succeeded()
    {
        Volatile.Write(ref _failures, 0);
        Volatile.Write(ref _refusals, 0);
        var isLate = Volatile.Read(ref _lateness) > 0 && Interlocked.Decrement(ref _lateness) > 0;
        if (!IsOpen) return false;
        if (IsSlow && isLate)
        {
            // Being late now and then it soon makes up for; a long pause each time would keep it out for minutes.
            Volatile.Write(ref _pauses, 0);
            Volatile.Write(ref _onTrial, 0);
            return false;
        }
        return Close();
    }

    /// <returns>Whether it was open.</returns>
    public bool Close()
    {
        Volatile.Write(ref _failures, 0);
        Volatile.Write(ref _refusals, 0);
        Volatile.Write(ref _lateness, 0);
        Volatile.Write(ref _warming, 0);
        Volatile.Write(ref _pauses, 0);
        var closed = Interlocked.Exchange(ref _openUntil, 0) != 0;
        Volatile.Write(ref _onTrial, 0);
        return closed;
    }

    /// <summary>It was gone and is back, cold.</summary>
    /// <returns>Whether this opened the circuit: nobody had noticed that it was gone.</returns>
    public bool Return(long now)
    {
        Volatile.Write(ref _lateness, MostLate);
        Volatile.Write(ref _pauses, 0);
        Volatile.Write(ref _warming, WarmingTrials);
        IsSlow = true;
        var opened = Interlocked.Exchange(ref _openUntil, Math.Max(1, now)) == 0;
        Volatile.Write(ref _onTrial, 0);
        return opened;
    }

    /// <param name="isDecisive">Nobody listens there: no need to count.</param>
    /// <param name="isSlow">It had not answered by the deadline, and may yet.</param>
    /// <param name="frequency">Ticks a second.</param>
    /// <returns>Whether this opened the circuit.</returns>
    public bool Failed(long now, long frequency, bool isDecisive, bool isSlow)
    {
        var failures = Interlocked.Increment(ref _failures);
        if (failures == 1) Volatile.Write(ref _failedFirst, now);
        var isEnough = failures >= options.Failures && (!isSlow || now - Volatile.Read(ref _failedFirst) >= Stall.TotalSeconds * frequency);
        return Opens(now, frequency, isEnough || isDecisive, isSlow);
    }

    /// <summary>It has no place, or can't do what it is asked: which of them, only many in a row tell. A trial that is refused is free for the next.</summary>
    /// <param name="mayOpen">False where so many refuse that it is the load.</param>
    /// <returns>Whether this opened the circuit.</returns>
    public bool Refused(long now, long frequency, bool mayOpen)
    {
        if (Interlocked.Increment(ref _refusals) >= MostRefusals && mayOpen && !(IsOpen && IsSlow)) return Opens(now, frequency, isEnough: true, isSlow: false);
        Abandoned();
        return false;
    }

    /// <summary>It would have answered, or did, but later than most do.</summary>
    /// <param name="mayOpen">False where so many are late that it is for another reason.</param>
    /// <returns>Whether this opened the circuit.</returns>
    public bool WasLate(long now, long frequency, bool mayOpen)
    {
        var lateness = Math.Min(MostLate, Volatile.Read(ref _lateness) + Late); // one lost to a race does no harm
        Volatile.Write(ref _lateness, lateness);
        return Opens(now, frequency, lateness >= Late * options.Failures && mayOpen, isSlow: true);
    }

    private bool Opens(long now, long frequency, bool isEnough, bool isSlow)
    {
        var until = Volatile.Read(ref _openUntil);
        // Requests that began before the circuit opened fail later, all alike: only a trial's failure makes the next pause longer.
        if (until != 0 ? now < until : !isEnough) return false;
        var warms = isSlow && Interlocked.Decrement(ref _warming) >= 0;
        var pause = warms ? WarmingPause.TotalSeconds : Math.Min(options.LongestPause.TotalSeconds, options.Pause.TotalSeconds * Math.Pow(2, Math.Min(Interlocked.Increment(ref _pauses) - 1, 30)));
        IsSlow = isSlow;
        if (isSlow) Volatile.Write(ref _lateness, Math.Clamp(Volatile.Read(ref _lateness), Late * options.Failures, MostLate));
        var opened = Interlocked.CompareExchange(ref _openUntil, Math.Max(1, now + (long)(pause * frequency)), until) == until && until == 0;
        Volatile.Write(ref _onTrial, 0);
        return opened;
    }

    /// <summary>A request that says nothing of the replica, since nobody waited for its end: a trial is free for the next.</summary>
    public void Abandoned() => Volatile.Write(ref _onTrial, 0);
}
