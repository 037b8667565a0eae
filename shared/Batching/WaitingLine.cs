namespace Skiff.Batching;

/// <summary>Requests that wait for a run: higher priorities first, and within one the nearest due. Not safe for several threads.</summary>
internal sealed class WaitingLine
{
    private readonly PriorityQueue<BatchJob, long>[] _levels = [.. Enumerable.Range(0, Priorities.Lowest + 1).Select(_ => new PriorityQueue<BatchJob, long>())];
    private readonly int[] _rows = new int[Priorities.Lowest + 1];
    private int _allRows;

    public int Count { get; private set; }

    /// <summary>Rows that wait, of all priorities. May be read from outside.</summary>
    public int Rows => Volatile.Read(ref _allRows);

    /// <summary>Rows that come before one of this priority that arrives now.</summary>
    public int RowsBefore(int priority)
    {
        var rows = 0;
        for (var level = 0; level <= priority; level++) rows += _rows[level];
        return rows;
    }

    public void Enqueue(BatchJob job, long due)
    {
        _levels[job.Priority].Enqueue(job, due);
        Count++;
        Add(job.Priority, Math.Max(job.Rows, 1));
    }

    /// <summary>Who comes first.</summary>
    public bool TryPeek(out BatchJob job, out long due)
    {
        foreach (var level in _levels)
        {
            if (level.TryPeek(out job!, out due)) return true;
        }
        (job, due) = (null!, 0);
        return false;
    }

    /// <summary>Takes who comes first.</summary>
    public void Dequeue()
    {
        foreach (var level in _levels)
        {
            if (level.Count == 0) continue;
            Take(level);
            return;
        }
    }

    /// <summary>Takes the request of the lowest priority below this one that would expire first: it has the least to lose.</summary>
    public BatchJob? TakeBelow(int priority)
    {
        for (var level = _levels.Length - 1; level > priority; level--)
        {
            if (_levels[level].Count > 0) return Take(_levels[level]);
        }
        return null;
    }

    /// <summary>Takes whoever nobody waits for any more; of each priority, so that those who would never come first are told in time too.</summary>
    public void TakeGone(Func<BatchJob, long, Exception?> isGone, long now, Action<BatchJob, Exception> take)
    {
        foreach (var level in _levels)
        {
            while (level.TryPeek(out var job, out _) && isGone(job, now) is { } reason) take(Take(level), reason);
        }
    }

    private BatchJob Take(PriorityQueue<BatchJob, long> level)
    {
        var job = level.Dequeue();
        Count--;
        Add(job.Priority, -Math.Max(job.Rows, 1));
        return job;
    }

    private void Add(int priority, int rows)
    {
        _rows[priority] += rows;
        Volatile.Write(ref _allRows, _allRows + rows);
    }
}
