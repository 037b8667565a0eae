using Skiff.Models;

namespace Skiff.Batching;

/// <summary>Requests that share a run, and what becomes of each.</summary>
internal sealed class Batch
{
    private const int JobsAPart = 4;

    private readonly List<Exception?> _failures = [];
    private readonly List<(BatchJob Job, Exception Reason)> _dropped = [];

    public List<BatchJob> Jobs { get; } = [];

    /// <summary>What each got so far, in order; null for one that failed.</summary>
    public List<ModelOutputs?> Outputs { get; } = [];

    public int Rows { get; private set; }

    /// <summary>The nearest of the requests'.</summary>
    public TimeSpan Objective { get; private set; } = TimeSpan.MaxValue;

    public BatchClosed Closed { get; set; }

    public int Answered => Outputs.Count;

    public bool HasFailures => _failures.Exists(failure => failure is not null);

    /// <summary>Whether a request's rows can stand below those that are there.</summary>
    public bool Takes(BatchJob job)
    {
        if (job.Rows < 0 || Jobs[0].Rows < 0) return false;
        var first = Jobs[0].Inputs;
        for (var i = 0; i < first.Length; i++)
        {
            if (!job.Inputs[i].Shape.AsSpan(1).SequenceEqual(first[i].Shape.AsSpan(1))) return false;
        }
        return true;
    }

    public void Add(BatchJob job)
    {
        Jobs.Add(job);
        Rows += Math.Max(job.Rows, 1);
        if (job.Objective < Objective) Objective = job.Objective;
    }

    /// <summary>Leaves out a request that nobody waits for any more.</summary>
    public void Drop(BatchJob job, Exception reason) => _dropped.Add((job, reason));

    public void Answer(ModelOutputs outputs)
    {
        Outputs.Add(outputs);
        _failures.Add(null);
    }

    public void Answer(Exception failure)
    {
        Outputs.Add(null);
        _failures.Add(failure);
    }

    /// <summary>Tells everybody. Their next steps run here and now, but for those that another core can take: an item of the pool for each would cost more than the batch has saved.</summary>
    /// <param name="failure">For those who have no answer yet.</param>
    public void Complete(Exception? failure)
    {
        foreach (var (job, reason) in _dropped) job.Fail(reason);
        var parts = Math.Clamp(Jobs.Count / JobsAPart, 1, Environment.ProcessorCount);
        for (var part = 1; part < parts; part++) ThreadPool.UnsafeQueueUserWorkItem(new Part(this, Jobs.Count * part / parts, Jobs.Count * (part + 1) / parts, failure), preferLocal: false);
        Complete(0, Jobs.Count / parts, failure);
    }

    private void Complete(int from, int to, Exception? failure)
    {
        for (var i = from; i < to; i++)
        {
            if (i < Answered && Outputs[i] is { } outputs) Jobs[i].Complete(outputs);
            else Jobs[i].Fail((i < Answered ? _failures[i] : null) ?? failure ?? new InvalidOperationException("the batch ended without an answer"));
        }
    }

    private sealed class Part(Batch batch, int from, int to, Exception? failure) : IThreadPoolWorkItem
    {
        public void Execute() => batch.Complete(from, to, failure);
    }
}
