using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Stores;

/// <summary>What every state store must keep of events that wait for their reward.</summary>
public abstract partial class StateStoreTests
{
    private IEventStore Events => (IEventStore)Store;

    [Fact]
    public async Task Event_IsFoundByItsIdAndWhenItIsDue()
    {
        var first = Waiting("e1", Noon);
        Assert.True(await CommitEventsAsync("f1", new EventChange(null, first)));

        var read = Assert.Single(await ((IEventStore)Open()).ReadEventsAsync(User, ["e0", "e1"], Cancellation));
        Assert.Equal((first.Id, first.Due, first.Version), (read.Id, read.Due, read.Version));
        Assert.Equal(first.Body, read.Body);
        Assert.Empty(await Events.ReadEventsAsync(OtherUser, ["e1"], Cancellation));
        Assert.Empty(await DueAsync(Noon.AddTicks(-1)));
        Assert.Equal(["e1"], await DueAsync(Noon));
        Assert.Empty(await Events.FindDueAsync(OtherUser, Noon, 10, Cancellation));
    }

    [Fact]
    public async Task EventsThatAreDue_ComeTheLongestFirstAndNoMoreThanAskedFor()
    {
        await CommitEventsAsync("f1", [.. new[] { 3, 1, 2, 9 }.Select(hour => new EventChange(null, Waiting($"e{hour}", Noon.AddHours(hour))))]);

        Assert.Equal(["e1", "e2", "e3"], await DueAsync(Noon.AddHours(3)));
        Assert.Equal(["e1", "e2"], await DueAsync(Noon.AddHours(3), most: 2));
    }

    [Fact]
    public async Task ChangedEvent_IsAnotherAndOneThatIsSettledIsGone()
    {
        var first = Waiting("e1", Noon);
        var second = first with { Version = 2, Body = [9, 9] };
        await CommitEventsAsync("f1", new EventChange(null, first));
        Assert.True(await CommitEventsAsync("f2", new EventChange(first, second)));
        Assert.Equal([9, 9], Assert.Single(await Events.ReadEventsAsync(User, ["e1"], Cancellation)).Body);

        Assert.True(await CommitEventsAsync("f3", new EventChange(second, null)));
        Assert.Empty(await Events.ReadEventsAsync(User, ["e1"], Cancellation));
        Assert.Empty(await DueAsync(Noon));
    }

    [Theory]
    [InlineData("begins again")]
    [InlineData("changes from what it was")]
    [InlineData("is settled as it was")]
    public async Task EventThatIsNotAsItWasRead_RefusesTheWholeCommit(string how)
    {
        var first = Waiting("e1", Noon);
        await CommitEventsAsync("f1", new EventChange(null, first));
        await CommitEventsAsync("f2", new EventChange(first, first with { Version = 2 }));

        var change = how switch
        {
            "begins again" => new EventChange(null, first),
            "changes from what it was" => new EventChange(first, first with { Version = 2, Body = [7] }),
            _ => new EventChange(first, null),
        };
        Assert.False(await CommitEventsAsync("f3", new EventChange(null, Waiting("e2", Noon)), change));

        Assert.Equal(["f1", "f2"], await AcceptedAsync("f1", "f2", "f3"));
        Assert.Empty(await Events.ReadEventsAsync(User, ["e2"], Cancellation));
        Assert.Equal(2, Assert.Single(await Events.ReadEventsAsync(User, ["e1"], Cancellation)).Version);
    }

    [Fact]
    public async Task EventsThatNameAUser_AreFoundAndErasedWithHim()
    {
        foreach (var (owner, id, user) in new[]
        {
            (UserKey.OfSilence(User.Tenant, User.App, 0), "s1", User.User), (UserKey.OfSilence(User.Tenant, User.App, 1), "s2", "somebody else"), (UserKey.OfShard(User.Tenant, User.App, 2), "r1", User.User),
            (UserKey.OfShard(User.Tenant, User.App, 2), "r2", null), (UserKey.OfSilence(User.Tenant, "other", 0), "s3", User.User),
        })
        {
            Assert.True((await Store.CommitAsync([Commit(owner, null, null) with { Events = [new EventChange(null, Waiting(id, Noon) with { User = user })] }], Cancellation))[0]);
        }
        Assert.Equal(["r1", "s1"], await OfAsync(User));

        await Store.EraseAsync(User, Noon, Cancellation);

        Assert.Empty(await OfAsync(User));
        Assert.Equal(["s2"], await OfAsync(User with { User = "somebody else" }));
        Assert.Equal(["s3"], await OfAsync(User with { App = "other" }));
        Assert.Empty(await Events.FindDueAsync(UserKey.OfSilence(User.Tenant, User.App, 0), Noon, 10, Cancellation));
        Assert.Equal(["r2"], (await Events.FindDueAsync(UserKey.OfShard(User.Tenant, User.App, 2), Noon, 10, Cancellation)).Select(waiting => waiting.Id));

        async Task<IEnumerable<string>> OfAsync(UserKey user)
        {
            var found = new List<WaitingEvent>();
            await foreach (var waiting in ((IEventStore)Open()).ReadEventsAsync(user, Cancellation)) found.Add(waiting);
            Assert.All(found, waiting => Assert.Equal(user.User, waiting.User));
            return found.Select(waiting => waiting.Id).Order(StringComparer.Ordinal);
        }
    }

    private static WaitingEvent Waiting(string id, DateTimeOffset due) => new(id, due, 1, [1, 2, 3]);

    private async Task<bool> CommitEventsAsync(string feedback, params EventChange[] changes) =>
        Assert.Single(await Store.CommitAsync([Commit(User, null, null, feedback) with { Events = changes }], Cancellation));

    private async Task<IEnumerable<string>> DueAsync(DateTimeOffset at, int most = 10) => (await Events.FindDueAsync(User, at, most, Cancellation)).Select(waiting => waiting.Id);
}
