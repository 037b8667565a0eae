namespace Skiff.Batching;

/// <summary>How requests for one model share its runs.</summary>
public sealed record BatchingOptions
{
    /// <summary>What a request without an objective of its own is held to.</summary>
    public TimeSpan Objective { get; init; } = TimeSpan.FromMilliseconds(10);

    /// <summary>Rows of a batch, always; null for as many as fit the objective (<see cref="AdaptiveLimit"/>).</summary>
    public int? FixedRows { get; init; }

    /// <summary>No batch has more, unless one request does.</summary>
    public int MostRows { get; init; } = 256;

    /// <summary>With so many waiting, a request is refused, or takes the place of one of lower priority. This bounds memory; what bounds the wait is each request's deadline.</summary>
    public int MostQueuedRows { get; init; } = 8192;

    /// <summary>A request without a deadline is refused where it would wait longer.</summary>
    public TimeSpan MostWait { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How many batches run side by side; null for as many as are measured to do most (<see cref="WorkerTuner"/>).</summary>
    public int? Workers { get; init; }

    /// <summary>What waiting in line costs a row in processor time: a batch must save more, or its model's requests are run one by one. The <c>batching</c> suite measures it.</summary>
    public double OverheadMicroseconds { get; init; } = 1.5;
}

/// <summary>Why a batch had no more rows.</summary>
public enum BatchClosed
{
    /// <summary>Nobody else asked: the request ran by itself, at once.</summary>
    Alone,

    /// <summary>It took all that waited.</summary>
    Drained,

    /// <summary>It had as many rows as may be.</summary>
    Full,

    /// <summary>What waited has another shape, or can't share a run.</summary>
    Shape,
}
