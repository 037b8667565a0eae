using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>Silence as feedback: the first of it and of what somebody says counts, once, on every store.</summary>
public abstract class ImplicitFeedbackTests : IFeedbackQueue, IDisposable
{
    private static readonly TimeSpan Wait = TimeSpan.FromMinutes(10);

    private readonly LocalApps _apps = new();
    private readonly FeedbackStatistics _statistics = new();
    private readonly SetTime _time = new();
    private readonly string _tenant = Guid.NewGuid().ToString("N");
    private readonly List<FeedbackMessage> _sent = [];
    private FeedbackLearner? _learner;
    private bool _breaks;
    private string? _spoils;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private FeedbackCounts Counts => _statistics.Of(_tenant);

    private protected abstract IStateStore State { get; }

    [Fact]
    public async Task Silence_IsLearntWhenItsTimeHasCome()
    {
        await LearnAsync(Waiting("d1", "u1"), Waiting("d2", "u2"));
        _time.Now += Wait;
        Assert.Empty(await PassAsync()); // somebody may have spoken in time and be on the way
        Assert.Null(await State.ReadHeadAsync(Of("u1"), Cancellation));

        _time.Now += TimeSpan.FromSeconds(1);
        Assert.Equal(["d1", "d2"], (await PassAsync()).Select(message => message.FeedbackId).Order());
        await LearnAsync([.. _sent]);

        Assert.Equal((1L, 1L), (await UpdatesAsync("u1"), await UpdatesAsync("u2")));
        Assert.Equal((2, 2, 0), (Counts.Learnt, Counts.Implicit, Counts.Duplicates));
        Assert.Empty(await PassAsync());
    }

    [Fact]
    public async Task Silence_CountsOnceHoweverOftenItsMessagesCome()
    {
        var waiting = Waiting("d1", "u1");
        await LearnAsync(waiting, waiting);
        await LearnAsync(waiting);
        _time.Now += Wait + Wait;
        var said = await PassAsync();
        await LearnAsync([.. said, .. said]);
        // As after a crash: it begins again, and is due at once.
        await LearnAsync(waiting);
        await LearnAsync([.. said, .. await PassAsync()]);

        Assert.Equal((1L, 1L), (await UpdatesAsync("u1"), Counts.Implicit));
    }

    [Fact]
    public async Task WordBeforeSilence_IsTheOnlyOneThatCounts()
    {
        await LearnAsync(Waiting("d1", "u1"));
        await LearnAsync(Said("d1", "u1") with { Label = 1 });
        _time.Now += Wait + Wait;
        await LearnAsync([.. await PassAsync()]);

        var kept = new List<KeptFeedback>();
        await foreach (var one in State.ReadFeedbackAsync(new FeedbackQuery(_tenant, "echo") { User = "u1" }, Cancellation)) kept.Add(one);
        Assert.Equal((1, null), (Assert.Single(kept).Accepted.Message.Label, kept[0].Accepted.Message.Implicit));
        Assert.Equal((1, 0, 0), (Counts.Learnt, Counts.Implicit, Counts.Duplicates));
    }

    [Fact]
    public async Task CrashAfterSending_LosesNothingAndCountsNothingTwice()
    {
        await LearnAsync(Waiting("d1", "u1"));
        _time.Now += Wait + Wait;
        _breaks = true;
        await Assert.ThrowsAsync<StoreException>(PassAsync);
        _breaks = false;
        await PassAsync();
        Assert.Equal(2, _sent.Count);
        await LearnAsync([.. _sent]);

        Assert.Equal((1L, 1L), (await UpdatesAsync("u1"), Counts.Implicit));
    }

    [Fact]
    public async Task ErasedUsersSilence_SaysNothing()
    {
        await LearnAsync(Waiting("d1", "u1"), Waiting("d2", "u2"));
        var late = Waiting("d3", "u1"); // in the queue when the user was erased
        _time.Now += TimeSpan.FromMinutes(1);
        await State.EraseAsync(Of("u1"), _time.Now, Cancellation);
        await LearnAsync(late);
        _time.Now += Wait;

        Assert.Equal("d2", Assert.Single(await PassAsync()).FeedbackId);
        await LearnAsync([.. _sent]);
        Assert.Null(await State.ReadHeadAsync(Of("u1"), Cancellation));
        Assert.Equal((1, 1), (Counts.Learnt, Counts.Erased));
    }

    [Fact]
    public async Task MoreThanATransactionHolds_WaitsAndIsSent()
    {
        await LearnAsync([.. Enumerable.Range(0, 130).Select(n => Waiting($"d{n}", $"u{n % 3}"))]);
        _time.Now += Wait + Wait;

        Assert.Equal(130, (await PassAsync()).Select(message => message.FeedbackId).Distinct().Count());
        Assert.Empty(await PassAsync());
    }

    [Fact]
    public async Task AppWhoseSilenceCannotBeSent_KeepsNoOtherWaiting()
    {
        await LearnAsync(Waiting("d1", "u1"), Waiting("d2", "u2") with { App = "other" });
        await _apps.PushAppAsync("""{"name":"other","input":{"name":"x","type":"FP32","shape":[3]},"labels":["yes","no"],"head":{"features":"echo_body","kind":"classes"}}""", _tenant);
        _time.Now += Wait + Wait;
        _spoils = "echo";
        using var logs = new ScratchFolder();
        var apps = Apps();
        var due = new DueWork(apps, State, this, new FeedbackLog(new FileObjectStore(logs.Path), State, _time), _time, NullLogger<DueWork>.Instance);

        await due.PassAllAsync([_tenant], Cancellation);
        Assert.Equal("d2", Assert.Single(_sent).FeedbackId);

        _sent.Clear();
        await LearnAsync(Waiting("d3", "u2") with { App = "other" });
        _time.Now += Wait + Wait;
        await due.PassAsync([await apps.GetAsync(_tenant, "echo", Cancellation), await apps.GetAsync(_tenant, "other", Cancellation)], Cancellation);
        Assert.Equal("d3", Assert.Single(_sent).FeedbackId);
    }

    public virtual void Dispose() => _apps.Dispose();

    public bool IsShared => false;

    public int MostUncompleted => 1;

    public ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        if (messages.Any(message => message.App == _spoils)) throw new FormatException("not what anybody would have thought of");
        _sent.AddRange(messages);
        return _breaks ? throw new StoreException("the answer was lost") : ValueTask.CompletedTask;
    }

    public ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation) => throw new NotSupportedException();

    private AppHost Apps() => new(_apps.Store, _apps.Models, TimeSpan.FromDays(1), TimeProvider.System, NullLogger<AppHost>.Instance);

    private UserKey Of(string user) => new(_tenant, "echo", user);

    private async Task<long> UpdatesAsync(string user) => (await State.ReadHeadAsync(Of(user), Cancellation))!.Weights.Updates;

    private FeedbackMessage Said(string decision, string user) => Some.Feedback(decision, user) with
    {
        Tenant = _tenant, App = "echo", Label = 0, Features = MemoryMarshal.AsBytes<float>([1, 0, 0, 1]).ToArray(), At = _time.Now, Decided = _time.Now,
    };

    private FeedbackMessage Waiting(string decision, string user) => ImplicitFeedback.Waiting(Said(decision, user), _time.Now + Wait);

    private async Task<IReadOnlyList<FeedbackMessage>> PassAsync()
    {
        var before = _sent.Count;
        await ImplicitFeedback.PassAsync(_tenant, "echo", State, this, _time, Cancellation);
        return _sent[before..];
    }

    /// <summary>As a queue delivers them: written and read again.</summary>
    private async Task LearnAsync(params FeedbackMessage[] messages)
    {
        if (_learner is null)
        {
            await _apps.PushAsync("echo_body", OnnxBuilder.Identity(DataType.Fp32, -1, 3), _tenant);
            await _apps.PushAppAsync("""{"name":"echo","input":{"name":"x","type":"FP32","shape":[3]},"labels":["yes","no"],"head":{"features":"echo_body","kind":"classes"}}""", _tenant);
            _learner = new FeedbackLearner(Apps(), State, _statistics, NullLogger<FeedbackLearner>.Instance);
        }
        await _learner.LearnAsync([.. messages.Select(message => FeedbackMessage.Deserialize(message.Serialize()))], Cancellation);
    }

    private sealed class SetTime : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2026, 1, 2, 12, 0, 0, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}

public sealed class SqliteImplicitFeedbackTests : ImplicitFeedbackTests
{
    private readonly ScratchFolder _folder = new();
    private readonly SqliteStateStore _state;

    public SqliteImplicitFeedbackTests() => _state = new SqliteStateStore(_folder["state.db"]);

    private protected override IStateStore State => _state;

    public override void Dispose()
    {
        base.Dispose();
        _state.Dispose();
        _folder.Dispose();
    }
}

public sealed class DynamoImplicitFeedbackTests(DynamoDatabase database) : ImplicitFeedbackTests
{
    private readonly IStateStore _state = database.Store(database.Connect(DynamoOptions.Default));

    private protected override IStateStore State => _state;
}
