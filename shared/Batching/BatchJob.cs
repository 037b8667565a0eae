using System.Collections.Concurrent;
using System.Threading.Tasks.Sources;
using Skiff.Models;

namespace Skiff.Batching;

/// <summary>A request that waits for a run. Pooled: a waiting request allocates what its caller's state machines do, and a view of the outputs.</summary>
internal sealed class BatchJob : IValueTaskSource<ModelOutputs>
{
    private const int MostPooled = 1024;

    private static readonly ConcurrentQueue<BatchJob> Pool = new();
    private static int _pooled;

    private ManualResetValueTaskSourceCore<ModelOutputs> _source;

    public TensorBuffer Buffer { get; private set; } = null!;
    public Tensor[] Inputs { get; private set; } = [];

    /// <summary>Rows, as its inputs agree on; -1 when it can't share a run.</summary>
    public int Rows { get; private set; }

    public long Arrived { get; private set; }

    /// <summary>A timestamp after which nobody wants it; <see cref="long.MaxValue"/> for none.</summary>
    public long Deadline { get; private set; }

    /// <summary>One of <see cref="Priorities"/>.</summary>
    public int Priority { get; private set; }

    public TimeSpan Objective { get; private set; }
    public CancellationToken Cancellation { get; private set; }

    public ValueTask<ModelOutputs> Task => new(this, _source.Version);

    public static BatchJob Rent(TensorBuffer buffer, Tensor[] inputs, int rows, long arrived, Terms terms, TimeSpan objective, CancellationToken cancellation)
    {
        if (Pool.TryDequeue(out var job)) Interlocked.Decrement(ref _pooled);
        else job = new BatchJob();
        (job.Buffer, job.Inputs, job.Rows, job.Arrived, job.Deadline, job.Priority, job.Objective, job.Cancellation) = (buffer, inputs, rows, arrived, terms.Deadline, terms.Priority, objective, cancellation);
        return job;
    }

    public void Complete(ModelOutputs outputs) => _source.SetResult(outputs);

    public void Fail(Exception e) => _source.SetException(e);

    public ModelOutputs GetResult(short token)
    {
        try
        {
            return _source.GetResult(token);
        }
        finally
        {
            _source.Reset();
            (Buffer, Inputs, Cancellation) = (null!, [], default);
            if (Interlocked.Increment(ref _pooled) <= MostPooled) Pool.Enqueue(this);
            else Interlocked.Decrement(ref _pooled);
        }
    }

    public ValueTaskSourceStatus GetStatus(short token) => _source.GetStatus(token);

    public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) => _source.OnCompleted(continuation, state, token, flags);
}
