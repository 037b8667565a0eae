using System.Runtime.InteropServices;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Support;

namespace Skiff.Unit.Batching;

/// <summary>The batcher before real sessions: whatever shares a run, each gets what it would get alone.</summary>
public sealed class BatcherTests : IDisposable
{
    private const int Width = 64;
    private readonly List<ModelSession> _sessions = [];
    private readonly ModelStatistics _statistics = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        foreach (var session in _sessions) session.Leave();
    }

    [Fact]
    public async Task RequestsOfAnyRowsInCompany_GetTheirOwn_AndShareRuns()
    {
        const int MostRows = 5;
        var batcher = Open(Doubling());
        Task asking;
        using (await OccupyAsync(batcher))
        {
            asking = AskFromAllSidesAsync(batcher, (random, ask) => ask(1 + random.Next(MostRows), random), (x, y) => Assert.Equal(x.Select(value => 2 * value), y));
            // Runs are so short that all could happen to come one after the other.
            while (batcher.QueuedRows <= MostRows && !asking.IsCompleted) await Task.Delay(1, Cancellation);
        }
        await asking;

        Assert.True(_statistics.BatchRequests.Counts().Skip(1).Sum() > 0, "no two requests ever shared a run");
        Assert.Equal(0, batcher.QueuedRows);
        Assert.Equal(0, batcher.Running);
    }

    [Fact]
    public async Task ModelWhoseRowsLookAtEachOther_IsNeverGivenThoseOfOthers()
    {
        // The largest of all values, added to each.
        var batcher = Open(new OnnxBuilder().Input("x", DataType.Fp32, -1, Width).Output("y", DataType.Fp32, -1, Width)
            .Node("ReduceMax", ["x"], ["m"]).Node("Add", ["x", "m"], ["y"]).Build());

        await AskFromAllSidesAsync(batcher, (random, ask) => ask(1 + random.Next(3), random), (x, y) => Assert.Equal(x.Select(value => value + x.Max()), y));
    }

    [Fact]
    public async Task RequestThatFails_FailsAlone()
    {
        // Row i of a table, and there are two.
        var model = new OnnxBuilder().Input("x", DataType.Int64, -1).Output("y", DataType.Fp32, -1, 2)
            .Initializer("table", [10f, 11, 20, 21], 2, 2).Node("Gather", ["table", "x"], ["y"]).Build();
        var batcher = Open(model);
        var failed = 0;

        await Task.WhenAll(Enumerable.Range(0, 8).Select(caller => Task.Run(
            async () =>
            {
                for (var i = 0; i < 500; i++)
                {
                    var item = (caller + i) % 10 == 0 ? 7 : i % 2;
                    var (buffer, input) = Tensor(DataType.Int64, [1], [(long)item]);
                    try
                    {
                        using var outputs = await batcher.RunAsync(buffer, [input], long.MaxValue, null, Cancellation);
                        Assert.Equal(item == 0 ? [10f, 11] : [20f, 21], outputs.Floats(0).ToArray());
                    }
                    catch (ModelFailedException)
                    {
                        Assert.Equal(7, item);
                        Interlocked.Increment(ref failed);
                    }
                }
            },
            Cancellation)));

        Assert.Equal(400, failed);
    }

    [Fact]
    public async Task InputsOfOtherShapes_AreAnsweredInOtherRuns()
    {
        var batcher = Open(OnnxBuilder.Identity(DataType.Fp32, -1, -1));

        await Task.WhenAll(Enumerable.Range(0, 8).Select(caller => Task.Run(
            async () =>
            {
                for (var i = 0; i < 300; i++)
                {
                    var width = 1 + (caller + i) % 3;
                    float[] values = [.. Enumerable.Range(0, 2 * width).Select(value => (float)(value + caller))];
                    var (buffer, input) = Tensor(DataType.Fp32, [2, width], values);
                    using var outputs = await batcher.RunAsync(buffer, [input], long.MaxValue, null, Cancellation);
                    Assert.Equal([2, width], outputs.Shape(0));
                    Assert.Equal(values, outputs.Floats(0).ToArray());
                }
            },
            Cancellation)));
    }

    [Fact]
    public async Task NearestDeadline_ComesFirst()
    {
        // One batch for all three, whose callers are told in its order.
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1, FixedRows = 3 });
        var order = new List<string>();
        Task[] asked;
        using (await OccupyAsync(batcher)) asked = [AskAsync("late", TimeSpan.FromHours(2)), AskAsync("soon", TimeSpan.FromHours(1)), AskAsync("by the objective", null)];
        await Task.WhenAll(asked);

        Assert.Equal(["by the objective", "soon", "late"], order);

        async Task AskAsync(string name, TimeSpan? left)
        {
            var (buffer, input) = Row();
            // An objective of a day leaves the order to the deadlines.
            var objective = left is null ? TimeSpan.FromMinutes(1) : TimeSpan.FromDays(1);
            (await batcher.RunAsync(buffer, [input], left is null ? long.MaxValue : In(left.Value), objective, Cancellation)).Dispose();
            lock (order) order.Add(name);
        }
    }

    [Fact]
    public async Task WhatExpiresWhileItWaits_IsNotRun()
    {
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1 });
        long before;
        Task<ModelOutputs> expired;
        using (await OccupyAsync(batcher))
        {
            before = _statistics.Executions;
            var (buffer, input) = Row();
            expired = batcher.RunAsync(buffer, [input], In(TimeSpan.FromMilliseconds(1)), null, Cancellation).AsTask();
            await Task.Delay(10, Cancellation);
        }

        Assert.Equal(Refusal.DeadlineExceeded, (await Assert.ThrowsAsync<RequestException>(() => expired)).Refusal);
        Assert.InRange(_statistics.Executions - before, 0, 1); // the one that occupied it
    }

    [Fact]
    public async Task WhatComesTooLate_IsRefusedAtOnce()
    {
        var batcher = Open(Doubling());
        var (buffer, input) = Row();

        var late = await Assert.ThrowsAsync<RequestException>(async () => await batcher.RunAsync(buffer, [input], In(TimeSpan.FromSeconds(-1)), null, Cancellation));

        Assert.Equal(Refusal.DeadlineExceeded, late.Refusal);
        Assert.Equal(0, _statistics.Executions);
    }

    [Fact]
    public async Task RequestWhoseCallerHasGone_IsNotRun()
    {
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1 });
        using var gone = new CancellationTokenSource();
        Task<ModelOutputs> asked;
        using (await OccupyAsync(batcher))
        {
            var (buffer, input) = Row();
            asked = batcher.RunAsync(buffer, [input], long.MaxValue, null, gone.Token).AsTask();
            await gone.CancelAsync();
        }

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asked);
    }

    [Fact]
    public async Task MoreThanMayWait_AreRefused_AndTheOthersAnswered()
    {
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1, MostQueuedRows = 10 });
        var waiting = new List<Task<ModelOutputs>>();
        RequestException? refused = null;
        using (await OccupyAsync(batcher))
        {
            while (refused is null && waiting.Count < 100)
            {
                var (buffer, input) = Row();
                try
                {
                    waiting.Add(batcher.RunAsync(buffer, [input], long.MaxValue, null, Cancellation).AsTask());
                }
                catch (RequestException e)
                {
                    refused = e;
                }
            }
        }

        Assert.Equal(Refusal.Busy, refused?.Refusal);
        Assert.Equal(11, waiting.Count);
        foreach (var task in waiting) (await task).Dispose();
    }

    [Fact]
    public async Task HigherPriority_ComesFirst_WhateverTheDeadlines()
    {
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1, FixedRows = 1 });
        var orders = new List<string>();
        for (var i = 0; i < 5; i++) orders.Add(await AskAllAsync());

        // Runs follow each other; those who are told of it may overtake once on a busy machine.
        Assert.True(orders.Count(order => order == "1, 3, 5") >= 3, string.Join("; ", orders));

        async Task<string> AskAllAsync()
        {
            var order = new List<int>();
            Task[] asked;
            using (await OccupyAsync(batcher)) asked = [AskAsync(order, 5, TimeSpan.FromHours(1)), AskAsync(order, 3, TimeSpan.FromHours(2)), AskAsync(order, 1, TimeSpan.FromHours(3))];
            await Task.WhenAll(asked);
            return string.Join(", ", order);
        }

        async Task AskAsync(List<int> order, int priority, TimeSpan left)
        {
            var (buffer, input) = Row();
            (await batcher.RunAsync(buffer, [input], new Terms(In(left), priority), TimeSpan.FromDays(1), Cancellation)).Dispose();
            lock (order) order.Add(priority);
        }
    }

    [Fact]
    public async Task FullLine_TakesAHigherPriorityInThePlaceOfALowerOne()
    {
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1, MostQueuedRows = 3 });
        Task<ModelOutputs>[] low, normal;
        Task<ModelOutputs> high;
        RequestException refused;
        using (await OccupyAsync(batcher))
        {
            low = [Ask(5), Ask(5)];
            normal = [Ask(3), Ask(3)];
            refused = await Assert.ThrowsAsync<RequestException>(() => Ask(5));
            high = Ask(1);
            Assert.Equal(4, batcher.QueuedRows);
        }

        Assert.Equal(Refusal.Busy, refused.Refusal);
        (await high).Dispose();
        foreach (var task in normal) (await task).Dispose();
        (await low[1]).Dispose();
        Assert.Equal(Refusal.Busy, (await Assert.ThrowsAsync<RequestException>(() => low[0])).Refusal);
        Assert.Equal((1, 1), (_statistics.DisplacedRequests, _statistics.RefusedRequests));

        Task<ModelOutputs> Ask(int priority)
        {
            var (buffer, input) = Row();
            return batcher.RunAsync(buffer, [input], new Terms(long.MaxValue, priority), null, Cancellation).AsTask();
        }
    }

    [Fact]
    public async Task WhoWouldWaitPastTheDeadline_IsRefusedAtOnce_AndAHigherPriorityIsNot()
    {
        // By this clock a run takes a millisecond or two, and so does each step on the way to it.
        var time = new GatedTime { Step = TimeProvider.System.TimestampFrequency / 1000 };
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1, FixedRows = 1 }, time);
        for (var i = 0; i < 3; i++) (await AskAsync(TimeSpan.FromDays(1), 3)).Dispose();
        var waiting = new List<Task<ModelOutputs>>();
        RequestException refused;
        using (await OccupyAsync(batcher))
        {
            for (var i = 0; i < 100; i++) waiting.Add(AskAsync(TimeSpan.FromDays(1), 3));
            Assert.InRange(batcher.ExpectedWait, TimeSpan.FromMilliseconds(100), TimeSpan.FromMilliseconds(400));

            refused = await Assert.ThrowsAsync<RequestException>(() => AskAsync(TimeSpan.FromMilliseconds(50), 3));
            waiting.Add(AskAsync(TimeSpan.FromMilliseconds(50), 1));
        }
        await Task.WhenAll(waiting[..^1]);

        Assert.Equal(Refusal.Busy, refused.Refusal);
        Assert.Equal(1, _statistics.RefusedRequests);
        await waiting[^1];
        foreach (var task in waiting) (await task).Dispose();

        async Task<ModelOutputs> AskAsync(TimeSpan left, int priority)
        {
            var (buffer, input) = Row();
            var deadline = time.GetTimestamp() + (long)(left.TotalSeconds * time.TimestampFrequency);
            return await batcher.RunAsync(buffer, [input], new Terms(deadline, priority), null, Cancellation);
        }
    }

    [Fact]
    public async Task FixedRows_AreTheMostOfABatch()
    {
        var batcher = Open(Doubling(), new BatchingOptions { Workers = 1, FixedRows = 8 });
        var waiting = new List<Task<ModelOutputs>>();
        // Twice: what shares a run first is also run one by one.
        for (var i = 0; i < 2; i++)
        {
            using (await OccupyAsync(batcher))
            {
                for (var j = 0; j < 20; j++)
                {
                    var (buffer, input) = Row();
                    waiting.Add(batcher.RunAsync(buffer, [input], long.MaxValue, null, Cancellation).AsTask());
                }
            }
            foreach (var task in waiting) (await task).Dispose();
            waiting.Clear();
        }

        Assert.True(_statistics.Closed(BatchClosed.Full) >= 4, $"{_statistics.Closed(BatchClosed.Full)} full batches");
        Assert.Equal(0, _statistics.BatchRows.Counts()[4..].Sum()); // of more than 8 rows
    }

    private Batcher Open(byte[] model, BatchingOptions? options = null, TimeProvider? time = null)
    {
        var session = ModelSession.Load(model, OnnxFile.Inspect(model, ModelLimits.Default));
        _sessions.Add(session);
        return new Batcher(session, options ?? new BatchingOptions(), _statistics, time ?? new GatedTime());
    }

    private static byte[] Doubling() => new OnnxBuilder().Input("x", DataType.Fp32, -1, Width).Output("y", DataType.Fp32, -1, Width).Node("Add", ["x", "x"], ["y"]).Build();

    /// <summary>Lets many callers ask at once, each again and again.</summary>
    private static async Task AskFromAllSidesAsync(Batcher batcher, Func<Random, Func<int, Random, Task>, Task> once, Action<float[], float[]> check)
    {
        await Task.WhenAll(Enumerable.Range(0, 32).Select(caller => Task.Run(
            async () =>
            {
                var random = new Random(caller);
                for (var i = 0; i < 200; i++) await once(random, AskAsync);
            },
            Cancellation)));

        async Task AskAsync(int rows, Random random)
        {
            float[] x = [.. Enumerable.Range(0, rows * Width).Select(_ => (float)random.Next(1000))];
            var (buffer, input) = Tensor(DataType.Fp32, [rows, Width], x);
            using var outputs = await batcher.RunAsync(buffer, [input], long.MaxValue, null, Cancellation);
            Assert.Equal([rows, Width], outputs.Shape(0));
            check(x, outputs.Floats(0).ToArray());
        }
    }

    /// <summary>Keeps the session busy, with a run that does not end before this is disposed.</summary>
    private static async Task<IDisposable> OccupyAsync(Batcher batcher)
    {
        while (true)
        {
            var gate = new Gate();
            var run = Task.Factory.StartNew(
                () =>
                {
                    var (buffer, input) = Row();
                    // It looks at the clock when it comes, and when its run has ended.
                    GatedTime.StopThisThread(atLook: 2, gate);
                    try
                    {
                        batcher.RunAsync(buffer, [input], long.MaxValue, null, Cancellation).AsTask().GetAwaiter().GetResult().Dispose();
                    }
                    finally
                    {
                        GatedTime.StopThisThread(0, null);
                    }
                },
                Cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            if (await Task.WhenAny(gate.Reached, run) == gate.Reached) return new Busy(gate, run);
            // The pool had work, and so the run went there: once more.
            await run;
        }
    }

    private static (TensorBuffer Buffer, Tensor Input) Row() => Tensor(DataType.Fp32, [1, Width], new float[Width]);

    private static (TensorBuffer Buffer, Tensor Input) Tensor<T>(DataType type, long[] shape, T[] values)
        where T : unmanaged
    {
        var buffer = new TensorBuffer();
        var bytes = MemoryMarshal.AsBytes(values.AsSpan());
        var input = new Tensor { Name = "x", Type = type, Shape = shape, Length = bytes.Length };
        input.Offset = buffer.Allocate(input.Length);
        bytes.CopyTo(buffer.Span(input.Offset, input.Length));
        return (buffer, input);
    }

    private static long In(TimeSpan time) => TimeProvider.System.GetTimestamp() + (long)(time.TotalSeconds * TimeProvider.System.TimestampFrequency);

    private sealed class Gate
    {
        private readonly TaskCompletionSource _reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly ManualResetEventSlim _open = new();

        public Task Reached => _reached.Task;

        public void Wait()
        {
            _reached.SetResult();
            _open.Wait();
        }

        public void Open() => _open.Set();
    }

    /// <summary>The system's clock, at which a thread can be made to stop.</summary>
    private sealed class GatedTime : TimeProvider
    {
        [ThreadStatic]
        private static int _looks;

        [ThreadStatic]
        private static Gate? _gate;

        private long _now = 1;

        /// <summary>How far the clock goes on at each look; 0 for the system's clock.</summary>
        public long Step { get; init; }

        public static void StopThisThread(int atLook, Gate? gate) => (_looks, _gate) = (atLook, gate);

        public override long GetTimestamp()
        {
            if (_looks > 0 && --_looks == 0) _gate!.Wait();
            return Step > 0 ? Interlocked.Add(ref _now, Step) : base.GetTimestamp();
        }
    }

    private sealed class Busy(Gate gate, Task run) : IDisposable
    {
        public void Dispose()
        {
            gate.Open();
            run.Wait();
        }
    }
}
