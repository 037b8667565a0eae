using System.Collections.Concurrent;
using Skiff.Models;
using Skiff.Monitoring;

namespace Skiff.Batching;

/// <summary>
/// Stands before a session and lets requests that come together share its runs: rows of several requests, copied into one tensor, and the outputs given back as views. Nobody waits while the session
/// is idle: who comes alone runs at once, on the thread that asked. Who comes in company waits for the run under way, higher priorities and then nearest deadlines first, and the next run takes all that fit.
/// Who would wait past the deadline is refused at once.
/// </summary>
/// <remarks>
/// A run blocks its thread and callers are asynchronous, so on few cores a second request is often not seen before the first one is done. Therefore a session that lately had company
/// puts its next run behind the work that the pool already has, which are the requests that should share it.
/// </remarks>
public sealed class Batcher : IThreadPoolWorkItem
{
    private const double LongRun = 1000; // µs: many times what waking a thread takes
    private const double VeryLongRun = 20_000; // too long to wait behind

    private readonly BatchingOptions _options;
    private readonly ModelStatistics _statistics;
    private readonly TimeProvider _time;
    private readonly bool _canShare;
    private readonly ConcurrentQueue<TensorBuffer> _buffers = new();

    private readonly Lock _lock = new();
    private readonly WaitingLine _line = new(); // this and the rest: guarded by _lock
    private readonly WaitEstimate _estimate = new();
    private readonly AdaptiveLimit _limit;
    private readonly WorkerTuner _tuner;
    private readonly RunTimes _times;
    private int _running;
    private int _scheduled;
    private bool _hadCompany;
    private bool _isIndependent; // whether a row's outputs were seen not to depend on the rows beside it
    private bool _isDependent;
    private long _lastEnd;
    private double _lastRun; // µs; read without the lock
    private long _nextDue; // of who comes first in line; read without the lock

    public Batcher(ModelSession session, BatchingOptions options, ModelStatistics statistics, TimeProvider time)
    {
        (Session, _options, _statistics, _time) = (session, options, statistics, time);
        _limit = new AdaptiveLimit(options.MostRows);
        _tuner = new WorkerTuner(Environment.ProcessorCount);
        _times = new RunTimes(options.OverheadMicroseconds);
        _canShare = session.Inputs.Count > 0 && session.Inputs.Concat(session.Outputs).All(spec => spec.Type != DataType.Bytes && spec.Shape is [-1, ..]);
    }

    public ModelSession Session { get; }

    /// <summary>Rows that wait now.</summary>
    public int QueuedRows => _line.Rows;

    /// <summary>How long a row of normal priority that came now would wait and run.</summary>
    public TimeSpan ExpectedWait
    {
        get
        {
            lock (_lock) return Expected(1, Priorities.Normal);
        }
    }

    /// <summary>Runs that are under way.</summary>
    public int Running => Volatile.Read(ref _running);

    /// <summary>Rows that a batch may have now.</summary>
    public int MostRows => _options.FixedRows ?? _limit.Rows;

    /// <summary>Batches that may run side by side now.</summary>
    public int Workers => _options.Workers ?? _tuner.Workers;

    /// <summary>Runs the model on a request's rows, alone or with others'.</summary>
    /// <param name="buffer">Stays the batcher's until the task is done, whatever becomes of the caller.</param>
    /// <param name="inputs">All of the session's inputs, in order, of their types and shapes.</param>
    /// <param name="terms">What hasn't begun by the deadline is refused, and what can't be expected to be done by then, at once; of a lower priority it may also be refused later, when a higher one needs the place.</param>
    /// <param name="objective">Within which the caller would like its answer; null for the batcher's own.</param>
    /// <exception cref="ModelFailedException">The runtime failed on these rows.</exception>
    /// <exception cref="RequestException">The deadline has passed, or too many wait.</exception>
    public ValueTask<ModelOutputs> RunAsync(TensorBuffer buffer, Tensor[] inputs, Terms terms, TimeSpan? objective, CancellationToken cancellation)
    {
        var rows = RowsOf(inputs);
        var now = _time.GetTimestamp();
        if (now > terms.Deadline)
        {
            _statistics.Expired();
            throw Late();
        }
        BatchJob job;
        BatchJob? displaced = null;
        var schedules = false;
        lock (_lock)
        {
            if (_times.IsBypassed || (_line.Count == 0 && IsFree() && !ExpectsCompany() && MayRunHere(rows)))
            {
                _running++;
                goto alone;
            }
            if (IsHopeless(rows, now, terms, out var wait))
            {
                _statistics.Refused();
                throw Busy($"a request would wait {wait.TotalMilliseconds:0.#} ms for this model, longer than it may; try again later");
            }
            if (_line.Rows > _options.MostQueuedRows && (displaced = _line.TakeBelow(terms.Priority)) is null)
            {
                _statistics.Refused();
                throw Busy($"{_line.Rows} rows wait for this model already; try again later");
            }
            job = BatchJob.Rent(buffer, inputs, rows, now, terms, objective ?? _options.Objective, cancellation);
            Enqueue(job);
            schedules = Schedules();
        }
        var task = job.Task;
        if (schedules) Start();
        if (displaced is not null) Displace(displaced);
        return task;

    alone:
        return new ValueTask<ModelOutputs>(RunAlone(buffer, inputs, rows, now));
    }

    /// <summary>Runs a batch of what waits.</summary>
    void IThreadPoolWorkItem.Execute()
    {
        var batch = new Batch();
        bool isEmpty;
        lock (_lock)
        {
            _scheduled--;
            Form(batch);
            isEmpty = batch.Jobs.Count == 0;
            if (!isEmpty) _running++;
        }
        if (isEmpty)
        {
            batch.Complete(null);
            return;
        }
        var started = _time.GetTimestamp();
        Exception? failure = null;
        try
        {
            Run(batch, started);
        }
        catch (Exception e)
        {
            // Not the model, which fails single requests: whoever waits must hear of it.
            failure = e;
        }
        var ended = _time.GetTimestamp();
        bool more;
        lock (_lock)
        {
            _running--;
            Learn(batch, started, ended);
            more = Schedules();
        }
        if (more) Start();
        _statistics.Batched(batch.Jobs.Count, batch.Rows, batch.Closed);
        batch.Complete(failure);
    }

    /// <summary>Has a batch run: by the pool, or where runs take long by a thread that nobody else needs, so that they can't hold up the answers of others.</summary>
    private void Start()
    {
        var (run, due) = (Volatile.Read(ref _lastRun), Volatile.Read(ref _nextDue));
        if (run < LongRun) ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        else (run < VeryLongRun ? RunThreads.Cores : RunThreads.Many).Queue(this, due);
    }

    private ModelOutputs RunAlone(TensorBuffer buffer, Tensor[] inputs, int rows, long started)
    {
        try
        {
            var outputs = Session.Run(buffer, inputs);
            var ended = _time.GetTimestamp();
            outputs.RunTime = _time.GetElapsedTime(started, ended);
            _statistics.Ran(Math.Max(rows, 1), ended - started);
            _statistics.Batched(1, Math.Max(rows, 1), BatchClosed.Alone);
            return outputs;
        }
        finally
        {
            var schedules = false;
            lock (_lock)
            {
                _running--;
                var run = _time.GetElapsedTime(started);
                Volatile.Write(ref _lastRun, run.TotalMicroseconds);
                _estimate.Ran(Math.Max(rows, 1), run.TotalMicroseconds);
                if (rows > 0) _times.Ran(rows, run.TotalMicroseconds);
                // Who came meanwhile is company.
                schedules = Schedules();
            }
            if (schedules) Start();
        }
    }

    // While the lock is held

    /// <summary>Whether another batch may run now: beside others only when enough rows wait to make it worth while.</summary>
    private bool IsFree() => _running + _scheduled == 0 || (_running + _scheduled < Workers && _line.Rows >= _times.WorthARun);

    /// <returns>Whether a batch is to be put into the pool; it counts as scheduled then.</returns>
    private bool Schedules()
    {
        if (!_line.TryPeek(out _, out var due) || !IsFree()) return false;
        Volatile.Write(ref _nextDue, due);
        _scheduled++;
        return true;
    }

    /// <summary>Whether a run may block this thread: the pool's are there for all.</summary>
    private bool MayRunHere(int rows) => _estimate.PerRow * rows < LongRun || !Thread.CurrentThread.IsThreadPoolThread;

    private bool ExpectsCompany() => _canShare && !_isDependent && (_hadCompany || ThreadPool.PendingWorkItemCount > 0);

    private void Enqueue(BatchJob job)
    {
        var due = Math.Min(job.Deadline, job.Arrived + (long)(job.Objective.TotalSeconds * _time.TimestampFrequency));
        _line.Enqueue(job, due);
    }

    private TimeSpan Expected(int rows, int priority) => _estimate.Of(_line.RowsBefore(priority), rows, _running, Workers);

    /// <summary>Whether a request would be done too late. Where nobody waits and nothing runs there is nothing to wait for: then it is tried, whatever earlier runs took.</summary>
    private bool IsHopeless(int rows, long now, Terms terms, out TimeSpan wait)
    {
        wait = default;
        if (_line.Count == 0 && _running == 0) return false;
        wait = Expected(Math.Max(rows, 1), terms.Priority);
        return wait > (terms.Deadline == long.MaxValue ? _options.MostWait : _time.GetElapsedTime(now, terms.Deadline));
    }

    /// <summary>Takes the most urgent request and whatever can run with it.</summary>
    private void Form(Batch batch)
    {
        var now = _time.GetTimestamp();
        List<(BatchJob, long)>? others = null;
        var most = MostRows;
        batch.Closed = BatchClosed.Drained;
        _line.TakeGone(IsGone, now, batch.Drop);
        while (_line.TryPeek(out var job, out var due))
        {
            if (IsGone(job, now) is { } reason)
            {
                _line.Dequeue();
                batch.Drop(job, reason);
                continue;
            }
            if (batch.Jobs.Count > 0)
            {
                if (batch.Rows + job.Rows > most)
                {
                    batch.Closed = BatchClosed.Full;
                    break;
                }
                if (_isDependent || !batch.Takes(job))
                {
                    batch.Closed = BatchClosed.Shape;
                    if (_isDependent || batch.Jobs[0].Rows < 0) break;
                    (others ??= []).Add((job, due));
                    _line.Dequeue();
                    continue;
                }
            }
            _line.Dequeue();
            batch.Add(job);
        }
        foreach (var (job, due) in others ?? []) _line.Enqueue(job, due);
        // It is full, too, when it stopped just at the limit.
        if (batch.Closed == BatchClosed.Drained && batch.Rows >= most) batch.Closed = BatchClosed.Full;
    }

    /// <summary>Whether nobody waits for it any more, or what is left isn't enough to run it; a request that never had enough, by twice, is tried.</summary>
    private Exception? IsGone(BatchJob job, long now)
    {
        if (job.Cancellation.IsCancellationRequested) return new OperationCanceledException(job.Cancellation);
        if (job.Deadline == long.MaxValue) return null;
        var run = (long)(_estimate.PerRow * Math.Max(job.Rows, 1) * 1e-6 * _time.TimestampFrequency);
        if (now + Math.Min(run, (job.Deadline - job.Arrived) / 2) <= job.Deadline) return null;
        _statistics.Expired();
        return Late();
    }

    private static RequestException Late() => new(Refusal.DeadlineExceeded, "the deadline passed before the model ran");

    private void Learn(Batch batch, long started, long ended)
    {
        _hadCompany = batch.Jobs.Count > 1 || _line.Count > 0;
        var run = _time.GetElapsedTime(started, ended);
        _estimate.Ran(batch.Rows, run.TotalMicroseconds);
        Volatile.Write(ref _lastRun, run.TotalMicroseconds);
        if (_options.FixedRows is null) _limit.Ran(batch.Closed == BatchClosed.Full, run, batch.Objective);
        if (_isIndependent) _times.Ran(batch.Rows, run.TotalMicroseconds);
        if (_hadCompany && _lastEnd != 0) _tuner.Saturated(batch.Rows, _time.GetElapsedTime(_lastEnd, ended).TotalSeconds);
        else _tuner.Restart();
        _lastEnd = _hadCompany ? ended : 0;
    }

    // Without the lock

    /// <summary>Tells a request that one of higher priority has its place; elsewhere, since its next steps are not those of whoever came.</summary>
    private void Displace(BatchJob job)
    {
        _statistics.Displaced();
        var reason = Busy("a request of higher priority needed the place; try again later");
        ThreadPool.UnsafeQueueUserWorkItem(static told => told.job.Fail(told.reason), (job, reason), preferLocal: false);
    }

    private void Run(Batch batch, long started)
    {
        foreach (var job in batch.Jobs) _statistics.Waited(started - job.Arrived);
        if (batch.Jobs.Count == 1)
        {
            RunEach(batch);
            return;
        }
        if (!Volatile.Read(ref _isIndependent))
        {
            Examine(batch);
            return;
        }
        try
        {
            Share(batch, RunTogether(batch), started);
        }
        catch (ModelFailedException)
        {
            // One request's values can fail them all: each is asked for itself.
            RunEach(batch);
        }
    }

    private void RunEach(Batch batch)
    {
        foreach (var job in batch.Jobs)
        {
            try
            {
                var started = _time.GetTimestamp();
                var outputs = Session.Run(job.Buffer, job.Inputs);
                var ticks = _time.GetTimestamp() - started;
                outputs.RunTime = TimeSpan.FromSeconds((double)ticks / _time.TimestampFrequency);
                _statistics.Ran(Math.Max(job.Rows, 1), ticks);
                batch.Answer(outputs);
            }
            catch (ModelFailedException e)
            {
                batch.Answer(e);
            }
        }
    }

    /// <summary>
    /// A free first dimension says that a model takes any number of rows, not that it treats each by itself. The first requests that could share a run are run both ways: when the answers differ,
    /// this model's requests are never put together.
    /// </summary>
    private void Examine(Batch batch)
    {
        RunEach(batch);
        var isIndependent = true;
        try
        {
            using var together = RunTogether(batch);
            var first = 0;
            for (var i = 0; i < batch.Jobs.Count && isIndependent; i++)
            {
                if (batch.Outputs[i] is { } alone) isIndependent = RowComparison.IsClose(alone, together, first, batch.Jobs[i].Rows, batch.Rows);
                first += batch.Jobs[i].Rows;
            }
        }
        catch (ModelFailedException)
        {
            // One that failed alone says nothing about the others; where none did, it is the company.
            if (batch.HasFailures) return;
            isIndependent = false;
        }
        lock (_lock) (_isIndependent, _isDependent) = (isIndependent, !isIndependent);
    }

    private ModelOutputs RunTogether(Batch batch)
    {
        if (!_buffers.TryDequeue(out var buffer)) buffer = new TensorBuffer();
        try
        {
            buffer.Clear();
            var model = batch.Jobs[0].Inputs;
            var inputs = new Tensor[model.Length];
            for (var i = 0; i < inputs.Length; i++)
            {
                var length = 0;
                foreach (var job in batch.Jobs) length += job.Inputs[i].Length;
                inputs[i] = new Tensor { Name = model[i].Name, Type = model[i].Type, Shape = [batch.Rows, .. model[i].Shape.AsSpan(1)], Length = length };
                var offset = inputs[i].Offset = buffer.Allocate(length);
                foreach (var job in batch.Jobs)
                {
                    var part = job.Inputs[i];
                    job.Buffer.Span(part.Offset, part.Length).CopyTo(buffer.Span(offset, part.Length));
                    offset += part.Length;
                }
            }
            return Session.Run(buffer, inputs);
        }
        finally
        {
            _buffers.Enqueue(buffer);
        }
    }

    private void Share(Batch batch, ModelOutputs outputs, long started)
    {
        var ticks = _time.GetTimestamp() - started;
        var runTime = TimeSpan.FromSeconds((double)ticks / _time.TimestampFrequency);
        _statistics.Ran(batch.Rows, ticks);
        if (!outputs.HasRows(batch.Rows))
        {
            // It gave another number of rows than it took: there is no telling whose are whose.
            outputs.Dispose();
            lock (_lock) _isDependent = true;
            RunEach(batch);
            return;
        }
        var first = 0;
        foreach (var view in outputs.Split(batch.Jobs.Count))
        {
            var job = batch.Jobs[batch.Answered];
            var rows = job.Rows;
            view.Take(first, rows, batch.Rows);
            view.RunTime = runTime * ((double)rows / batch.Rows);
            batch.Answer(view);
            first += rows;
        }
    }

    private static RequestException Busy(string message) => new(Refusal.Busy, message);

    /// <returns>The rows that all inputs agree on; -1 where they don't, or the model's requests can't share a run.</returns>
    private int RowsOf(Tensor[] inputs)
    {
        if (!_canShare) return -1;
        var rows = inputs[0].Shape[0];
        for (var i = 1; i < inputs.Length; i++)
        {
            if (inputs[i].Shape[0] != rows) return -1;
        }
        return rows is > 0 and <= int.MaxValue ? (int)rows : -1;
    }
}
