using System.Text;
using Skiff.Apps;
using Skiff.Feedback;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Serving;
using Skiff.Support;
using Skiff.Unit.Personalization;

namespace Skiff.Unit.Ranking;

/// <summary>Several places that are filled one after another, each with another action.</summary>
public sealed class RankSlotsTests : IAsyncLifetime
{
    private readonly LocalApps _apps = new();
    private readonly SentMessages _sent = new();
    private App _app = null!;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _app = await _apps.PushAppAsync("""{"name":"news","rank":{"shards":1,"policy":{"kind":"epsilon_greedy","epsilon":0.3}}}""");

    public ValueTask DisposeAsync()
    {
        _apps.Dispose();
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task ActionThatALaterSlotNeeds_IsLeftToIt()
    {
        for (var n = 0; n < 200; n++)
        {
            var decision = await RankAsync($$"""{"event_id":"e{{n}}","candidates":[{"id":"x"},{"id":"y"}],"slots":[{"id":"s1"},{"id":"s2","excluded":["x"]}]}""");

            Assert.Equal([("s1", "x"), ("s2", "y")], decision.Slots.Select(slot => (slot.Slot, slot.Chosen)));
            Assert.All(decision.Slots, slot => Assert.Equal([new RankedAction(slot.Chosen, 1)], slot.Ranking.Where(action => action.Probability > 0)));
            Assert.All(_sent.Last.Rank!.Chosen!, chosen => Assert.Equal(1.0, chosen.Propensity));
            Assert.All(_sent.Last.Rank!.Chosen!, chosen => Assert.Equal([1.0], LoggedCandidates.Read(chosen.Candidates).Propensities));
        }
    }

    /// <summary>s1 may have a or b, as z is for s3 alone: even odds, and s2 has what is left.</summary>
    [Fact]
    public async Task LoggedProbabilities_AreOfTheActionsThatTheSlotCouldTake()
    {
        var first = 0;
        for (var n = 0; n < 300; n++)
        {
            var decision = await RankAsync($$"""{"event_id":"e{{n}}","candidates":[{"id":"a"},{"id":"z"},{"id":"b"}],"slots":[{"id":"s1"},{"id":"s2"},{"id":"s3","excluded":["a","b"]}]}""");

            Assert.Equal("z", decision.Slots[2].Chosen);
            Assert.Equal([0.5, 1.0, 1.0], _sent.Last.Rank!.Chosen!.Select(chosen => chosen.Propensity));
            Assert.Equal([LoggedCandidates.HashOf("a"), LoggedCandidates.HashOf("b")], LoggedCandidates.Read(_sent.Last.Rank!.Chosen![0].Candidates).Ids);
            if (decision.Slots[0].Chosen == "a") first++;
        }
        Assert.InRange(first, 110, 190); // 4.6 deviations
    }

    [Theory]
    [InlineData("""{"candidates":[{"id":"x"},{"id":"y"},{"id":"z"}],"slots":[{"id":"s0"},{"id":"s1","excluded":["x","z"]},{"id":"s2","excluded":["x","z"]}]}""", "slot 's2' can't be filled: it and 's1' may only have 'y', and each slot takes another action. Exclude fewer")]
    [InlineData("""{"candidates":[{"id":"x"},{"id":"y"}],"slots":[{"id":"s1"},{"id":"s2","excluded":["x","y"]}]}""", "slot 's2' can't be filled: every action is excluded")]
    [InlineData("""{"candidates":[{"id":"x"},{"id":"y"}],"excluded":["x"],"slots":[{"id":"s1"},{"id":"s2"}]}""", "slot 's2' can't be filled: it and 's1' may only have 'y'")]
    [InlineData("""{"candidates":[{"id":"x"}],"excluded":["x"]}""", "nothing to choose")]
    public async Task SlotsThatCannotBeFilled_AreRefusedBeforeAnythingIsChosen(string request, string because)
    {
        // Whose store can't be asked: it is refused before that.
        var ranker = Ranker(new NoState());

        Assert.Contains(because, (await Assert.ThrowsAsync<RequestException>(() => ranker.RankAsync(_app, Read(request), Cancellation).AsTask())).Message);
        Assert.Empty(_sent.All);
    }

    [Fact]
    public async Task Apprentice_TakesTheBaselinesThatFillAllSlots()
    {
        _app = await _apps.PushAppAsync("""{"name":"news","rank":{"shards":1,"mode":"apprentice"}}""");
        var decision = await RankAsync("""{"candidates":[{"id":"x"},{"id":"y"},{"id":"z"}],"slots":[{"id":"s1","baseline":"y"},{"id":"s2","excluded":["x"],"baseline":"z"},{"id":"s3","baseline":"x"}]}""");

        Assert.Equal(["y", "z", "x"], decision.Slots.Select(slot => slot.Chosen));
    }

    private ValueTask<RankDecision> RankAsync(string request) => Ranker(new NothingLearnt()).RankAsync(_app, Read(request), Cancellation);

    private static RankRequest Read(string request) => RankRequestReader.ReadRank(Encoding.UTF8.GetBytes(request));

    private Ranker Ranker(IStateStore state) => new(new RankModels(state, TimeSpan.FromDays(1), TimeProvider.System), _sent, new DecisionSeal(["a secret of the tests"], TimeProvider.System), new FeedbackStatistics(), TimeProvider.System);

    private sealed class NothingLearnt : NoState
    {
        public override ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation) => default;
    }

    private sealed class SentMessages : IFeedbackQueue
    {
        public List<FeedbackMessage> All { get; } = [];

        public FeedbackMessage Last => All[^1];

        public bool IsShared => false;

        public int MostUncompleted => 1;

        public ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
        {
            All.AddRange(messages);
            return ValueTask.CompletedTask;
        }

        public ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation) => throw new NotSupportedException();
    }
}
