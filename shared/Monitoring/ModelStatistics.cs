using Skiff.Batching;

namespace Skiff.Monitoring;

/// <summary>Counts and times of a model version since the process started. Written by many at once, read now and then: a reading may be a request apart between fields.</summary>
public sealed class ModelStatistics
{
    private long _success;
    private long _successTicks;
    private long _failure;
    private long _failureTicks;
    private long _rows;
    private long _executions;
    private long _inputTicks;
    private long _runTicks;
    private long _outputTicks;
    private long _lastUnixMs;
    private long _queued;
    private long _queueTicks;
    private long _expiredRequests;
    private long _refusedRequests;
    private long _displacedRequests;
    private readonly long[] _closed = new long[Enum.GetValues<BatchClosed>().Length];

    public Histogram RequestSeconds { get; } = new(Histogram.LatencySeconds);

    public long Success => Volatile.Read(ref _success);
    public long SuccessTicks => Volatile.Read(ref _successTicks);
    public long Failure => Volatile.Read(ref _failure);
    public long FailureTicks => Volatile.Read(ref _failureTicks);

    /// <summary>Rows that were inferred; a request may hold many.</summary>
    public long Rows => Volatile.Read(ref _rows);

    /// <summary>Runs of the session.</summary>
    public long Executions => Volatile.Read(ref _executions);

    public long InputTicks => Volatile.Read(ref _inputTicks);
    public long RunTicks => Volatile.Read(ref _runTicks);
    public long OutputTicks => Volatile.Read(ref _outputTicks);

    /// <summary>When the last request was answered, Unix time in ms; 0 when there was none.</summary>
    public long LastUnixMs => Volatile.Read(ref _lastUnixMs);

    /// <summary>Rows of each run.</summary>
    public Histogram BatchRows { get; } = new([1, 2, 4, 8, 16, 32, 64, 128, 256]);

    /// <summary>Requests of each run.</summary>
    public Histogram BatchRequests { get; } = new([1, 2, 4, 8, 16, 32, 64, 128, 256]);

    /// <summary>Requests that waited for a run.</summary>
    public long Queued => Volatile.Read(ref _queued);

    public long QueueTicks => Volatile.Read(ref _queueTicks);

    /// <summary>Requests whose deadline passed before they were run.</summary>
    public long ExpiredRequests => Volatile.Read(ref _expiredRequests);

    /// <summary>Requests that would have waited too long, or found no place.</summary>
    public long RefusedRequests => Volatile.Read(ref _refusedRequests);

    /// <summary>Requests whose place one of higher priority took.</summary>
    public long DisplacedRequests => Volatile.Read(ref _displacedRequests);

    public void Expired() => Interlocked.Increment(ref _expiredRequests);

    public void Refused() => Interlocked.Increment(ref _refusedRequests);

    public void Displaced() => Interlocked.Increment(ref _displacedRequests);

    /// <summary>Batches that had no more rows for this reason.</summary>
    public long Closed(BatchClosed reason) => Volatile.Read(ref _closed[(int)reason]);

    /// <summary>Records a batch: what it held, and why no more.</summary>
    public void Batched(int requests, int rows, BatchClosed closed)
    {
        BatchRequests.Observe(requests);
        BatchRows.Observe(rows);
        Interlocked.Increment(ref _closed[(int)closed]);
    }

    /// <summary>Records how long a request waited for its run.</summary>
    public void Waited(long ticks)
    {
        Interlocked.Increment(ref _queued);
        Interlocked.Add(ref _queueTicks, ticks);
    }

    /// <summary>Records one run. All durations are in <see cref="TimeProvider.GetTimestamp"/>'s ticks.</summary>
    public void Ran(long rows, long runTicks)
    {
        Interlocked.Add(ref _rows, rows);
        Interlocked.Increment(ref _executions);
        Interlocked.Add(ref _runTicks, runTicks);
    }

    public void Succeeded(long inputTicks, long outputTicks, long totalTicks, double totalSeconds, DateTimeOffset now)
    {
        Interlocked.Increment(ref _success);
        Interlocked.Add(ref _inputTicks, inputTicks);
        Interlocked.Add(ref _outputTicks, outputTicks);
        Interlocked.Add(ref _successTicks, totalTicks);
        Volatile.Write(ref _lastUnixMs, now.ToUnixTimeMilliseconds());
        RequestSeconds.Observe(totalSeconds);
    }

    public void Failed(long totalTicks)
    {
        Interlocked.Increment(ref _failure);
        Interlocked.Add(ref _failureTicks, totalTicks);
    }
}
