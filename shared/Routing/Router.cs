namespace Skiff.Routing;

/// <summary>
/// Chooses the replica for a key: of those that may take more, the one that ranks the key's slot best. No allocation, and no list of replicas is gone through when there are many.
/// <list type="number">
/// <item>A replica whose circuit is open is left out.</item>
/// <item>One that has its share is left out: at most (1 + ε) × the mean of the requests that were lately given, and of those in flight (Mirrokni, Thorup, Zadimoghaddam 2018); so is one that says it is saturated. Where that leaves out all, who has least in flight gets it.</item>
/// <item>One that must load the model first gets one request for it at a time; the others go to the next that has it, if there is one.</item>
/// </list>
/// Counts are this router's own: every caller spreads what it sends. Safe for many threads; where they race, a bound may be passed by as many requests as there are threads.
/// </summary>
public sealed class Router
{
    /// <summary>Where owners come from a table: so many slots are a key's own, one after the other. A key that fills all of them has the next so many anywhere, each request others.</summary>
    private const int Tries = 16;

    /// <summary>So many replicas' latencies say what is late at all of them.</summary>
    private const int MostCompared = 64;

    /// <summary>What has taken so many times as long as is late, and isn't done, hangs.</summary>
    private const int Hung = 3;

    /// <summary>And that much, where nothing is known of what is late.</summary>
    private static readonly TimeSpan LongForAny = TimeSpan.FromSeconds(0.05);

    /// <summary>Models share so many estimators of latency.</summary>
    internal const int Estimators = 64;

    private readonly RouterOptions _options;
    private readonly TimeProvider _time;
    private readonly long _reportAge;
    private readonly long[] _lateAfter = new long[Estimators]; // microseconds; 0 where too little is known
    private readonly RetryBudget _budget;
    private ReplicaSet _set = ReplicaSet.Empty;
    private int _assigned;
    private int _inFlight;
    private int _out;
    private int _halving;

    public Router(RouterOptions options, TimeProvider time)
    {
        _options = options.Validate();
        _time = time;
        _reportAge = (long)(options.ReportAge.TotalSeconds * time.TimestampFrequency);
        _budget = new RetryBudget(options);
    }

    public RouterOptions Options => _options;

    /// <summary>Who there is just now.</summary>
    public ReplicaSet Replicas => Volatile.Read(ref _set);

    internal RetryBudget Budget => _budget;

    /// <summary>Takes over who there is. Replicas that stay keep their circuits, counts and reports; requests under way end where they are.</summary>
    public void Replace(IEnumerable<Uri> addresses)
    {
        while (true)
        {
            var before = Replicas;
            var set = ReplicaSet.Of(addresses, _options, before);
            if (Interlocked.CompareExchange(ref _set, set, before) != before) continue;
            // Who joins others is cold, like one that is back.
            var joined = set.Replicas.ToArray().Except(before.Replicas.ToArray()).ToList();
            if (set.Replicas.ToArray().Except(joined).Any(replica => !replica.IsOut)) joined.ForEach(replica => replica.Circuit.Return(_time.GetTimestamp()));
            Recount(set, halve: false);
            return;
        }
    }

    /// <summary>Chooses a replica and gives it a request.</summary>
    /// <param name="key">By <see cref="RouteKey"/>.</param>
    /// <param name="model">By <see cref="RouteKey.OfModel"/>; 0 where no model matters.</param>
    /// <param name="besides">One that has been asked already, and is not to be asked again.</param>
    /// <returns>False when there is none to ask: no replica, or all circuits are open.</returns>
    public bool TryTake(ulong key, ulong model, Replica? besides, out Lease lease)
    {
        var set = Replicas;
        var now = _time.GetTimestamp();
        // Another thread may take a replica's trial between choice and entry; there are not more replicas than that.
        for (var attempt = 0; attempt <= set.Count; attempt++)
        {
            var (chosen, warm) = set.HasTable ? ChooseByTable(set, key, model, besides, now) : ChooseByRank(set, key, model, besides, now);
            if (chosen is null) break;
            var warms = false;
            if (warm is not null && warm != chosen)
            {
                warms = chosen.TryWarm(model);
                if (!warms) chosen = warm;
            }
            if (chosen.Circuit.TryEnter(now))
            {
                Begin(set, chosen);
                lease = new Lease(this, chosen, model, now, warms);
                return true;
            }
            if (warms) chosen.EndWarming();
        }
        if (TryTakeSlow(model, besides, out lease)) return true;
        if (_options.AsksLateOnes && LeastLoaded(set.Replicas, besides, now, slowToo: true) is { } anyhow)
        {
            Begin(set, anyhow);
            lease = new Lease(this, anyhow, model, now, warms: false);
            return true;
        }
        lease = default;
        return false;
    }

    /// <summary>Finds a slow replica that is due for a trial and gives it a request: a copy of one that another answers or, where there can be none, a request itself.</summary>
    internal bool TryTakeSlow(ulong model, Replica? besides, out Lease lease)
    {
        lease = default;
        if (Volatile.Read(ref _out) == 0) return false;
        var set = Replicas;
        var now = _time.GetTimestamp();
        foreach (var replica in set.Replicas)
        {
            if (replica == besides || !replica.Circuit.AwaitsTrial(now) || !replica.Circuit.TryEnter(now)) continue;
            Begin(set, replica);
            lease = new Lease(this, replica, model, now, warms: false);
            return true;
        }
        return false;
    }

    /// <summary>How long to wait for an answer before another replica is asked too; null while too little is known, or never.</summary>
    internal TimeSpan? HedgeDelay(ulong model) => _options.HedgeQuantile >= 1 ? null
        : Volatile.Read(ref _lateAfter[model % Estimators]) is > 0 and var late ? TimeSpan.FromTicks(Math.Max(late * TimeSpan.TicksPerMicrosecond, _options.ShortestHedge.Ticks))
        : _options.FirstHedge;

    /// <summary>
    /// What an active probe of a long-lived host found. One that is well doesn't bring a replica back that requests have found slow, since a probe is easier to answer: their own trials do.
    /// </summary>
    /// <param name="isDecisive">Of one that isn't well: nobody listens there, or it says that it is leaving. Otherwise it counts as a request's failure.</param>
    public void Probed(Replica replica, bool isWell, bool isDecisive = true)
    {
        if (!isWell && isDecisive) replica.SetGone(true);
        if (isWell && replica.SetGone(false)) Returned(replica);
        else if (isWell && (!replica.IsOut || !replica.Circuit.IsSlow)) Closed(replica.Circuit.Succeeded());
        else if (!isWell && replica.IsOut) replica.Circuit.IsSlow = false; // it isn't late, it's gone
        else if (!isWell) Failed(replica, isDecisive);
    }

    /// <summary>A replica was started again. It is cold, which is better than nobody and worse than the others.</summary>
    public void Returned(Replica replica)
    {
        replica.SetGone(false);
        var others = false;
        foreach (var other in Replicas.Replicas) others |= other != replica && !other.IsOut;
        if (others) Opened(replica.Circuit.Return(_time.GetTimestamp()));
        else Closed(replica.Circuit.Close());
    }

    /// <summary>More than half are never left out for being late or full: when most are it's the load, and the rest would have it all.</summary>
    private bool MayOpen => (Volatile.Read(ref _out) + 1) * 2 <= Replicas.Count;

    internal void Ended(in Lease lease, Outcome outcome)
    {
        lease.Replica.End();
        if (Interlocked.Decrement(ref _inFlight) < 0) Interlocked.Increment(ref _inFlight); // it began before the set was counted anew
        if (lease.Warms) lease.Replica.EndWarming();
        switch (outcome)
        {
            case Outcome.Answered:
                Closed(lease.Replica.Circuit.Succeeded());
                Measure(lease);
                break;
            case Outcome.Late:
                Opened(lease.Replica.Circuit.WasLate(_time.GetTimestamp(), _time.TimestampFrequency, MayOpen));
                // Otherwise the quantile would be that of the fast ones, and ever more would be late.
                Measure(lease);
                break;
            case Outcome.Overdue:
                // How little time a caller gives is nothing against the replica.
                var late = Volatile.Read(ref _lateAfter[lease.Model % Estimators]);
                var took = _time.GetElapsedTime(lease.Began);
                if (took < (late > 0 ? Hung * TimeSpan.FromMicroseconds(Math.Max(late, _options.ShortestHedge.TotalMicroseconds)) : LongForAny))
                {
                    lease.Replica.Circuit.Abandoned();
                    break;
                }
                Failed(lease.Replica, isDecisive: false, isSlow: true);
                Measure(lease);
                break;
            case Outcome.Failed or Outcome.Unreachable:
                Failed(lease.Replica, outcome == Outcome.Unreachable);
                break;
            case Outcome.Refused:
                Opened(lease.Replica.Circuit.Refused(_time.GetTimestamp(), _time.TimestampFrequency, MayOpen));
                break;
            case Outcome.Abandoned:
                lease.Replica.Circuit.Abandoned();
                break;
        }
    }

    internal void Say(Replica replica, ReplicaReport report) => replica.Say(report, _time.GetTimestamp());

    /// <summary>What was found out about a replica elsewhere: it counts where nothing was heard of itself lately.</summary>
    internal void Hear(Uri address, ReplicaReport report)
    {
        var name = address.GetLeftPart(UriPartial.Authority);
        foreach (var replica in Replicas.Replicas)
        {
            if (replica.Name == name && replica.IsSilent(_time.GetTimestamp(), _reportAge)) Say(replica, report);
        }
    }

    /// <summary>A request is late that takes longer than most do at most replicas: slow ones don't make lateness the rule, unless they are more than half.</summary>
    private void Measure(in Lease lease)
    {
        var slot = lease.Model % Estimators;
        if (!lease.Replica.Took(slot, (long)_time.GetElapsedTime(lease.Began).TotalMicroseconds, _options.HedgeQuantile)) return;
        Span<long> known = stackalloc long[MostCompared];
        var count = 0;
        foreach (var replica in Replicas.Replicas)
        {
            if (count < MostCompared && replica.Latency(slot)?.Microseconds is { } microseconds) known[count++] = microseconds;
        }
        if (count == 0) return; // it is no longer one of them
        known[..count].Sort();
        Volatile.Write(ref _lateAfter[slot], known[(count - 1) / 2]);
    }

    private void Failed(Replica replica, bool isDecisive, bool isSlow = false) =>
        Opened(replica.Circuit.Failed(_time.GetTimestamp(), _time.TimestampFrequency, isDecisive, isSlow));

    private void Opened(bool isNew)
    {
        if (isNew) Interlocked.Increment(ref _out);
    }

    private void Closed(bool isNew)
    {
        if (isNew) Interlocked.Decrement(ref _out);
    }

    /// <returns>Whose slot it is among those that may take more, and the best of these that has the model: the same, another, or none.</returns>
    private (Replica? Chosen, Replica? Warm) ChooseByRank(ReplicaSet set, ulong key, ulong model, Replica? besides, long now)
    {
        var slot = SlotOrder.SlotOf(key);
        var (fair, crowd) = Bounds(set);
        var seeksWarm = model != 0 && _options.PrefersWarm;
        var replicas = set.Replicas;
        Replica? chosen = null, warm = null;
        var (best, bestWarm) = (uint.MaxValue, uint.MaxValue);
        for (var i = 0; i < replicas.Length; i++)
        {
            var rank = set.Rank(i, slot);
            if (rank >= best && (!seeksWarm || rank >= bestWarm)) continue;
            var replica = replicas[i];
            if (replica == besides || !replica.Circuit.Admits(now) || !Fits(replica, fair, crowd, now)) continue;
            if (rank < best) (chosen, best) = (replica, rank);
            if (seeksWarm && rank < bestWarm && replica.IsWarm(model)) (warm, bestWarm) = (replica, rank);
        }
        return chosen is not null ? (chosen, warm) : (LeastLoaded(replicas, besides, now), null);
    }

    private (Replica? Chosen, Replica? Warm) ChooseByTable(ReplicaSet set, ulong key, ulong model, Replica? besides, long now)
    {
        var (fair, crowd) = Bounds(set);
        var seeksWarm = model != 0 && _options.PrefersWarm;
        Replica? chosen = null, spare = null;
        for (var i = 0; i < 2 * Tries; i++)
        {
            if (i == Tries)
            {
                if (chosen is not null) break;
                key ^= RouteKey.Mix((ulong)now + (ulong)Volatile.Read(ref _assigned));
            }
            var replica = set.Replicas[set.Owner(SlotOrder.SlotOf(key))];
            key = RouteKey.Mix(key + (ulong)i + 1);
            if (replica == besides || !replica.Circuit.Admits(now)) continue;
            if (spare is null || replica.Assigned < spare.Assigned) spare = replica;
            if (!Fits(replica, fair, crowd, now)) continue;
            chosen ??= replica;
            if (!seeksWarm || replica.IsWarm(model)) return (chosen, replica);
        }
        // Where all of them are out most are, and going through the rest is cheaper than an error.
        return (chosen ?? spare ?? LeastLoaded(set.Replicas, besides, now), null);
    }

    private static Replica? LeastLoaded(ReadOnlySpan<Replica> replicas, Replica? besides, long now, bool slowToo = false)
    {
        Replica? least = null;
        foreach (var replica in replicas)
        {
            if (replica != besides && (replica.Circuit.Admits(now) || (slowToo && replica.Circuit.IsSlow)) && (least is null || (replica.InFlight, replica.Assigned).CompareTo((least.InFlight, least.Assigned)) < 0)) least = replica;
        }
        return least;
    }

    /// <summary>How many requests a replica may have been given, and may have in flight, one more counted everywhere.</summary>
    private (double Fair, double Crowd) Bounds(ReplicaSet set)
    {
        var share = (1 + _options.Slack) / Math.Max(1, set.Count - Volatile.Read(ref _out));
        return ((Volatile.Read(ref _assigned) + 1) * share + _options.Grace, (Volatile.Read(ref _inFlight) + 1) * share + _options.Grace);
    }

    private bool Fits(Replica replica, double fair, double crowd, long now) =>
        replica.Assigned + 1 <= fair && replica.InFlight + 1 <= crowd && !replica.IsSaturated(now, _reportAge);

    private void Begin(ReplicaSet set, Replica replica)
    {
        replica.Begin();
        Interlocked.Increment(ref _inFlight);
        if (Interlocked.Increment(ref _assigned) >= 2L * _options.Window * set.Count) Recount(set, halve: true);
    }

    /// <summary>Sums up anew, which also mends what races and changes of the set have left.</summary>
    private void Recount(ReplicaSet set, bool halve)
    {
        if (Interlocked.Exchange(ref _halving, 1) != 0) return;
        var (assigned, inFlight, outs) = (0, 0, 0);
        foreach (var replica in set.Replicas)
        {
            assigned += halve ? replica.Halve() : replica.Assigned;
            inFlight += replica.InFlight;
            if (replica.IsOut) outs++;
        }
        Volatile.Write(ref _assigned, assigned);
        Volatile.Write(ref _inFlight, inFlight);
        Volatile.Write(ref _out, outs);
        Volatile.Write(ref _halving, 0);
    }
}

/// <summary>How a request to a replica ended.</summary>
public enum Outcome
{
    Answered,

    /// <summary>It answered with an error of its own, broke off, or took too long.</summary>
    Failed,

    /// <summary>Nobody listens there.</summary>
    Unreachable,

    /// <summary>It took so long that another was asked besides, whichever of them answered first.</summary>
    Late,

    /// <summary>The deadline came first.</summary>
    Overdue,

    /// <summary>It refused for now, being full: no reason to think that it is broken, unless it refuses everything.</summary>
    Refused,

    /// <summary>Nobody waits for it any more.</summary>
    Abandoned,
}

/// <summary>A request that a replica was given; ended exactly once.</summary>
public readonly struct Lease
{
    private readonly Router _router;

    internal Lease(Router router, Replica replica, ulong model, long began, bool warms) => (_router, Replica, Model, Began, Warms) = (router, replica, model, began, warms);

    public Replica Replica { get; }

    internal ulong Model { get; }

    internal long Began { get; }

    /// <summary>The replica loads the model for this one.</summary>
    internal bool Warms { get; }

    public void End(Outcome outcome) => _router.Ended(this, outcome);
}
