using System.Collections.Concurrent;
using Skiff.Personalization;

namespace Skiff.Stores;

/// <summary>What every state store must keep, wherever its heads lie.</summary>
public abstract partial class StateStoreTests
{
    // A tenant of each test's own: the stores that outlive a test are shared.
    protected StateStoreTests() => User = new UserKey(Guid.NewGuid().ToString("N"), "app", "u1");

    protected UserKey User { get; }

    protected UserKey OtherUser => User with { User = "u2" };

    protected static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    /// <summary>One more client of the test's one store, as another process would have.</summary>
    protected abstract IStateStore Open();

    protected IStateStore Store => field ??= Open();

    [Fact]
    public async Task UnknownUser_HasNoHead()
    {
        Assert.Null((await Store.ReadWeightsAsync(User, Cancellation)).Weights);
        Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
    }

    [Fact]
    public async Task CommittedHead_IsReadBackBitForBit()
    {
        var head = Some.Head();
        Assert.True(await CommitAsync(User, null, head, "f1"));

        var reopened = Open();
        var weights = (await reopened.ReadWeightsAsync(User, Cancellation)).Weights!;
        var whole = (await reopened.ReadHeadAsync(User, Cancellation))!;

        Assert.Equal(Bits(head.Weights.Weights), Bits(weights.Weights));
        Assert.Equal(Bits(head.Covariance), Bits(whole.Covariance));
        Assert.Equal(head.Memory, whole.Memory);
        Assert.Equal(Bits(weights.Weights), Bits(whole.Weights.Weights));
        Assert.Equal((1, 2, 3L, head.Weights.Offset), (weights.FeaturesVersion, weights.PriorVersion, weights.Updates, weights.Offset));
        Assert.Equal(weights.Tag, whole.Weights.Tag);
    }

    [Fact]
    public async Task VersionThatIsKnown_IsConfirmedWithoutWeights_AndAnotherComesWithThem()
    {
        Assert.Equal((null, false), Of(await Store.ReadWeightsAsync(User, "1", Cancellation)));
        await CommitAsync(User, null, Some.Head(1), "f1");
        var first = (await Store.ReadWeightsAsync(User, Cancellation)).Weights!;
        Assert.Equal((null, true), Of(await Store.ReadWeightsAsync(User, first.Tag, Cancellation)));

        await CommitAsync(User, first.Tag, Some.Head(2), "f2");
        var read = await Store.ReadWeightsAsync(User, first.Tag, Cancellation);
        Assert.False(read.IsUnchanged);
        Assert.Equal(Bits(Some.Head(2).Weights.Weights), Bits(read.Weights!.Weights));
        Assert.Equal((null, true), Of(await Store.ReadWeightsAsync(User, read.Weights.Tag, Cancellation)));

        await Store.EraseAsync(User, DateTimeOffset.UnixEpoch, Cancellation);
        Assert.Equal((null, false), Of(await Store.ReadWeightsAsync(User, read.Weights.Tag, Cancellation)));

        static (HeadWeights?, bool) Of(WeightsRead read) => (read.Weights, read.IsUnchanged);
    }

    [Fact]
    public async Task HeadWithoutMemory_IsReadBackWithoutOne()
    {
        Assert.True(await CommitAsync(User, null, Some.Head() with { Memory = [] }, "f1"));

        Assert.Empty((await Open().ReadHeadAsync(User, Cancellation))!.Memory);
    }

    [Fact]
    public async Task CommitOnTheTagThatWasRead_ReplacesBothParts()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var first = (await Store.ReadHeadAsync(User, Cancellation))!;

        Assert.True(await CommitAsync(User, first.Weights.Tag, Some.Head(2), "f2"));

        var second = (await Store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(Some.Head(2).Weights.Weights, second.Weights.Weights);
        Assert.Equal(Some.Head(2).Covariance, second.Covariance);
        Assert.Equal(Some.Head(2).Memory, second.Memory);
        Assert.NotEqual(first.Weights.Tag, second.Weights.Tag);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task CommitOnAnOldTag_IsRefusedAndWritesNothing(bool asNew)
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var first = (await Store.ReadHeadAsync(User, Cancellation))!.Weights.Tag;
        await CommitAsync(User, first, Some.Head(2), "f2");

        Assert.False(await CommitAsync(User, asNew ? null : first, Some.Head(3), "f3"));

        var head = (await Store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(Some.Head(2).Weights.Weights, head.Weights.Weights);
        Assert.Equal(Some.Head(2).Covariance, head.Covariance);
        Assert.Equal(["f1", "f2"], await AcceptedAsync("f1", "f2", "f3"));
    }

    [Fact]
    public async Task CommitOnATagOfNoHead_IsRefused()
    {
        Assert.False(await CommitAsync(User, "1", Some.Head(), "f1"));

        Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
        Assert.Empty(await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task RacingCommits_OneOfThemIsMade()
    {
        await CommitAsync(User, null, Some.Head(1), "f0");
        var tag = (await Store.ReadHeadAsync(User, Cancellation))!.Weights.Tag;
        var other = Open();

        var made = await Task.WhenAll(Enumerable.Range(1, 8).Select(i => Task.Run(
            () => CommitAsync(User, tag, Some.Head(i + 1), [$"f{i}"], i % 2 == 0 ? Store : other), Cancellation)));

        var winner = Assert.Single(Enumerable.Range(1, 8), i => made[i - 1]);
        Assert.Equal(Some.Head(winner + 1).Weights.Weights, (await Store.ReadWeightsAsync(User, Cancellation)).Weights!.Weights);
        Assert.Equal([$"f{winner}"], await AcceptedAsync([.. Enumerable.Range(1, 8).Select(i => $"f{i}")]));
    }

    [Theory]
    [InlineData("u1")]
    [InlineData("u2")]
    public async Task FeedbackIdAcceptedBefore_IsRefusedWithTheWholeCommit(string user)
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var key = User with { User = user };
        var before = await Store.ReadHeadAsync(key, Cancellation);

        Assert.False(await CommitAsync(key, before?.Weights.Tag, Some.Head(2), "f2", "f1"));

        var after = await Store.ReadHeadAsync(key, Cancellation);
        Assert.Equal(before?.Weights.Tag, after?.Weights.Tag);
        Assert.Equal(before?.Covariance, after?.Covariance);
        Assert.Equal(["f1"], await AcceptedAsync("f1", "f2"));
    }

    [Fact]
    public async Task FeedbackIdTwiceInOneCommit_IsRefused()
    {
        Assert.False(await CommitAsync(User, null, Some.Head(), "f1", "f1"));

        Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
        Assert.Empty(await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task FeedbackIdOfAnotherAppOrTenant_IsNew()
    {
        await CommitAsync(User, null, Some.Head(), "f1");

        Assert.True(await CommitAsync(User with { App = "other" }, null, Some.Head(), "f1"));
        Assert.True(await CommitAsync(User with { Tenant = User.Tenant + "2" }, null, Some.Head(), "f1"));
        Assert.Empty(await Store.FindAcceptedAsync("third", "app", ["f1"], Cancellation));
    }

    [Fact]
    public async Task CommitsOfSeveralUsers_StandEachForItself()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");

        var made = await Store.CommitAsync(
            [Commit(OtherUser, null, Some.Head(2), "f2"), Commit(User, null, Some.Head(3), "f3"), Commit(User with { User = "u3" }, null, Some.Head(4), "f2"), Commit(User with { User = "u4" }, null, Some.Head(5), "f5")],
            Cancellation);

        Assert.Equal([true, false, false, true], made);
        Assert.Equal(Some.Head(2).Weights.Weights, (await Store.ReadWeightsAsync(OtherUser, Cancellation)).Weights!.Weights);
        Assert.Equal(Some.Head(1).Weights.Weights, (await Store.ReadWeightsAsync(User, Cancellation)).Weights!.Weights);
        Assert.Null((await Store.ReadWeightsAsync(User with { User = "u3" }, Cancellation)).Weights);
        Assert.Equal(["f1", "f2", "f5"], await AcceptedAsync("f1", "f2", "f3", "f5"));
    }

    [Fact]
    public async Task FeedbackWithoutAHead_IsKept()
    {
        Assert.True(await CommitAsync(User, null, null, "f1"));

        Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
        Assert.Equal(["f1"], await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task PolicyWithoutAHead_IsKeptByItselfAndConditionally()
    {
        var first = Policy(1, 2, 3);
        Assert.True(await CommitAsync(User, null, first, "f1"));
        Assert.False(await CommitAsync(User, null, Policy(9), "f2"));
        var tag = (await Store.ReadWeightsAsync(User, Cancellation)).Weights!.Tag;
        Assert.True(await CommitAsync(User, tag, Policy(4, 5), "f3"));

        var whole = (await Open().ReadHeadAsync(User, Cancellation))!;

        Assert.Equal([4, 5], whole.Weights.Policy!);
        Assert.Empty(whole.Weights.Weights);
        Assert.Empty(whole.Covariance);
        Assert.Equal([4, 5], (await Store.ReadWeightsAsync(User, Cancellation)).Weights!.Policy!);
        Assert.Equal(["f1", "f3"], await AcceptedAsync("f1", "f2", "f3"));
    }

    [Fact]
    public async Task PolicyAndHead_AreReadTogether_WhicheverCameFirst()
    {
        await CommitAsync(User, null, Policy(1, 2, 3), "f1");
        var policy = (await Store.ReadHeadAsync(User, Cancellation))!;
        Assert.True(await CommitAsync(User, policy.Weights.Tag, Some.Head() with { Weights = Some.Head().Weights with { Policy = policy.Weights.Policy } }, "f2"));
        Assert.True(await CommitAsync(OtherUser, null, Some.Head(), "f3"));

        var both = (await Store.ReadHeadAsync(User, Cancellation))!;

        Assert.Equal([1, 2, 3], both.Weights.Policy!);
        Assert.Equal(Some.Head().Weights.Weights, both.Weights.Weights);
        Assert.Equal(Some.Head().Covariance, both.Covariance);
        Assert.Null((await Store.ReadHeadAsync(OtherUser, Cancellation))!.Weights.Policy);
    }

    [Fact]
    public async Task ContextsAndUsersOfTheSameName_AreApart()
    {
        await CommitAsync(UserKey.OfContext(User.Tenant, User.App, User.User), null, Policy(1), "f1");

        Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
        Assert.True(await CommitAsync(User, null, Policy(2), "f1"));
    }

    private static HeadState Policy(params byte[] policy) =>
        new(new HeadWeights { FeaturesVersion = 0, PriorVersion = 0, Updates = 0, Weights = [], Offset = 0, Policy = policy, Tag = "" }, []);

    [Fact]
    public async Task ReadersDuringCommits_SeeWeightsAndCovarianceOfOneMoment()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var writing = Task.Run(
            async () =>
            {
                for (var i = 2; i <= 60; i++)
                {
                    var tag = (await Store.ReadWeightsAsync(User, Cancellation)).Weights!.Tag;
                    Assert.True(await CommitAsync(User, tag, Some.Head(i), $"f{i}"));
                }
            },
            Cancellation);

        do
        {
            var head = (await Store.ReadHeadAsync(User, Cancellation))!;
            Assert.Equal(Some.Head(head.Weights.FeaturesVersion).Covariance, head.Covariance);
        }
        while (!writing.IsCompleted);
        await writing;
    }

    [Theory]
    [InlineData("a", "1:b", "a1", ":b")]
    [InlineData("a", "4:userb", "a4:user", "b")]
    [InlineData("a", "b", "A", "b")]
    public async Task NamesThatLookAlikeWhenJoined_AreDifferentUsers(string app, string user, string otherApp, string otherUser)
    {
        await CommitAsync(new UserKey(User.Tenant, app, user), null, Some.Head(1), "f1");

        Assert.Null(await Store.ReadHeadAsync(new UserKey(User.Tenant, otherApp, otherUser), Cancellation));
        Assert.Empty(await Store.FindAcceptedAsync(User.Tenant, otherApp, ["f1"], Cancellation));
    }

    [Fact]
    public async Task LongestNames_AreKept()
    {
        // 256 characters is what a user's name may have, 1024 a feedback id.
        var user = new UserKey(User.Tenant, new string('a', 64), new string('\u20ac', 256));
        var id = new string('\u20ac', 1024);

        Assert.True(await CommitAsync(user, null, Some.Head(), id));

        Assert.NotNull(await Store.ReadHeadAsync(user, Cancellation));
        Assert.Equal([id], await Store.FindAcceptedAsync(user.Tenant, user.App, [id, id[1..]], Cancellation));
    }

    [Fact]
    public async Task ManyIds_AreAllLookedUp()
    {
        string[] ids = [.. Enumerable.Range(0, 250).Select(i => $"f{i:000}")];
        foreach (var some in ids.Where((_, i) => i % 2 == 0).Chunk(90)) Assert.True(await CommitAsync(User, null, null, some));

        Assert.Equal(ids.Where((_, i) => i % 2 == 0), await AcceptedAsync([.. ids, .. ids]));
    }

    [Fact]
    public async Task EightWorkersOnOneUser_EndInTheStateOfASerialReplay()
    {
        // Each has feedback of its own and some that came to all of them.
        const int workers = 8, own = 5, common = 5;
        var learnt = new ConcurrentBag<(long Updates, int Value)>();
        await Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(
            async () =>
            {
                var store = Open();
                for (var i = 0; i < own + common; i++) await LearnOnceAsync(store, i % 2 == 0 ? i : worker * 100 + i);
            },
            Cancellation)));

        var replay = 0f;
        foreach (var (_, value) in learnt.OrderBy(one => one.Updates)) replay = replay / 3 + value;
        var head = (await Store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(workers * own + common, learnt.Count);
        Assert.Equal(learnt.Count, head.Weights.Updates);
        Assert.Equal([replay], head.Weights.Weights);
        Assert.Equal([replay], head.Covariance);

        async Task LearnOnceAsync(IStateStore store, int value)
        {
            while ((await store.FindAcceptedAsync(User.Tenant, User.App, [$"f{value}"], Cancellation)).Count == 0)
            {
                var before = await store.ReadHeadAsync(User, Cancellation);
                var updates = (before?.Weights.Updates ?? 0) + 1;
                float[] next = [(before?.Weights.Weights[0] ?? 0) / 3 + value]; // depends on the order
                var after = new HeadState(Some.Head().Weights with { Updates = updates, Weights = next }, next);
                if (await CommitAsync(User, before?.Weights.Tag, after, [$"f{value}"], store)) learnt.Add((updates, value));
            }
        }
    }

    protected static UserCommit Commit(UserKey user, string? tag, HeadState? head, params string[] feedback) =>
        new() { User = user, ExpectedTag = tag, Head = head, Accepted = [.. feedback.Select(id => Some.Accepted(id, user.User))] };

    private static int[] Bits(float[] values) => [.. values.Select(BitConverter.SingleToInt32Bits)];

    protected Task<bool> CommitAsync(UserKey user, string? tag, HeadState? head, params string[] feedback) => CommitAsync(user, tag, head, feedback, Store);

    protected static async Task<bool> CommitAsync(UserKey user, string? tag, HeadState? head, string[] feedback, IStateStore store) =>
        Assert.Single(await store.CommitAsync([Commit(user, tag, head, feedback)], Cancellation));

    protected async Task<IEnumerable<string>> AcceptedAsync(params string[] ids) => (await Store.FindAcceptedAsync(User.Tenant, User.App, ids, Cancellation)).Order();
}
