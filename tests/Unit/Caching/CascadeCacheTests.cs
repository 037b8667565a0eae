using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Unit.Caching;

/// <summary>The cache before real cascades: models give back what they are given, so a row's scores are the row.</summary>
public sealed class CascadeCacheTests : IDisposable
{
    private static readonly byte[] Model = OnnxBuilder.Identity(DataType.Fp32, -1, 2);

    private readonly HeldUp _held = new();
    private readonly ManualTime _time = new();
    private readonly LocalApps _apps;
    private readonly CacheStatistics _statistics = new();
    private readonly PredictionCache _cache = new(1 << 20);
    private readonly CascadeCache _cascades;

    public CascadeCacheTests()
    {
        _apps = new LocalApps(objects => _held.Around(objects), _time);
        _cascades = new CascadeCache(_cache, _apps.Models, _statistics, _time);
    }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _apps.Dispose();

    [Fact]
    public async Task SameRow_IsAnsweredWithoutARunAndWithItsVersions()
    {
        var app = await AppAsync();
        var first = await AskAsync(app, [1, 2]);

        var second = await AskAsync(app, [1, 2]);

        Assert.Equal((AnswerSource.Computed, AnswerSource.Exact), (first.Origin(0).Source, second.Origin(0).Source));
        Assert.Same(first.Answers[0], second.Answers[0]);
        Assert.Equal((0, 1, 0), (second.Runs[0].Stage, second.Runs[0].Version, second.Runs[0].Rows));
        Assert.Equal(1, _apps.Executions("m"));
    }

    [Fact]
    public async Task RowsOfARequest_HitMissAndJoinSingly()
    {
        var app = await AppAsync();
        await AskAsync(app, [1, 2]);

        var answers = await AskAsync(app, [3, 4, 1, 2, 3, 4, 9, 5]);

        Assert.Equal([AnswerSource.Computed, AnswerSource.Exact, AnswerSource.Joined, AnswerSource.Computed], Enumerable.Range(0, 4).Select(row => answers.Origin(row).Source));
        Assert.Equal([1, 1, 1, 0], answers.Answers.Select(answer => Array.IndexOf(answer.Probabilities, answer.Probabilities.Max())));
        Assert.Equal(2, answers.Runs.Max(run => run.Rows));
        Assert.Equal(2, answers.Computed);
    }

    [Fact]
    public async Task AppWithoutACache_ComputesEveryTime()
    {
        var app = await AppAsync("false");
        await AskAsync(app, [1, 2]);

        Assert.Null((await AskAsync(app, [1, 2])).Origins);
        Assert.Equal(2, _apps.Executions("m"));
        Assert.Equal(0, _cache.UsedBytes);
    }

    [Fact]
    public async Task CacheOfNoBytes_ComputesEveryTime()
    {
        var app = await AppAsync();
        var off = new CascadeCache(new PredictionCache(0), _apps.Models, _statistics, _time);
        await AskAsync(app, [1, 2], cascades: off);
        await AskAsync(app, [1, 2], cascades: off);

        Assert.Equal(2, _apps.Executions("m"));
    }

    [Fact]
    public async Task SameInputOfAnotherTenantOrApp_IsComputed()
    {
        var app = await AppAsync();
        var others = await AppAsync(tenant: "other");
        var another = await AppAsync(name: "b");
        await AskAsync(app, [1, 2]);

        Assert.Equal(AnswerSource.Computed, (await AskAsync(others, [1, 2])).Origin(0).Source);
        Assert.Equal(AnswerSource.Computed, (await AskAsync(another, [1, 2])).Origin(0).Source);
        Assert.Equal(1, _apps.Executions("m", "other"));
    }

    [Fact]
    public async Task NewVersions_AreComputedAndAnAliasMovedBackFindsItsOwnAgain()
    {
        var app = await AppAsync();
        await AskAsync(app, [1, 2]);
        await _apps.PushAsync("m", new OnnxBuilder().Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2).Node("Neg", ["x"], ["y"]).Build());
        await _apps.Models.LoadAsync("default", "m", Cancellation);

        var swapped = await AskAsync(app, [1, 2]);

        Assert.Equal((AnswerSource.Computed, 2), (swapped.Origin(0).Source, swapped.Runs[0].Version));
        Assert.True(swapped.Answers[0].Probabilities[0] > 0.5);

        await _apps.Store.MoveAliasAsync("default", ArtifactKind.Model, "m", ModelStore.Live, 1, Cancellation);
        await _apps.Models.LoadAsync("default", "m", Cancellation);
        var back = await AskAsync(app, [1, 2]);
        Assert.Equal((AnswerSource.Exact, 1), (back.Origin(0).Source, back.Runs[0].Version));
        Assert.True(back.Answers[0].Probabilities[0] < 0.5);

        Assert.Equal(AnswerSource.Computed, (await AskAsync(await AppAsync(push: false), [1, 2])).Origin(0).Source);
    }

    [Fact]
    public async Task UnloadedModel_AnswersNothingThatWasKept()
    {
        var app = await AppAsync();
        await AskAsync(app, [1, 2]);
        await _apps.Models.UnloadAsync("default", "m", Cancellation);

        await Assert.ThrowsAsync<RequestException>(async () => await AskAsync(app, [1, 2]));
    }

    [Fact]
    public async Task HundredIdenticalInFlight_RunOnce()
    {
        var app = await AppAsync();
        _held.Hold();
        var asking = Enumerable.Range(0, 100).Select(_ => AskAsync(app, [1, 2])).ToArray();
        Assert.All(asking, task => Assert.False(task.IsCompleted));
        _held.Release();

        var answers = await Task.WhenAll(asking);

        Assert.Equal(1, _apps.Executions("m"));
        Assert.All(answers, answer => Assert.Same(answers[0].Answers[0], answer.Answers[0]));
        var counts = _statistics.Of("default", "a");
        Assert.Equal((1, 99), (counts.Rows(AnswerSource.Computed), counts.Rows(AnswerSource.Joined)));
    }

    [Fact]
    public async Task CancelledCallers_LeaveTheRunToTheOthers()
    {
        var app = await AppAsync();
        using var leader = new CancellationTokenSource();
        using var joined = new CancellationTokenSource();
        _held.Hold();
        var first = AskAsync(app, DataType.Fp32, [1f, 2f], leader.Token);
        var second = AskAsync(app, DataType.Fp32, [1f, 2f], joined.Token);
        var third = AskAsync(app, [1, 2]);
        await leader.CancelAsync();
        await joined.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        Assert.False(first.IsCompleted);
        _held.Release();

        Assert.Equal(AnswerSource.Joined, (await third).Origin(0).Source);
        await first;
        Assert.Equal(1, _apps.Executions("m"));
    }

    [Fact]
    public async Task JoinedCallerWhoseDeadlinePasses_GetsNothingAndTheOthersTheirAnswer()
    {
        var app = await AppAsync();
        _held.Hold();
        var first = AskAsync(app, [1, 2]);
        var hasty = await AskAsync(app, [1, 2], deadline: _time.GetTimestamp());

        Assert.Equal((-1, "deadline"), (hasty.Answers[0].Stage, hasty.Answers[0].CutShort));
        _held.Release();
        Assert.Equal(0, (await first).Answers[0].Stage);
    }

    [Fact]
    public async Task AnswerThatWasCutShort_IsNotKeptAndWhoHasTimeRunsAgain()
    {
        await _apps.PushAsync("m", Model);
        await _apps.PushAsync("n", Model);
        var app = await _apps.PushAppAsync("""
            {"name":"a","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"cache":true,"cascade":[{"model":"m","gate":{"on":"max_softmax","at":1}},{"model":"n"}]}
            """);
        await KnownAsync(app);
        _held.Hold();
        var hasty = AskAsync(app, [1, 2], deadline: _time.GetTimestamp() + 10);
        var patient = AskAsync(app, [1, 2]);
        _time.Now += 11;
        _held.Release();

        // What is late before it begins is not run.
        Assert.Equal((-1, "deadline"), ((await hasty).Answers[0].Stage, (await hasty).Answers[0].CutShort));
        var whole = await patient;
        Assert.Equal((1, null, AnswerSource.Computed), (whole.Answers[0].Stage, whole.Answers[0].CutShort, whole.Origin(0).Source));
        var kept = await AskAsync(app, [1, 2]);
        Assert.Equal((1, AnswerSource.Exact, 2), (kept.Answers[0].Stage, kept.Origin(0).Source, kept.Runs.Count));
    }

    [Fact]
    public async Task Failure_ReachesAllWhoJoinedAndIsNotKept()
    {
        var app = await AppAsync();
        _held.Hold();
        var before = _held.Looks;
        var asking = Enumerable.Range(0, 10).Select(_ => AskAsync(app, [1, 2])).ToArray();
        // The load looks on a thread of its own.
        await Eventually.HoldsAsync("the model's content is asked for", () => Task.FromResult(_held.Looks > before));
        _held.Release(new StoreException("the store is away"));
        foreach (var task in asking) Assert.Contains("the store is away", (await Assert.ThrowsAsync<RequestException>(() => task)).Message);
        Assert.Equal(before + 1, _held.Looks);

        _held.Release();

        Assert.Equal(AnswerSource.Computed, (await AskAsync(app, [1, 2])).Origin(0).Source);
    }

    [Fact]
    public async Task FailureOfManyRows_IsNotTheFailureOfWhoJoinedOne()
    {
        await _apps.PushAsync("m", new OnnxBuilder().Input("x", DataType.Int64, -1).Output("y", DataType.Fp32, -1, 2)
            .Initializer("table", [1f, 2, 3, 4], 2, 2).Node("Gather", ["table", "x"], ["y"]).Build());
        var app = await _apps.PushAppAsync("""{"name":"a","input":{"name":"x","type":"INT64","shape":[]},"labels":["a","b"],"cache":true,"cascade":[{"model":"m"}]}""");
        await KnownAsync(app);
        _held.Hold();
        // There is no item 7; and nothing wrong with item 1.
        var both = AskAsync(app, DataType.Int64, [1L, 7L], Cancellation);
        var one = AskAsync(app, DataType.Int64, [1L], Cancellation);
        _held.Release();

        await Assert.ThrowsAsync<RequestException>(() => both);
        Assert.Equal(AnswerSource.Computed, (await one).Origin(0).Source);
        Assert.Equal(AnswerSource.Exact, (await AskAsync(app, DataType.Int64, [1L], Cancellation)).Origin(0).Source);
    }

    [Fact]
    public async Task ScoresThatAreNoNumbers_AreNotKept()
    {
        var app = await AppAsync();
        await AskAsync(app, [float.PositiveInfinity, 2]);

        Assert.Equal(AnswerSource.Computed, (await AskAsync(app, [float.PositiveInfinity, 2])).Origin(0).Source);
    }

    [Fact]
    public async Task ApproximateCache_AnswersWithinItsDistanceByTheNearestAndSaysHowFar()
    {
        var app = await AppAsync("""{"approximate":{"distance":0.5,"bits":2,"tables":8}}""");
        await AskAsync(app, [10, 5]);
        await AskAsync(app, [10.4f, 5]);

        var near = await AskAsync(app, [10.3f, 5]);
        var far = await AskAsync(app, [12, 5]);
        var same = await AskAsync(app, [10, 5]);

        Assert.Equal(AnswerSource.Approximate, near.Origin(0).Source);
        Assert.Equal(0.3f, near.Origin(0).Distance, 3);
        Assert.Equal((AnswerSource.Computed, AnswerSource.Exact), (far.Origin(0).Source, same.Origin(0).Source));
        // The second row was itself near the first: nothing was computed for it, so nothing was kept.
        Assert.Equal(2, _apps.Executions("m"));
    }

    [Fact]
    public async Task ApproximateCache_FindsNothingOfAnotherTenantOrVersion()
    {
        const string cache = """{"approximate":{"distance":0.5,"bits":2,"tables":8}}""";
        var app = await AppAsync(cache);
        await AskAsync(app, [10, 5]);

        Assert.Equal(AnswerSource.Computed, (await AskAsync(await AppAsync(cache, tenant: "other"), [10.1f, 5])).Origin(0).Source);
        Assert.Equal(AnswerSource.Computed, (await AskAsync(await AppAsync(cache, push: false), [10.1f, 5])).Origin(0).Source);
        Assert.Equal(AnswerSource.Approximate, (await AskAsync(app, [10.1f, 5])).Origin(0).Source);
    }

    [Fact]
    public async Task MoreThanTheBound_EvictsAndCountsIt()
    {
        var app = await AppAsync();
        var small = new PredictionCache(20_000);
        var cascades = new CascadeCache(small, _apps.Models, _statistics, _time);
        for (var i = 0; i < 200; i++) await AskAsync(app, [i, 1], cascades: cascades);

        Assert.InRange(small.UsedBytes, 10_000, 20_000);
        Assert.InRange(_statistics.Of("default", "a").Evicted, 100, 190);
    }

    /// <summary>Makes it known which versions are live, without loading them: whoever asks then boards at once.</summary>
    private async Task<App> KnownAsync(App app)
    {
        foreach (var model in app.Models) await _apps.Models.DescribeAsync(app.Tenant, model, null, Cancellation);
        return app;
    }

    private async Task<App> AppAsync(string cache = "true", string name = "a", string tenant = "default", bool push = true)
    {
        if (push) await _apps.PushAsync("m", Model, tenant);
        return await KnownAsync(await _apps.PushAppAsync($$"""{"name":"{{name}}","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"cache":{{cache}},"cascade":[{"model":"m"}]}""", tenant));
    }

    private Task<CascadeAnswers> AskAsync(App app, float[] rows, long deadline = long.MaxValue, CascadeCache? cascades = null) =>
        AskAsync(app, DataType.Fp32, rows, Cancellation, deadline, cascades);

    private Task<CascadeAnswers> AskAsync<T>(App app, DataType type, T[] rows, CancellationToken cancellation, long deadline = long.MaxValue, CascadeCache? cascades = null)
        where T : unmanaged
    {
        var buffer = new TensorBuffer();
        var bytes = MemoryMarshal.AsBytes(rows.AsSpan());
        var input = new Tensor { Name = "x", Type = type, Shape = [rows.Length / app.RowElements, .. app.Document.Input.Shape], Length = bytes.Length };
        input.Offset = buffer.Allocate(input.Length);
        bytes.CopyTo(buffer.Span(input.Offset, input.Length));
        return (cascades ?? _cascades).RunAsync(app, app.Cascade!, buffer, input, deadline, cancellation).AsTask();
    }

    /// <summary>A clock that stands until it is moved.</summary>
    private sealed class ManualTime : TimeProvider
    {
        public long Now { get; set; }

        public override long GetTimestamp() => Now;
    }

    /// <summary>A store that lets nobody read content while it is held, so that a model's first run takes as long as the test wants.</summary>
    private sealed class HeldUp
    {
        private TaskCompletionSource _gate = Open();

        public int Looks { get; private set; }

        public void Hold() => _gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Release(Exception? failure = null)
        {
            var gate = _gate;
            if (failure is null)
            {
                _gate = Open();
                gate.TrySetResult();
            }
            else gate.TrySetException(failure);
        }

        public IObjectStore Around(IObjectStore objects) => new Store(this, objects);

        private static TaskCompletionSource Open()
        {
            var gate = new TaskCompletionSource();
            gate.SetResult();
            return gate;
        }

        private sealed class Store(HeldUp held, IObjectStore objects) : IObjectStore
        {
            public string Location => objects.Location;

            public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
            {
                held.Looks++;
                if (key.Contains("/blobs/", StringComparison.Ordinal)) await held._gate.Task;
                return await objects.GetAsync(key, cancellation);
            }

            public ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation) => objects.TryCreateAsync(key, content, cancellation);

            public ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation) =>
                objects.TryReplaceAsync(key, content, expectedTag, cancellation);

            public ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation) => objects.ListAsync(prefix, cancellation);
        }
    }
}
