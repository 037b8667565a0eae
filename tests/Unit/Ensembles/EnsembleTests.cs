using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Ensembles;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Unit.Ensembles;

/// <summary>Ensembles of real sessions: <c>same</c> says what is in the input and <c>opposite</c> the opposite. A model that is not loaded yet is late for as long as its file is held.</summary>
public sealed class EnsembleTests : IDisposable
{
    private static readonly double Sure = 1 / (1 + Math.Exp(-2));

    private readonly Held _held = new();
    private readonly Clock _time = new();
    private readonly LocalApps _apps;

    public EnsembleTests() => _apps = new LocalApps(_held.Around, _time);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _held.Release();
        _apps.Dispose();
    }

    [Theory]
    [InlineData("", 0.5)]
    [InlineData("\"combine\":\"weighted\",\"weights\":[3,1],", 0.75)]
    public async Task Members_AreCombinedByTheirWeights(string combine, double ofSame)
    {
        var ensemble = await EnsembleAsync(combine);

        var answer = Answer(ensemble, await RunAsync(ensemble, [0, 2]));

        Assert.Equal(ofSame * Sure + (1 - ofSame) * (1 - Sure), answer.Probabilities[1], 1e-5);
        Assert.Equal([ofSame, 1 - ofSame], answer.Members.Select(member => member.Weight));
        Assert.Equal([1, 0], answer.Members.Select(member => member.Label));
    }

    [Fact]
    public async Task DeadlineThatPasses_IsAnsweredWithWhatIsThere_AndSaysWhoIsMissing()
    {
        var ensemble = await EnsembleAsync(late: true);
        var asking = RunAsync(ensemble, [0, 2], deadline: 10);
        await Eventually.HoldsAsync("two have run", () => Task.FromResult(_apps.Executions("same") + _apps.Executions("opposite") == 2));
        Assert.False(asking.IsCompleted);

        _time.Advance(10);

        var run = await asking;
        var answer = Answer(ensemble, run);
        Assert.Equal(("deadline", 0), (answer.CutShort, answer.Stage));
        Assert.Equal([null, null, "deadline"], answer.Members.Select(member => member.Missing));
        // It never said anything, so it favours nothing.
        Assert.Equal(0.5, answer.Probabilities[1], 1e-5);
        Assert.Equal(2, run.Runs.Count);
        _held.Release();
        // What comes now changes nothing, and is not even run.
        await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => _apps.Models.AcquireAsync("default", "late", null, Cancellation).AsTask().ContinueWith(lease => lease.Result.Dispose(), Cancellation, TaskContinuationOptions.None, TaskScheduler.Default)));
        Assert.Null(run.Answers[2]);
    }

    [Fact]
    public async Task NobodyInTime_IsNoAnswerForThatReason()
    {
        var ensemble = await EnsembleAsync(only: "late", late: true);
        var asking = RunAsync(ensemble, [0, 2], deadline: 10);
        _time.Advance(11);

        var answer = Answer(ensemble, await asking);

        Assert.Equal((-1, -1, "deadline"), (answer.Stage, answer.Label, answer.CutShort));
    }

    [Fact]
    public async Task MemberThatIsLate_ReadsItsOwnRequestWhateverBecomesOfThat()
    {
        var ensemble = await EnsembleAsync(late: true);
        var request = new InferRequest();
        var input = Write(request, [0, 2]);
        using var gone = new CancellationTokenSource();
        var asking = ensemble.RunAsync("default", request.Buffer, input, -1, long.MaxValue, gone.Token).AsTask();
        await Eventually.HoldsAsync("two have run", () => Task.FromResult(_apps.Executions("same") + _apps.Executions("opposite") == 2));
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asking);

        // The caller is gone, and what held its request serves the next.
        request.Clear();
        Write(request, [7, -7]);
        _held.Release();
        await Eventually.HoldsAsync("the late one has run", () => Task.FromResult(_apps.Executions("late") == 1));

        // What it said then is its mean now.
        await Eventually.HoldsAsync("its mean is known", async () =>
        {
            await _apps.Models.UnloadAsync("default", "late", Cancellation);
            var answer = Answer(ensemble, await RunAsync(ensemble, [0, 2]));
            Assert.Equal("unavailable", answer.CutShort);
            return Math.Abs(answer.Probabilities[1] - (1 + Sure) / 3) < 1e-5;
        });
    }

    [Fact]
    public async Task BufferThatNobodyReadsAnyMore_ServesTheNextRequest()
    {
        var ensemble = await EnsembleAsync();
        var request = new InferRequest();
        var buffer = request.Buffer;

        await ensemble.RunAsync("default", buffer, Write(request, [0, 2]), -1, long.MaxValue, Cancellation);
        request.Clear();

        Assert.Same(buffer, request.Buffer);
    }

    [Fact]
    public async Task MemberThatFails_IsMissing_AndAllThatFailAreTheFailure()
    {
        await _apps.PushAsync("table", new OnnxBuilder().Input("x", DataType.Int64, -1).Output("y", DataType.Fp32, -1, 2)
            .Initializer("rows", [1f, 2, 3, 5], 2, 2).Node("Gather", ["rows", "x"], ["y"]).Build());
        await _apps.PushAsync("larger", new OnnxBuilder().Input("x", DataType.Int64, -1).Output("y", DataType.Fp32, -1, 2)
            .Initializer("rows", [1f, 2, 3, 5, 8, 6], 3, 2).Node("Gather", ["rows", "x"], ["y"]).Build());
        var app = await _apps.PushAppAsync("""{"name":"a","input":{"name":"x","type":"INT64","shape":[]},"labels":["a","b"],"ensemble":{"members":["table","larger"]}}""");

        var one = Answer(app.Ensemble!, await AskAsync(2L));
        Assert.Equal(("failed", "failed", null), (one.CutShort, one.Members[0].Missing, one.Members[1].Missing));
        var none = await AskAsync(7L);
        Assert.Equal(Refusal.Invalid, Assert.Throws<RequestException>(() => Answer(app.Ensemble!, none)).Refusal);

        async Task<EnsembleRun> AskAsync(long item)
        {
            var (buffer, input) = (new TensorBuffer(), new Tensor { Name = "x", Type = DataType.Int64, Shape = [1], Length = 8 });
            input.Offset = buffer.Allocate(8);
            MemoryMarshal.Write(buffer.Span(input.Offset, 8), item);
            return await app.Ensemble!.RunAsync("default", buffer, input, -1, long.MaxValue, Cancellation);
        }
    }

    [Fact]
    public async Task ScoresThatAreNoNumbers_AreMissing()
    {
        await _apps.PushAsync("root", Model("Sqrt"));
        var ensemble = await EnsembleAsync(only: "root\",\"same");

        var answer = Answer(ensemble, await RunAsync(ensemble, [-1, 2]));

        Assert.Equal(("not_finite", null), (answer.Members[0].Missing, answer.Members[1].Missing));
        Assert.Equal(1, answer.Label);
    }

    [Fact]
    public async Task ChosenMember_RunsAlone()
    {
        var ensemble = await EnsembleAsync();

        var run = await RunAsync(ensemble, [0, 2], chosen: 1);

        var answer = ensemble.Answer(run, 0, null, 0.25);
        Assert.Equal((0, "opposite", 0.25), (answer.Label, answer.Chosen, answer.Propensity));
        Assert.Equal(Sure, answer.Confidence, 1e-5);
        Assert.Equal((0, 1), (_apps.Executions("same"), _apps.Executions("opposite")));
    }

    [Fact]
    public async Task AgreementAsConfidence_CountsWhoIsMissingAsNotAgreeing()
    {
        var ensemble = await EnsembleAsync("\"calibration\":[0.5,0.6,1,0.9],", only: "same\",\"again");
        Assert.Equal(0.9, Answer(ensemble, await RunAsync(ensemble, [0, 2])).Confidence);
        await _apps.Models.UnloadAsync("default", "again", Cancellation);

        Assert.Equal(0.6, Answer(ensemble, await RunAsync(ensemble, [0, 2])).Confidence);
    }

    private static EnsembleAnswer Answer(Ensemble ensemble, EnsembleRun run) => ensemble.Answer(run, 0, null, 1);

    /// <param name="late">Whether <c>late</c> is the last member, and its file is held from now on.</param>
    private async Task<Ensemble> EnsembleAsync(string fields = "", string only = "same\",\"opposite", bool late = false)
    {
        foreach (var name in new[] { "same", "again", "late" }) await _apps.PushAsync(name, Model("Identity"));
        await _apps.PushAsync("opposite", Model("Neg"));
        string[] members = [.. only.Split("\",\""), .. late && only != "late" ? ["late"] : Array.Empty<string>()];
        var app = await _apps.PushAppAsync($$$"""{"name":"a","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"ensemble":{{{{fields}}}"members":["{{{string.Join("\",\"", members)}}}"]}}""");
        foreach (var member in members.Where(member => !late || member != "late")) (await _apps.Models.AcquireAsync("default", member, null, Cancellation)).Dispose();
        if (late) _held.Hold();
        return app.Ensemble!;
    }

    private static byte[] Model(string node) => new OnnxBuilder().Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2).Node(node, ["x"], ["y"]).Build();

    private static Task<EnsembleRun> RunAsync(Ensemble ensemble, float[] row, int chosen = -1, long deadline = long.MaxValue)
    {
        var request = new InferRequest();
        return ensemble.RunAsync("default", request.Buffer, Write(request, row), chosen, deadline, Cancellation).AsTask();
    }

    private static Tensor Write(InferRequest request, float[] row)
    {
        var input = request.AddInput();
        (input.Name, input.Type, input.Length) = ("x", DataType.Fp32, 8);
        input.SetShape([1, 2]);
        input.Offset = request.Buffer.Allocate(8);
        MemoryMarshal.AsBytes<float>(row).CopyTo(request.Buffer.Span(input.Offset, 8));
        return input;
    }

    /// <summary>A clock that stands until it is moved; a tick of it is a millisecond.</summary>
    private sealed class Clock : TimeProvider
    {
        private readonly Lock _lock = new();
        private readonly List<Timer> _timers = [];
        private long _now;

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => Volatile.Read(ref _now);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = new Timer(this, () => callback(state), dueTime < TimeSpan.Zero ? long.MaxValue : GetTimestamp() + (long)dueTime.TotalMilliseconds);
            lock (_lock) _timers.Add(timer);
            return timer;
        }

        public void Advance(long milliseconds)
        {
            Volatile.Write(ref _now, _now + milliseconds);
            Timer[] due;
            lock (_lock) due = [.. _timers.Where(timer => timer.Due <= _now)];
            foreach (var timer in due)
            {
                timer.Dispose();
                timer.Callback();
            }
        }

        private sealed class Timer(Clock clock, Action callback, long due) : ITimer
        {
            public Action Callback => callback;

            public long Due => due;

            public bool Change(TimeSpan dueTime, TimeSpan period) => throw new NotSupportedException();

            public void Dispose()
            {
                lock (clock._lock) clock._timers.Remove(this);
            }

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }

    /// <summary>Lets nobody read content while it is held.</summary>
    private sealed class Held
    {
        private volatile TaskCompletionSource? _gate;

        public void Hold() => _gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Release() => Interlocked.Exchange(ref _gate, null)?.TrySetResult();

        public IObjectStore Around(IObjectStore objects) => new Store(this, objects);

        private sealed class Store(Held held, IObjectStore objects) : IObjectStore
        {
            public string Location => objects.Location;

            public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
            {
                if (key.Contains("/blobs/", StringComparison.Ordinal) && held._gate is { } gate) await gate.Task;
                return await objects.GetAsync(key, cancellation);
            }

            public ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation) => objects.TryCreateAsync(key, content, cancellation);

            public ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation) =>
                objects.TryReplaceAsync(key, content, expectedTag, cancellation);

            public ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation) => objects.ListAsync(prefix, cancellation);
        }
    }
}
