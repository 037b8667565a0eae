using Skiff.Batching;

namespace Skiff.Routing;

/// <summary>Rows that somebody wants a model of the tier to run, and waits for.</summary>
/// <param name="rows">Of the line's type and shape, one behind the other; its own.</param>
/// <param name="until">A timestamp after which nobody waits.</param>
internal sealed class TierJob(ReadOnlyMemory<byte> rows, int count, int priority, long until, TraceParent? trace)
{
    private readonly TaskCompletionSource<TierAnswer> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public ReadOnlyMemory<byte> Rows => rows;
    public int Count => count;
    public int Priority => priority;
    public long Until => until;
    public TraceParent? Trace => trace;
    public Task<TierAnswer> Task => _done.Task;

    public void Answer(TierAnswer answer) => _done.TrySetResult(answer);

    public void Fail(Exception e) => _done.TrySetException(e is RequestException refused ? new RequestException(refused.Refusal, refused.Message) : e);
}

/// <summary>
/// What this process asks of one model on the tier. While the replicas have room each request is sent as it comes; what comes beyond that waits for an answer, and then goes together as one request: higher priorities and
/// nearer deadlines first, as many rows as can be expected back before the nearest deadline among them. A model whose rows turn out to depend on the rows beside them, which the first request of several shows, is asked for each alone.
/// </summary>
/// <param name="ask">Sends jobs as one request; the answer has the rows of all, in order.</param>
/// <param name="places">How many requests may be under way at once.</param>
internal sealed class TierLine(Func<IReadOnlyList<TierJob>, Task<TierAnswer>> ask, Func<int> places, TimeProvider time)
{
    public const int MostRows = 64;
    public const int MostBytes = 4 << 20;

    private const int MostWaiting = 8192;

    /// <summary>So many of the first request of several are asked for alone too: the tier that has them together is busy.</summary>
    private const int Examined = 2;

    private readonly Lock _lock = new();
    private readonly List<TierJob> _waiting = []; // this and the rest: guarded by _lock
    private int _rows;
    private int _underWay;
    private double _rowSeconds; // lately, the way there and back included
    private int _independent; // the version of the model whose rows were seen not to depend on each other
    private int _dependent;

    /// <exception cref="RequestException">Too many wait.</exception>
    public Task<TierAnswer> RunAsync(TierJob job)
    {
        List<List<TierJob>> next;
        lock (_lock)
        {
            if (_dependent == 0 && (_waiting.Count > 0 || _underWay >= places()))
            {
                if (_rows + job.Count > MostWaiting) throw new RequestException(Refusal.Busy, $"{_rows} rows wait for the heavy tier already; try again later");
                var at = _waiting.Count;
                while (at > 0 && (job.Priority, job.Until).CompareTo((_waiting[at - 1].Priority, _waiting[at - 1].Until)) < 0) at--;
                _waiting.Insert(at, job);
                _rows += job.Count;
                next = TakeAll();
            }
            else
            {
                _underWay++;
                next = [[job]];
            }
        }
        foreach (var jobs in next) _ = SendAsync(jobs);
        return job.Task;
    }

    private async Task SendAsync(IReadOnlyList<TierJob> jobs)
    {
        try
        {
            await AskAsync(jobs);
        }
        catch (RequestException e) when (e.Refusal == Refusal.Invalid && jobs.Count > 1)
        {
            // It may be the fault of one of them.
            await Task.WhenAll(jobs.Select(AloneAsync));
        }
        catch (Exception e)
        {
            foreach (var job in jobs) job.Fail(e);
        }
        List<List<TierJob>> next;
        lock (_lock)
        {
            _underWay--;
            next = TakeAll();
        }
        foreach (var others in next) _ = SendAsync(others);
    }

    private async Task AskAsync(IReadOnlyList<TierJob> jobs)
    {
        var rows = jobs.Sum(job => job.Count);
        var began = time.GetTimestamp();
        var answer = await ask(jobs);
        bool isKnown;
        lock (_lock)
        {
            var each = time.GetElapsedTime(began).TotalSeconds / rows;
            _rowSeconds = _rowSeconds == 0 ? each : 0.8 * _rowSeconds + 0.2 * each;
            isKnown = jobs.Count == 1 || answer.Version == _independent;
            if (_dependent != answer.Version) _dependent = 0; // another version, another look
        }
        if (answer.Scores.Length % rows != 0) throw RequestException.Unavailable($"the heavy tier gave {answer.Scores.Length} scores for {rows} rows");
        if (isKnown) Give(jobs, answer, rows);
        else await ExamineAsync(jobs, answer, rows);
    }

    private static void Give(IReadOnlyList<TierJob> jobs, TierAnswer answer, int rows)
    {
        var (width, first) = (answer.Scores.Length / rows, 0);
        foreach (var job in jobs)
        {
            job.Answer(jobs.Count == 1 ? answer : answer with { Scores = answer.Scores.AsSpan(first * width, job.Count * width).ToArray(), Share = answer.Share * ((double)job.Count / rows) });
            first += job.Count;
        }
    }

    /// <summary>Asks for some alone too, whose answers count. The others have theirs already if it's the same for those; if not, or if nothing was to be seen of them, they are asked for alone as well.</summary>
    private async Task ExamineAsync(IReadOnlyList<TierJob> jobs, TierAnswer together, int rows)
    {
        var isSame = await CompareAsync(0, Math.Min(Examined, jobs.Count));
        if (isSame is true) Give(jobs, together, rows); // whoever has an answer keeps it
        else if (await CompareAsync(Examined, jobs.Count) is { } others) isSame = others && isSame is null;
        if (isSame is null) return; // all failed, or another version became live: next time
        lock (_lock) (_independent, _dependent) = isSame is true ? (together.Version, 0) : (0, together.Version);

        // Null where none had an answer of that version: one that fails says nothing about the others.
        async Task<bool?> CompareAsync(int from, int to)
        {
            var (width, first, all) = (together.Scores.Length / rows, jobs.Take(from).Sum(job => job.Count), (bool?)null);
            var some = jobs.Take(to).Skip(from).ToList();
            foreach (var (job, answer) in some.Zip(await Task.WhenAll(some.Select(AloneAsync))))
            {
                if (answer is { } one && one.Version == together.Version) all = all is not false && RowComparison.IsClose(one.Scores, together.Scores.AsSpan(first * width, job.Count * width));
                first += job.Count;
            }
            return all;
        }
    }

    private async Task<TierAnswer?> AloneAsync(TierJob job)
    {
        try
        {
            var answer = await ask([job]);
            job.Answer(answer);
            return answer;
        }
        catch (Exception e)
        {
            job.Fail(e);
            return null;
        }
    }

    /// <summary>As much as there are places for: there may be more of them than when somebody last looked.</summary>
    private List<List<TierJob>> TakeAll()
    {
        var all = new List<List<TierJob>>();
        while (Take() is { } next)
        {
            _underWay++;
            all.Add(next);
        }
        return all;
    }

    /// <returns>What goes together next; null for nothing, or no place.</returns>
    private List<TierJob>? Take()
    {
        var now = time.GetTimestamp();
        while (_waiting.Count > 0 && _waiting[0].Until <= now) Leave(0).Fail(new RequestException(Refusal.DeadlineExceeded, "the deadline passed before the heavy tier could be asked"));
        if (_waiting.Count == 0 || _underWay >= places()) return null;
        var jobs = new List<TierJob> { Leave(0) };
        var (rows, bytes, until) = (jobs[0].Count, (long)jobs[0].Rows.Length, jobs[0].Until);
        while (_waiting.Count > 0 && _dependent == 0)
        {
            var next = _waiting[0];
            until = Math.Min(until, next.Until);
            if (rows + next.Count > MostRows || bytes + next.Rows.Length > MostBytes || (rows + next.Count) * _rowSeconds > time.GetElapsedTime(now, until).TotalSeconds) break;
            (rows, bytes) = (rows + next.Count, bytes + next.Rows.Length);
            jobs.Add(Leave(0));
        }
        return jobs;
    }

    private TierJob Leave(int place)
    {
        var job = _waiting[place];
        _waiting.RemoveAt(place);
        _rows -= job.Count;
        return job;
    }
}
