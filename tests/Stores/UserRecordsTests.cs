using Skiff.Feedback;
using Skiff.Personalization;

namespace Skiff.Stores;

/// <summary>What state stores keep of users beside their heads; a part of what each of them must do.</summary>
public abstract partial class StateStoreTests
{
    protected static readonly DateTimeOffset Noon = new(2026, 6, 1, 12, 0, 0, TimeSpan.Zero);

    [Fact]
    public async Task Feedback_IsReadBackInTheOrderOfCommits()
    {
        await CommitAsync(User, null, Some.Head(1), "f3", "f1");
        await CommitAsync(User, "1", Some.Head(2), "f2");
        await CommitAsync(OtherUser, null, Some.Head(1), "g1");

        Assert.Equal(["f3", "f1", "f2"], (await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App) { User = User.User })).Select(kept => kept.Accepted.Message.FeedbackId));
        Assert.Equal(["f1", "f2", "f3", "g1"], (await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App))).Select(kept => kept.Accepted.Message.FeedbackId).Order());
        Assert.Empty(await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App) { To = DateTimeOffset.UnixEpoch.AddDays(1) }));
        Assert.Empty(await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App) { From = DateTimeOffset.UtcNow.AddDays(1) }));
        Assert.Empty(await FeedbackAsync(new FeedbackQuery(User.Tenant, "other")));
    }

    [Fact]
    public async Task FeedbackOfAllParts_IsThatOfUsersContextsAndShards()
    {
        var context = UserKey.OfContext(User.Tenant, User.App, "evening");
        var shard = UserKey.OfShard(User.Tenant, User.App, 3);
        await CommitAsync(User, null, Some.Head(1), "f1");
        await CommitAsync(context, null, Some.Head(1), "f2");
        await CommitAsync(shard, null, Some.Head(1), "f3");
        await CommitAsync(User with { App = "app2" }, null, Some.Head(1), "f4");
        await CommitAsync(UserKey.OfContext(User.Tenant, "app2", "evening"), null, Some.Head(1), "f5");

        Assert.Equal(["f1", "f2", "f3"], (await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App) { InAllParts = true })).Select(kept => kept.Accepted.Message.FeedbackId).Order());
        Assert.Equal(["f2"], (await FeedbackAsync(new FeedbackQuery(User.Tenant, context.App))).Select(kept => kept.Accepted.Message.FeedbackId));
    }

    [Fact]
    public async Task MoreFeedbackThanOnePage_IsReadOnceEach()
    {
        const int users = 30, each = 90;
        for (var user = 0; user < users; user++)
        {
            var ids = Enumerable.Range(0, each).Select(i => $"f{user}-{i}").ToArray();
            await CommitAsync(User with { User = $"u{user}" }, null, Some.Head(1), ids);
        }

        var found = await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App));
        Assert.Equal(users * each, found.Count);
        Assert.Equal(users * each, found.Select(kept => kept.Accepted.Message.FeedbackId).Distinct().Count());
        Assert.Equal(Enumerable.Range(0, each).Select(i => $"f7-{i}"), (await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App) { User = "u7" })).Select(kept => kept.Accepted.Message.FeedbackId));
    }

    [Fact]
    public async Task Users_AreThoseWithAHead()
    {
        await CommitAsync(User, null, Some.Head(), "f1");
        await CommitAsync(User with { User = "7:odd:name" }, null, Some.Head(), "f2");
        await CommitAsync(OtherUser, null, null, "f3");
        await CommitAsync(User with { App = "app2" }, null, Some.Head(), "f4");

        var users = new List<string>();
        await foreach (var user in Store.ReadUsersAsync(User.Tenant, User.App, Cancellation)) users.Add(user);

        Assert.Equal(["7:odd:name", "u1"], users.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Quarantine_IsFound_AndWhatIsReleasedStandsAtTheEnd()
    {
        await Store.CommitAsync([new UserCommit { User = User, ExpectedTag = null, Head = Some.Head(1), Accepted = [Refused("f1"), Some.Accepted("f2"), Refused("f3")] }], Cancellation);
        var quarantine = new FeedbackQuery(User.Tenant, User.App) { OnlyQuarantined = true };
        Assert.Equal(["f1", "f3"], (await FeedbackAsync(quarantine)).Select(kept => kept.Accepted.Message.FeedbackId));

        var release = new UserCommit { User = User, ExpectedTag = "1", Head = Some.Head(2), Accepted = [Some.Accepted("f1")], IsRelease = true };
        Assert.True((await Store.CommitAsync([release], Cancellation))[0]);

        Assert.Equal(["f3"], (await FeedbackAsync(quarantine)).Select(kept => kept.Accepted.Message.FeedbackId));
        Assert.Equal(["f2", "f3", "f1"], (await FeedbackAsync(quarantine with { OnlyQuarantined = false })).Select(kept => kept.Accepted.Message.FeedbackId));
        // Released already, or never there.
        Assert.False((await Store.CommitAsync([release with { ExpectedTag = "2" }], Cancellation))[0]);
        Assert.False((await Store.CommitAsync([release with { ExpectedTag = "2", Accepted = [Some.Accepted("f4")] }], Cancellation))[0]);
        Assert.Equal("2", (await Store.ReadHeadAsync(User, Cancellation))!.Weights.Tag);
    }

    [Fact]
    public async Task ErasedUser_IsGone_AndOthersStay()
    {
        await Store.CommitAsync([new UserCommit { User = User, ExpectedTag = null, Head = Some.Head(1), Accepted = [Some.Accepted("f1"), Refused("f2")] }], Cancellation);
        await CommitAsync(OtherUser, null, Some.Head(2), "g1");
        await Store.LogKeysAsync(User.Tenant, User.App, [User.User, OtherUser.User], create: true, Cancellation);

        await Store.EraseAsync(User, Noon, Cancellation);

        var reopened = Open();
        Assert.Equal(new UserRead(null, new Erasure(Noon, 1)), await reopened.ReadUserAsync(User, Cancellation));
        Assert.Null((await reopened.ReadWeightsAsync(User, Cancellation)).Weights);
        Assert.Equal(["g1"], (await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App))).Select(kept => kept.Accepted.Message.FeedbackId));
        Assert.Equal([OtherUser.User], (await reopened.LogKeysAsync(User.Tenant, User.App, [User.User, OtherUser.User], create: false, Cancellation)).Keys);
        Assert.NotNull(await reopened.ReadHeadAsync(OtherUser, Cancellation));
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task CommitComputedBeforeAnErasure_IsRefused(bool hadHead, bool learns)
    {
        if (hadHead) await CommitAsync(User, null, Some.Head(1), "f1");
        var (head, erasure) = await Store.ReadUserAsync(User, Cancellation);

        await Store.EraseAsync(User, Noon, Cancellation);

        Assert.False((await Store.CommitAsync([Commit(User, head?.Weights.Tag, learns ? Some.Head(2) : null, "f2") with { Erasure = erasure }], Cancellation))[0]);
        Assert.Empty(await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App)));
        Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
    }

    [Fact]
    public async Task HeadAfterAnErasure_BeginsBehindTheTagsOfBefore()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        await CommitAsync(User, "1", Some.Head(2), "f2");
        await Store.EraseAsync(User, Noon, Cancellation);
        var (_, erasure) = await Store.ReadUserAsync(User, Cancellation);

        Assert.True((await Store.CommitAsync([Commit(User, null, Some.Head(3), "f1") with { Erasure = erasure }], Cancellation))[0]);

        // Who has read the first head can't take the new one for it.
        Assert.Equal("3", (await Store.ReadHeadAsync(User, Cancellation))!.Weights.Tag);
        Assert.Equal(erasure, (await Store.ReadUserAsync(User, Cancellation)).Erasure);
    }

    [Fact]
    public async Task LogKeys_AreMadeOnce()
    {
        var first = await Store.LogKeysAsync(User.Tenant, User.App, ["u1", "u2"], create: true, Cancellation);
        var second = await Open().LogKeysAsync(User.Tenant, User.App, ["u2", "u3"], create: true, Cancellation);

        Assert.Equal(first["u2"], second["u2"]);
        Assert.NotEqual(first["u1"], first["u2"]);
        Assert.All(first.Values, key => Assert.Equal(32, key.Length));
        Assert.Empty(await Store.LogKeysAsync(User.Tenant, "other", ["u1"], create: false, Cancellation));
    }

    [Fact]
    public async Task ManyUsers_HaveTheirKeys_AndWhoWasErasedIsFound()
    {
        var users = Enumerable.Range(0, 250).Select(i => $"u{i}").ToArray();
        var erased = users.Where((_, i) => i % 50 == 1).ToArray();
        foreach (var user in erased) await Store.EraseAsync(User with { User = user }, Noon, Cancellation);

        var keys = await Store.LogKeysAsync(User.Tenant, User.App, users, create: true, Cancellation);
        Assert.Equal(users.Order(), keys.Keys.Order());
        Assert.Equal(users.Length, keys.Values.Select(Convert.ToHexString).Distinct().Count());
        Assert.Equal(keys.Values.Select(Convert.ToHexString).Order(), (await Store.LogKeysAsync(User.Tenant, User.App, null, create: false, Cancellation)).Values.Select(Convert.ToHexString).Order());
        Assert.Equal(erased.Order().Select(user => (user, Noon)), (await Store.FindErasedAsync(User.Tenant, User.App, users, Cancellation)).Select(one => (one.Key, one.Value)).OrderBy(one => one.Key));
        Assert.Empty(await Store.FindErasedAsync(User.Tenant, "other", users, Cancellation));
    }

    private static AcceptedFeedback Refused(string id) => new(Some.Feedback(id), false, AcceptedFeedback.Quarantine + "a test");

    protected async Task<List<KeptFeedback>> FeedbackAsync(FeedbackQuery query)
    {
        var found = new List<KeptFeedback>();
        await foreach (var kept in Store.ReadFeedbackAsync(query, Cancellation)) found.Add(kept);
        return found;
    }
}
