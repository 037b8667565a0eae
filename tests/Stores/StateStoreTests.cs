using Microsoft.Data.Sqlite;
using Skiff.Embedded;
using Skiff.Personalization;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

public sealed class StateStoreTests : IDisposable
{
    private static readonly UserKey User = new("default", "app", "u1");
    private static readonly UserKey OtherUser = User with { User = "u2" };

    private readonly ScratchFolder _folder = new();
    private readonly SqliteStateStore _store;

    public StateStoreTests() => _store = new SqliteStateStore(File);

    private string File => _folder["state.db"];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _store.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public async Task UnknownUser_HasNoHead()
    {
        Assert.Null(await _store.ReadWeightsAsync(User, Cancellation));
        Assert.Null(await _store.ReadHeadAsync(User, Cancellation));
    }

    [Fact]
    public async Task CommittedHead_IsReadBackBitForBit()
    {
        var head = Some.Head();
        Assert.True(await CommitAsync(User, null, head, "f1"));

        using var reopened = new SqliteStateStore(File);
        var weights = (await reopened.ReadWeightsAsync(User, Cancellation))!;
        var whole = (await reopened.ReadHeadAsync(User, Cancellation))!;

        Assert.Equal(Bits(head.Weights.Weights), Bits(weights.Weights));
        Assert.Equal(Bits(head.Covariance), Bits(whole.Covariance));
        Assert.Equal(Bits(weights.Weights), Bits(whole.Weights.Weights));
        Assert.Equal((1, 2, 3L, head.Weights.Offset), (weights.FeaturesVersion, weights.PriorVersion, weights.Updates, weights.Offset));
        Assert.Equal(weights.Tag, whole.Weights.Tag);
    }

    [Fact]
    public async Task CommitOnTheTagThatWasRead_ReplacesBothParts()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var first = (await _store.ReadHeadAsync(User, Cancellation))!;

        Assert.True(await CommitAsync(User, first.Weights.Tag, Some.Head(2), "f2"));

        var second = (await _store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(Some.Head(2).Weights.Weights, second.Weights.Weights);
        Assert.Equal(Some.Head(2).Covariance, second.Covariance);
        Assert.NotEqual(first.Weights.Tag, second.Weights.Tag);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task CommitOnAnOldTag_IsRefusedAndWritesNothing(bool asNew)
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var first = (await _store.ReadHeadAsync(User, Cancellation))!.Weights.Tag;
        await CommitAsync(User, first, Some.Head(2), "f2");

        Assert.False(await CommitAsync(User, asNew ? null : first, Some.Head(3), "f3"));

        var head = (await _store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(Some.Head(2).Weights.Weights, head.Weights.Weights);
        Assert.Equal(Some.Head(2).Covariance, head.Covariance);
        Assert.Equal(["f1", "f2"], await AcceptedAsync("f1", "f2", "f3"));
    }

    [Fact]
    public async Task CommitOnATagOfNoHead_IsRefused()
    {
        Assert.False(await CommitAsync(User, "1", Some.Head(), "f1"));

        Assert.Null(await _store.ReadHeadAsync(User, Cancellation));
        Assert.Empty(await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task RacingCommits_OneOfThemIsMade()
    {
        await CommitAsync(User, null, Some.Head(1), "f0");
        var tag = (await _store.ReadHeadAsync(User, Cancellation))!.Weights.Tag;
        using var other = new SqliteStateStore(File);

        var made = await Task.WhenAll(Enumerable.Range(1, 8).Select(i => Task.Run(
            () => CommitAsync(User, tag, Some.Head(i + 1), [$"f{i}"], i % 2 == 0 ? _store : other), Cancellation)));

        var winner = Assert.Single(Enumerable.Range(1, 8), i => made[i - 1]);
        Assert.Equal(Some.Head(winner + 1).Weights.Weights, (await _store.ReadWeightsAsync(User, Cancellation))!.Weights);
        Assert.Equal([$"f{winner}"], await AcceptedAsync([.. Enumerable.Range(1, 8).Select(i => $"f{i}")]));
    }

    [Theory]
    [InlineData("u1")]
    [InlineData("u2")]
    public async Task FeedbackIdAcceptedBefore_IsRefusedWithTheWholeCommit(string user)
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var key = User with { User = user };
        var before = await _store.ReadHeadAsync(key, Cancellation);

        Assert.False(await CommitAsync(key, before?.Weights.Tag, Some.Head(2), "f2", "f1"));

        var after = await _store.ReadHeadAsync(key, Cancellation);
        Assert.Equal(before?.Weights.Tag, after?.Weights.Tag);
        Assert.Equal(before?.Covariance, after?.Covariance);
        Assert.Equal(["f1"], await AcceptedAsync("f1", "f2"));
    }

    [Fact]
    public async Task FeedbackIdTwiceInOneCommit_IsRefused()
    {
        Assert.False(await CommitAsync(User, null, Some.Head(), "f1", "f1"));

        Assert.Null(await _store.ReadHeadAsync(User, Cancellation));
        Assert.Empty(await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task FeedbackIdOfAnotherAppOrTenant_IsNew()
    {
        await CommitAsync(User, null, Some.Head(), "f1");

        Assert.True(await CommitAsync(User with { App = "other" }, null, Some.Head(), "f1"));
        Assert.True(await CommitAsync(User with { Tenant = "other" }, null, Some.Head(), "f1"));
        Assert.Empty(await _store.FindAcceptedAsync("third", "app", ["f1"], Cancellation));
    }

    [Fact]
    public async Task CommitsOfSeveralUsers_StandEachForItself()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");

        var made = await _store.CommitAsync(
            [Commit(OtherUser, null, Some.Head(2), "f2"), Commit(User, null, Some.Head(3), "f3"), Commit(User with { User = "u3" }, null, Some.Head(4), "f2"), Commit(User with { User = "u4" }, null, Some.Head(5), "f5")],
            Cancellation);

        Assert.Equal([true, false, false, true], made);
        Assert.Equal(Some.Head(2).Weights.Weights, (await _store.ReadWeightsAsync(OtherUser, Cancellation))!.Weights);
        Assert.Equal(Some.Head(1).Weights.Weights, (await _store.ReadWeightsAsync(User, Cancellation))!.Weights);
        Assert.Null(await _store.ReadWeightsAsync(User with { User = "u3" }, Cancellation));
        Assert.Equal(["f1", "f2", "f5"], await AcceptedAsync("f1", "f2", "f3", "f5"));
    }

    [Fact]
    public async Task FeedbackWithoutAHead_IsKept()
    {
        Assert.True(await CommitAsync(User, null, null, "f1"));

        Assert.Null(await _store.ReadHeadAsync(User, Cancellation));
        Assert.Equal(["f1"], await AcceptedAsync("f1"));
    }

    [Theory]
    [InlineData("heads", "UPDATE")]
    [InlineData("covariances", "INSERT")]
    [InlineData("covariances", "UPDATE")]
    [InlineData("feedback", "INSERT")]
    public async Task WriteThatFails_LeavesAllPartsAsTheyWere(string table, string write)
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var before = (await _store.ReadHeadAsync(User, Cancellation))!;
        using var other = OpenSqlite();
        Execute(other, $"CREATE TRIGGER full AFTER {write} ON {table} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END");

        // One user who is new and one who isn't: whatever is written first must go back too.
        var error = await Assert.ThrowsAsync<StoreException>(async () => await _store.CommitAsync(
            [Commit(OtherUser, null, Some.Head(2), "f2"), Commit(User, before.Weights.Tag, Some.Head(3), "f3")], Cancellation));

        Assert.Contains(File, error.Message);
        Assert.Contains("disk is full", error.Message);
        var after = (await _store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(before.Weights.Tag, after.Weights.Tag);
        Assert.Equal(before.Weights.Weights, after.Weights.Weights);
        Assert.Equal(before.Covariance, after.Covariance);
        Assert.Null(await _store.ReadHeadAsync(OtherUser, Cancellation));
        Assert.Equal(["f1"], await AcceptedAsync("f1", "f2", "f3"));

        Execute(other, "DROP TRIGGER full");
        Assert.True(await CommitAsync(User, before.Weights.Tag, Some.Head(3), "f3"));
    }

    [Fact]
    public async Task HeadWithoutItsCovariance_IsAnError()
    {
        await CommitAsync(User, null, Some.Head(), "f1");
        using (var other = OpenSqlite()) Execute(other, "DELETE FROM covariances");

        var error = await Assert.ThrowsAsync<StoreException>(async () => await _store.ReadHeadAsync(User, Cancellation));

        Assert.Contains("damaged", error.Message);
    }

    [Fact]
    public async Task ReadersDuringCommits_SeeWeightsAndCovarianceOfOneMoment()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var writing = Task.Run(
            async () =>
            {
                for (var i = 2; i <= 60; i++)
                {
                    var tag = (await _store.ReadWeightsAsync(User, Cancellation))!.Tag;
                    Assert.True(await CommitAsync(User, tag, Some.Head(i), $"f{i}"));
                }
            },
            Cancellation);

        do
        {
            var head = (await _store.ReadHeadAsync(User, Cancellation))!;
            Assert.Equal(Some.Head(head.Weights.FeaturesVersion).Covariance, head.Covariance);
        }
        while (!writing.IsCompleted);
        await writing;
    }

    [Fact]
    public async Task FlushedCommit_IsInTheDatabaseItself()
    {
        await CommitAsync(User, null, Some.Head(), "f1");

        await _store.FlushAsync(Cancellation);

        // The main file alone, without the log that a loss of power may take.
        System.IO.File.Copy(File, _folder["copy.db"]);
        using var copy = new SqliteStateStore(_folder["copy.db"]);
        Assert.Equal(Some.Head().Weights.Weights, (await copy.ReadWeightsAsync(User, Cancellation))!.Weights);
    }

    [Fact]
    public void FolderInTheFilesPlace_IsAnErrorThatNamesIt()
    {
        Directory.CreateDirectory(_folder["folder.db"]);

        Assert.Contains(_folder["folder.db"], Assert.Throws<StoreException>(() => new SqliteStateStore(_folder["folder.db"])).Message);
    }

    [Fact]
    public void FileThatIsNoDatabase_IsAnErrorThatNamesIt()
    {
        System.IO.File.WriteAllText(_folder["text.db"], string.Concat(Enumerable.Repeat("this is not a database. ", 100)));

        Assert.Contains(_folder["text.db"], Assert.Throws<StoreException>(() => new SqliteStateStore(_folder["text.db"])).Message);
    }

    private static UserCommit Commit(UserKey user, string? tag, HeadState? head, params string[] feedback) =>
        new() { User = user, ExpectedTag = tag, Head = head, Accepted = [.. feedback.Select(id => Some.Accepted(id, user.User))] };

    private static int[] Bits(float[] values) => [.. values.Select(BitConverter.SingleToInt32Bits)];

    private Task<bool> CommitAsync(UserKey user, string? tag, HeadState? head, params string[] feedback) => CommitAsync(user, tag, head, feedback, _store);

    private static async Task<bool> CommitAsync(UserKey user, string? tag, HeadState? head, string[] feedback, SqliteStateStore store) =>
        Assert.Single(await store.CommitAsync([Commit(user, tag, head, feedback)], Cancellation));

    private async Task<IEnumerable<string>> AcceptedAsync(params string[] ids) => (await _store.FindAcceptedAsync(User.Tenant, User.App, ids, Cancellation)).Order();

    private SqliteConnection OpenSqlite()
    {
        var connection = new SqliteConnection($"Data Source={File};Pooling=False");
        connection.Open();
        return connection;
    }

    private static void Execute(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }
}
