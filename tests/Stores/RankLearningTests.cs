using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>What events become: begun, shown, rewarded, settled; each once, on every store.</summary>
public abstract class RankLearningTests
{
    private const string Actions = """ "candidates":[{"id":"a","features":{"kind":"x"}},{"id":"b","features":{"kind":"y"}}]""";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private static string Of(string user) => $",\"user\":\"{user}\"";

    private protected abstract RankLoop Loop(string rank = "{}");

    [Fact]
    public async Task Reward_IsLearntOnceHoweverOftenItsMessageComes()
    {
        await using var loop = Loop();
        await loop.RankAsync("e1", Actions);
        await loop.RewardAsync("e1", 0.5);
        await loop.LearnAsync();
        await loop.LearnAsync(loop.Sent);
        await loop.LearnAsync([.. loop.Sent, .. loop.Sent]);

        var view = await loop.ViewAsync();
        Assert.Equal((1, 1, 0.5), (view.Updates, view.Rewards.Count, view.Rewards.Mean));
        Assert.Equal((1, 0), (loop.Counts.Learnt, loop.Counts.Kept));
    }

    [Fact]
    public async Task SilenceIsTheDefaultReward_WhenTheWaitIsOver()
    {
        await using var loop = Loop("""{"reward_wait":"PT1M","default_reward":-0.25}""");
        await loop.RankAsync("e1", Actions);
        loop.Pass(TimeSpan.FromSeconds(59));
        await loop.TickAsync();
        Assert.Equal(0, (await loop.ViewAsync()).Updates);

        loop.Pass(TimeSpan.FromSeconds(1));
        await loop.TickAsync();
        var view = await loop.ViewAsync();
        Assert.Equal((1, -0.25), (view.Updates, view.Rewards.Mean));
        Assert.Equal(0, await loop.TickAsync());
    }

    [Fact]
    public async Task LaterEvents_SettleEarlierOnesInPassing()
    {
        await using var loop = Loop("""{"reward_wait":"PT1M","shards":1}""");
        await loop.RankAsync("e1", Actions);
        loop.Pass(TimeSpan.FromMinutes(2));
        await loop.RankAsync("e2", Actions);
        await loop.LearnAsync();

        Assert.Equal(1, (await loop.ViewAsync()).Updates);
    }

    [Fact]
    public async Task LateReward_IsKeptAndNotLearnt()
    {
        await using var loop = Loop("""{"reward_wait":"PT1M"}""");
        await loop.RankAsync("e1", Actions);
        loop.Pass(TimeSpan.FromMinutes(1));
        await loop.RewardAsync("e1", 1);
        await loop.LearnAsync();

        var view = await loop.ViewAsync();
        Assert.Equal((1, 0.0), (view.Updates, view.Rewards.Mean));
        Assert.Equal(1, loop.Counts.Kept);
    }

    [Fact]
    public async Task RewardInTime_CountsHoweverLongTheQueueTook()
    {
        await using var loop = Loop("""{"reward_wait":"PT1M"}""");
        await loop.RankAsync("e1", Actions);
        await loop.LearnAsync();
        loop.Pass(TimeSpan.FromSeconds(30));
        await loop.RewardAsync("e1", 1);
        loop.Pass(TimeSpan.FromHours(1));
        await loop.SayThatTimePassesAsync();
        await loop.LearnAsync();

        Assert.Equal((1, 1.0), ((await loop.ViewAsync()).Updates, (await loop.ViewAsync()).Rewards.Mean));
    }

    [Theory]
    [InlineData("earliest", 0.25)]
    [InlineData("sum", 1.0)]
    public async Task SeveralRewards_AreTheFirstOrTheirSum(string aggregation, double expected)
    {
        await using var loop = Loop($$"""{"reward_wait":"PT1M","aggregation":"{{aggregation}}"}""");
        await loop.RankAsync("e1", Actions);
        await loop.RewardAsync("e1", 0.25);
        await loop.LearnAsync();
        await loop.RewardAsync("e1", 0.75);
        loop.Pass(TimeSpan.FromMinutes(1));
        await loop.TickAsync();

        var view = await loop.ViewAsync();
        Assert.Equal((1, 1, expected), (view.Updates, view.Rewards.Count, view.Rewards.Mean));
    }

    [Theory]
    [InlineData(false, false, 0, 0)] // nobody saw it
    [InlineData(false, true, 0, 0)] // a reward for what nobody saw
    [InlineData(true, true, 1, 0.5)]
    [InlineData(true, false, 1, 0.125)]
    public async Task DeferredEvent_IsLearntOnlyIfItIsActivated(bool activates, bool rewards, long learnt, double mean)
    {
        await using var loop = Loop("""{"reward_wait":"PT1M","default_reward":0.125}""");
        await loop.RankAsync("e1", Actions + ""","defer":true""");
        if (rewards) await loop.RewardAsync("e1", 0.5);
        await loop.LearnAsync();
        Assert.Equal(0, (await loop.ViewAsync()).Updates);
        if (activates) await loop.Ranker.ActivateAsync(loop.App, "e1", Cancellation);
        loop.Pass(TimeSpan.FromMinutes(1));
        await loop.TickAsync();

        var view = await loop.ViewAsync();
        Assert.Equal((learnt, mean), (view.Updates, view.Rewards.Mean));
        Assert.Equal(0, await loop.WaitingAsync("e1"));
    }

    [Fact]
    public async Task Slots_AreRewardedEachForItself()
    {
        await using var loop = Loop("""{"reward_wait":"PT1M","default_reward":-1}""");
        var decision = await loop.RankAsync("e1", Actions + ""","slots":[{"id":"top"},{"id":"side"}]""");
        Assert.Equal(["a", "b"], decision.Slots.Select(slot => slot.Chosen).Order());
        await loop.Ranker.RewardAsync(loop.App, "e1", [new SlotReward("side", 1), new SlotReward("nowhere", 1)], null, Cancellation);
        await loop.LearnAsync();
        Assert.Equal((1, 1.0), ((await loop.ViewAsync()).Updates, (await loop.ViewAsync()).Rewards.Mean));

        loop.Pass(TimeSpan.FromMinutes(1));
        await loop.TickAsync();
        Assert.Equal((2, 0.0), ((await loop.ViewAsync()).Updates, (await loop.ViewAsync()).Rewards.Mean));
    }

    [Fact]
    public async Task Apprentice_AnswersTheCallersOrderAndLearnsIt()
    {
        await using var loop = Loop("""{"mode":"apprentice"}""");
        for (var n = 0; n < 40; n++)
        {
            // What the caller does: a in the morning, b in the evening.
            var morning = n % 2 == 0;
            var decision = await loop.RankAsync($"e{n}", $$""" "candidates":[{"id":"{{(morning ? "a" : "b")}}"},{"id":"{{(morning ? "b" : "a")}}"}],"context":{"time":"{{(morning ? "morning" : "evening")}}"}""");
            Assert.Equal(morning ? "a" : "b", decision.Slots[0].Chosen);
            Assert.Equal([1, 0], decision.Slots[0].Ranking.Select(action => action.Probability));
            await loop.LearnAsync();
        }
        await loop.RewardAsync("e39", 0.75);
        await loop.LearnAsync();

        var view = await loop.ViewAsync();
        Assert.Equal((40, 40L), (view.Updates, view.Agreement.Count));
        Assert.InRange(view.Agreement.Mean, 0.6, 0.999);
        Assert.Equal((1, 0.75), (view.Rewards.Count, view.Rewards.Mean));
    }

    [Fact]
    public async Task FeaturesOfAnotherConfiguration_AreNotLearnt()
    {
        await using var loop = Loop();
        await loop.RankAsync("before", Actions);
        await loop.LearnAsync();
        await loop.RankAsync("meanwhile", Actions);
        await loop.PublishAsync("""{"bits":8}""");
        await loop.RewardAsync("before", 1);
        await loop.RewardAsync("meanwhile", 1);
        await loop.LearnAsync();

        Assert.Equal(0, (await loop.ViewAsync()).Updates);
        Assert.Equal((0, 3), (loop.Counts.Learnt, loop.Counts.Kept));
    }

    [Fact]
    public async Task AnyBatchesOfTheSameMessages_MakeTheSameState()
    {
        await using var one = Loop("""{"reward_wait":"PT1M","shards":2}""");
        var random = new Random(1);
        for (var n = 0; n < 90; n++)
        {
            await one.RankAsync($"e{n}", Actions + (n % 7 == 0 ? ""","defer":true""" : ""));
            if (n % 14 == 0) await one.Ranker.ActivateAsync(one.App, $"e{n}", Cancellation);
            if (random.Next(2) == 0) await one.RewardAsync($"e{random.Next(n + 1)}", random.NextDouble());
            one.Pass(TimeSpan.FromSeconds(random.Next(5)));
        }
        await one.LearnAsync();

        await using var other = Loop("""{"reward_wait":"PT1M","shards":2}""");
        for (var at = 0; at < one.Sent.Count;)
        {
            var count = Math.Min(1 + random.Next(40), one.Sent.Count - at);
            var from = Math.Max(0, at - random.Next(10)); // some come again
            await other.LearnAsync(one.Sent[from..(at + count)]);
            at += count;
        }

        Assert.True((await one.ViewAsync()).Updates > 40);
        Assert.Equal(await one.StateAsync(), await other.StateAsync());
    }

    [Fact]
    public async Task UsersEvents_AreFoundWithTheirRewards_AndErasedWithHim()
    {
        await using var loop = Loop();
        await loop.RankAsync("e1", Actions + Of("ann"));
        await loop.RankAsync("e2", Actions + Of("ben"));
        await loop.RankAsync("e3", Actions + Of("ann"));
        await loop.RankAsync("e4", Actions);
        await loop.RewardAsync("e1", 0.5);
        await loop.RewardAsync("e4", 0.5);
        await loop.LearnAsync();
        Assert.Equal(("Ranked e1, Ranked e3, Rewarded e1", "e3"), (await loop.KeptOfAsync("ann"), await loop.WaitingOfAsync("ann")));

        loop.Pass(TimeSpan.FromSeconds(1));
        await loop.EraseAsync("ann");
        Assert.Equal(("", ""), (await loop.KeptOfAsync("ann"), await loop.WaitingOfAsync("ann")));
        Assert.Equal(("Ranked e2", "e2"), (await loop.KeptOfAsync("ben"), await loop.WaitingOfAsync("ben")));

        // What the queue still brings from before begins nothing; what is new does.
        await loop.LearnAsync(loop.Sent);
        Assert.Equal(0, await loop.WaitingAsync("e3"));
        Assert.Equal("", await loop.KeptOfAsync("ann"));
        loop.Pass(TimeSpan.FromSeconds(1));
        await loop.RankAsync("e5", Actions + Of("ann"));
        await loop.LearnAsync();
        Assert.Equal(("Ranked e5", "e5"), (await loop.KeptOfAsync("ann"), await loop.WaitingOfAsync("ann")));
    }

    [Theory]
    [InlineData("earliest")]
    [InlineData("sum")]
    public async Task Replay_MakesWhatWasLearnt_FromStateAndLog(string aggregation)
    {
        await using var loop = Loop($$"""{"reward_wait":"PT1M","shards":2,"default_reward":-0.25,"aggregation":"{{aggregation}}"}""");
        await loop.LiveAsync(60, Actions, new Random(2));
        var (shards, reproduced, worst, _, _) = await loop.ReplayAsync();
        Assert.Equal((2, 2, 0), (shards, reproduced, worst));
        Assert.True((await loop.ViewAsync()).Updates > 30);

        Assert.Single(await loop.CompactAsync());
        Assert.Empty(await loop.CompactAsync());
        await loop.LiveAsync(20, Actions, new Random(3));
        Assert.Equal((2, 0), ((await loop.ReplayAsync()).Reproduced, (await loop.ReplayAsync()).Worst));
    }

    [Theory]
    [InlineData("earliest")]
    [InlineData("sum")]
    public async Task EventThatStillWaits_IsNoDecisionToJudgeBy_ThoughItWasRewarded(string aggregation)
    {
        await using var loop = Loop($$"""{"reward_wait":"PT1M","shards":1,"policy":{"kind":"epsilon_greedy","epsilon":1},"aggregation":"{{aggregation}}"}""");
        foreach (var id in (string[])["e1", "e2"]) await loop.RankAsync(id, Actions);
        await loop.RewardAsync("e1", 1);
        await loop.LearnAsync();
        Assert.Equal(0, (await loop.DecisionsAsync()).Count);

        loop.Pass(TimeSpan.FromMinutes(1));
        Assert.Equal((2, 0.5), ((await loop.DecisionsAsync()).Count, (await loop.DecisionsAsync()).Value));
    }

    [Fact]
    public async Task Replay_FindsWhatTheLogDoesNotSay_AndRebuildsWithoutTheErased()
    {
        await using var loop = Loop("""{"shards":1}""");
        await loop.RankAsync("e1", Actions + Of("ann"));
        await loop.RankAsync("e2", Actions + Of("ben"));
        foreach (var id in (string[])["e1", "e2"]) await loop.RewardAsync(id, 1);
        await loop.LearnAsync();
        Assert.Single(await loop.CompactAsync());
        loop.Pass(TimeSpan.FromSeconds(1));
        await loop.EraseAsync("ann");

        Assert.Equal(0, (await loop.ReplayAsync()).Reproduced);
        Assert.Equal(1, (await loop.ReplayAsync(rebuild: true)).Rebuilt);
        Assert.Equal((1, 1), ((await loop.ReplayAsync()).Reproduced, (await loop.ViewAsync()).Updates));
    }
}

public sealed class SqliteRankLearningTests : RankLearningTests, IDisposable
{
    private readonly ScratchFolder _folder = new();
    private readonly List<SqliteStateStore> _stores = [];

    public void Dispose()
    {
        foreach (var store in _stores) store.Dispose();
        _folder.Dispose();
    }

    private protected override RankLoop Loop(string rank = "{}")
    {
        _stores.Add(new SqliteStateStore(_folder[$"state-{_stores.Count}.db"]));
        return new RankLoop(_stores[^1], rank);
    }
}

public sealed class DynamoRankLearningTests(DynamoDatabase database) : RankLearningTests
{
    private protected override RankLoop Loop(string rank = "{}") => new(database.Store(database.Connect(DynamoOptions.Default), DynamoOptions.Default with { ConsistentPredictions = true }), rank);
}

/// <summary>An app that ranks, a queue that is a list, and a learner, all at a time that the test says.</summary>
internal sealed class RankLoop : IFeedbackQueue, IAsyncDisposable
{
    private readonly LocalApps _apps = new();
    private readonly ScratchFolder _log = new();
    private readonly IStateStore _state;
    private readonly string _tenant = Guid.NewGuid().ToString("N");
    private readonly FeedbackStatistics _statistics = new();
    private readonly SetTime _time = new();
    private FeedbackLearner _learner = null!;
    private int _learnt;

    public RankLoop(IStateStore state, string rank)
    {
        _state = state;
        PublishAsync(rank).GetAwaiter().GetResult();
        Ranker = new Ranker(new RankModels(state, TimeSpan.Zero, _time), this, new DecisionSeal(["a secret of the tests"], _time), _statistics, _time);
    }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public App App { get; private set; } = null!;

    public Ranker Ranker { get; }

    public List<FeedbackMessage> Sent { get; } = [];

    public FeedbackCounts Counts => _statistics.Of(_tenant);

    public async Task PublishAsync(string rank)
    {
        App = await _apps.PushAppAsync($$"""{"name":"news","rank":{{rank}}}""", _tenant);
        var host = new AppHost(_apps.Store, _apps.Models, TimeSpan.FromDays(1), TimeProvider.System, NullLogger<AppHost>.Instance);
        _learner = new FeedbackLearner(host, _state, _statistics, NullLogger<FeedbackLearner>.Instance);
    }

    /// <param name="fields">Of the request's JSON.</param>
    public ValueTask<RankDecision> RankAsync(string id, string fields) => Ranker.RankAsync(App, RankRequestReader.ReadRank(Encoding.UTF8.GetBytes($$"""{"event_id":"{{id}}",{{fields}}}""")), Cancellation);

    public ValueTask RewardAsync(string id, double value) => Ranker.RewardAsync(App, id, [new SlotReward("", value)], null, Cancellation);

    public void Pass(TimeSpan time) => _time.Now += time;

    /// <summary>Learns what was sent since the last time.</summary>
    public async Task LearnAsync()
    {
        var messages = Sent[_learnt..];
        _learnt = Sent.Count;
        await LearnAsync(messages);
    }

    /// <summary>As a queue delivers them: written and read again; of whichever tenant, they are ours.</summary>
    public Task LearnAsync(IEnumerable<FeedbackMessage> messages) =>
        _learner.LearnAsync([.. messages.Select(message => FeedbackMessage.Deserialize(message.Serialize()) with { Tenant = _tenant })], Cancellation);

    public Task SayThatTimePassesAsync() => Ranker.PassAsync(App, (IEventStore)_state, this, _time, Cancellation);

    /// <summary>What a long-lived host does now and then.</summary>
    /// <returns>How many shards had something due.</returns>
    public async Task<int> TickAsync()
    {
        await LearnAsync();
        var before = Sent.Count;
        await SayThatTimePassesAsync();
        await LearnAsync();
        return Sent.Count - before;
    }

    /// <summary>Events that are ranked, shown or not, rewarded or not, while time passes.</summary>
    public async Task LiveAsync(int count, string actions, Random random)
    {
        var first = Sent.Count;
        for (var n = 0; n < count; n++)
        {
            await RankAsync($"e{first}-{n}", actions + (n % 7 == 0 ? ",\"defer\":true" : ""));
            if (n % 14 == 0) await Ranker.ActivateAsync(App, $"e{first}-{n}", Cancellation);
            if (random.Next(2) == 0) await RewardAsync($"e{first}-{random.Next(n + 1)}", random.NextDouble());
            Pass(TimeSpan.FromSeconds(random.Next(5)));
            if (n % 10 == 9) await LearnAsync();
        }
        await TickAsync();
    }

    public Task<RankReplayReport> ReplayAsync(bool rebuild = false) => new RankReplay(App, _state, Log(TimeProvider.System)).RunAsync(rebuild, Cancellation);

    public Task<DecisionLog> DecisionsAsync() => DecisionLog.ReadAsync(App, _state, Log(_time), _time.Now, Cancellation);

    /// <summary>As two days later.</summary>
    public Task<IReadOnlyList<string>> CompactAsync() => Log(new SetTime { Now = DateTimeOffset.UtcNow.AddDays(2) }).CompactAsync(_tenant, App.Name, Cancellation);

    public async Task<string> KeptOfAsync(string user)
    {
        var kept = new List<string>();
        await foreach (var one in _state.ReadFeedbackAsync(new FeedbackQuery(_tenant, UserKey.OfShard("", App.Name, 0).App) { Naming = user }, Cancellation)) kept.Add($"{one.Accepted.Message.Rank!.Kind} {one.Accepted.Message.Rank.Event}");
        return string.Join(", ", kept.Order(StringComparer.Ordinal));
    }

    public async Task<string> WaitingOfAsync(string user)
    {
        var waiting = new List<string>();
        await foreach (var one in ((IEventStore)_state).ReadEventsAsync(new UserKey(_tenant, App.Name, user), Cancellation)) waiting.Add(one.Id);
        return string.Join(", ", waiting.Order(StringComparer.Ordinal));
    }

    public ValueTask EraseAsync(string user) => _state.EraseAsync(new UserKey(_tenant, App.Name, user), _time.Now, Cancellation);

    private FeedbackLog Log(TimeProvider time) => new(new FileObjectStore(_log.Path), _state, time);

    public async Task<RankView> ViewAsync() => await new RankModels(_state, TimeSpan.Zero, _time).ViewAsync(App, Cancellation);

    public async Task<int> WaitingAsync(string id)
    {
        var shard = UserKey.OfShard(_tenant, App.Name, RankMessage.ShardOf(id, App.Document.Rank!.Shards));
        return (await ((IEventStore)_state).ReadEventsAsync(shard, [id], Cancellation)).Count;
    }

    /// <summary>All that is stored of the app, as text.</summary>
    public async Task<string> StateAsync()
    {
        var text = new StringBuilder();
        for (var i = 0; i < App.Document.Rank!.Shards; i++)
        {
            var shard = UserKey.OfShard(_tenant, App.Name, i);
            var policy = (await _state.ReadWeightsAsync(shard, Cancellation)).Weights?.Policy ?? [];
            text.AppendLine(Convert.ToHexString(policy));
            foreach (var waiting in await ((IEventStore)_state).FindDueAsync(shard, DateTimeOffset.MaxValue, 100, Cancellation))
            {
                text.AppendLine($"{waiting.Id} {waiting.Due:O} {Convert.ToHexString(waiting.Body)}");
            }
        }
        return text.ToString();
    }

    public ValueTask DisposeAsync()
    {
        _apps.Dispose();
        _log.Dispose();
        return ValueTask.CompletedTask;
    }

    public bool IsShared => false;

    public int MostUncompleted => 1;

    public ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        Sent.AddRange(messages);
        return ValueTask.CompletedTask;
    }

    public ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation) => throw new NotSupportedException();

    private sealed class SetTime : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2026, 1, 2, 12, 0, 0, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
