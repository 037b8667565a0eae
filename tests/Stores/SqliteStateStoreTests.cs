using System.Collections.Concurrent;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

public sealed class SqliteStateStoreTests : StateStoreTests, IDisposable
{
    private readonly ScratchFolder _folder = new();
    private readonly ConcurrentBag<SqliteStateStore> _opened = [];

    private string File => _folder["state.db"];

    public void Dispose()
    {
        foreach (var store in _opened) store.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("heads", "UPDATE")]
    [InlineData("covariances", "INSERT")]
    [InlineData("covariances", "UPDATE")]
    [InlineData("feedback", "INSERT")]
    public async Task WriteThatFails_LeavesAllPartsAsTheyWere(string table, string write)
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        var before = (await Store.ReadHeadAsync(User, Cancellation))!;
        using var other = RawSqlite.Open(File);
        other.Execute($"CREATE TRIGGER full AFTER {write} ON {table} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END");

        // One user who is new and one who isn't: whatever is written first must go back too.
        var error = await Assert.ThrowsAsync<StoreException>(async () => await Store.CommitAsync(
            [Commit(OtherUser, null, Some.Head(2), "f2"), Commit(User, before.Weights.Tag, Some.Head(3), "f3")], Cancellation));

        Assert.Contains(File, error.Message);
        Assert.Contains("disk is full", error.Message);
        var after = (await Store.ReadHeadAsync(User, Cancellation))!;
        Assert.Equal(before.Weights.Tag, after.Weights.Tag);
        Assert.Equal(before.Weights.Weights, after.Weights.Weights);
        Assert.Equal(before.Covariance, after.Covariance);
        Assert.Null(await Store.ReadHeadAsync(OtherUser, Cancellation));
        Assert.Equal(["f1"], await AcceptedAsync("f1", "f2", "f3"));

        other.Execute("DROP TRIGGER full");
        Assert.True(await CommitAsync(User, before.Weights.Tag, Some.Head(3), "f3"));
    }

    [Fact]
    public async Task HeadWithoutItsCovariance_IsAnError()
    {
        await CommitAsync(User, null, Some.Head(), "f1");
        using (var other = RawSqlite.Open(File)) other.Execute("DELETE FROM covariances");

        var error = await Assert.ThrowsAsync<StoreException>(async () => await Store.ReadHeadAsync(User, Cancellation));

        Assert.Contains("damaged", error.Message);
    }

    [Fact]
    public async Task DatabaseOfAnEarlierVersion_IsReadAndWritten()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        using (var other = RawSqlite.Open(File)) other.Execute("ALTER TABLE covariances DROP COLUMN memory");

        var store = Open();
        var old = (await store.ReadHeadAsync(User, Cancellation))!;
        Assert.Empty(old.Memory);
        Assert.Equal(Some.Head(1).Covariance, old.Covariance);
        Assert.True(await CommitAsync(User, old.Weights.Tag, Some.Head(2), ["f2"], store));
        Assert.Equal(Some.Head(2).Memory, (await store.ReadHeadAsync(User, Cancellation))!.Memory);
    }

    [Fact]
    public async Task FlushedCommit_IsInTheDatabaseItself()
    {
        await CommitAsync(User, null, Some.Head(), "f1");

        await Store.FlushAsync(Cancellation);

        // The main file alone, without the log that a loss of power may take.
        System.IO.File.Copy(File, _folder["copy.db"]);
        using var copy = new SqliteStateStore(_folder["copy.db"]);
        Assert.Equal(Some.Head().Weights.Weights, (await copy.ReadWeightsAsync(User, Cancellation)).Weights!.Weights);
    }

    [Fact]
    public async Task ErasedUser_IsNoLongerInTheFiles_AndOthersAre()
    {
        var ann = User with { User = "ann-of-this-test" };
        for (var i = 0; i < 40; i++)
        {
            await Store.CommitAsync([Of(ann, i), Of(OtherUser, i)], Cancellation);
            if (i % 10 == 0) await Store.FlushAsync(Cancellation);
        }
        Assert.Contains(ann.User, RawSqlite.Bytes(File));
        Assert.Contains("ann-f7", RawSqlite.Bytes(File));

        await Store.EraseAsync(ann, Noon, Cancellation);

        Assert.DoesNotContain(ann.User, RawSqlite.Bytes(File));
        Assert.DoesNotContain("ann-f", RawSqlite.Bytes(File));
        Assert.Contains($"{OtherUser.User}-f7", RawSqlite.Bytes(File));
        Assert.Equal(40, (await FeedbackAsync(new FeedbackQuery(User.Tenant, User.App))).Count);

        UserCommit Of(UserKey user, int i) => Commit(user, i == 0 ? null : $"{i}", Some.Head(i)) with { Accepted = [Some.Accepted($"{user.User.Split('-')[0]}-f{i}", user.User)] };
    }

    [Fact]
    public async Task ErasureOfAnEarlierVersion_IsRemembered_UntilTheNext()
    {
        await Store.FlushAsync(Cancellation);
        using (var other = RawSqlite.Open(File)) other.Execute($"INSERT INTO erasures VALUES ('{User.Tenant}', '{User.App}', '{User.User}', {Noon.ToUnixTimeMilliseconds()}, 7)");
        Assert.Equal(new Erasure(Noon, 7), (await Store.ReadUserAsync(User, Cancellation)).Erasure);

        foreach (var days in (int[])[1, 2]) await Store.EraseAsync(User, Noon.AddDays(days), Cancellation);

        Assert.Equal(new Erasure(Noon.AddDays(2), 7), (await Store.ReadUserAsync(User, Cancellation)).Erasure);
    }

    [Fact]
    public async Task ReaderWhoHoldsTheLog_DoesNotKeepAUserFromBeingErased_AndTheNextFlushEmptiesIt()
    {
        await Store.CommitAsync([Commit(User, null, Some.Head(1), "ann-f1"), Commit(OtherUser, null, Some.Head(2), "ben-f1")], Cancellation);
        using (var other = RawSqlite.Open(File))
        {
            other.Execute("BEGIN; SELECT count(*) FROM heads");
            await Store.EraseAsync(User, Noon, Cancellation);
            Assert.Null(await Store.ReadHeadAsync(User, Cancellation));
            Assert.Contains("ann-f1", RawSqlite.Bytes(File));
        }

        await Store.FlushAsync(Cancellation);

        Assert.DoesNotContain("ann-f1", RawSqlite.Bytes(File));
        Assert.Contains("ben-f1", RawSqlite.Bytes(File));
        Assert.NotNull(await Store.ReadHeadAsync(OtherUser, Cancellation));
    }

    [Fact]
    public async Task Purge_TakesAllFromBefore_ButForTheQuarantine()
    {
        // Learnt; begun, which nothing is to be said of; not learnt, and why; held back.
        await Store.CommitAsync([new UserCommit { User = User, ExpectedTag = null, Head = null, Accepted =
        [
            Some.Accepted("f1"), new(Some.Feedback("f2"), false, null), new(Some.Feedback("f3"), false, "late"), new(Some.Feedback("f4"), false, AcceptedFeedback.Quarantine + "a test"),
        ] }], Cancellation);

        await Store.PurgeAsync(User.Tenant, User.App, DateTimeOffset.UtcNow.AddDays(-1), Cancellation);
        Assert.Equal(["f1", "f2", "f3", "f4"], await AcceptedAsync("f1", "f2", "f3", "f4"));

        await Store.PurgeAsync(User.Tenant, User.App, DateTimeOffset.UtcNow.AddDays(1), Cancellation);
        Assert.Equal(["f4"], await AcceptedAsync("f1", "f2", "f3", "f4"));
    }

    [Fact]
    public async Task UsersThatSeveralProcessesChange_AreReadAsTheyAre()
    {
        // Each process keeps what it read and committed; whatever the others do must show.
        var random = new Random(5);
        IStateStore[] stores = [Store, Open()];
        for (var i = 0; i < 150; i++)
        {
            var store = stores[random.Next(2)];
            var user = random.Next(2) == 0 ? User : OtherUser;
            var read = await store.ReadUserAsync(user, Cancellation);
            var head = random.Next(4) switch
            {
                0 => null,
                1 => Some.Head(i) with { Weights = Some.Head(i).Weights with { Policy = Some.Bytes(1 + random.Next(9)) } },
                _ => Some.Head(i),
            };
            // A stale tag, or feedback that was accepted before, changes nothing.
            var tag = random.Next(4) == 0 ? "77777" : read.Head?.Weights.Tag;
            var id = random.Next(6) == 0 ? "f0" : $"f{i}";
            if (random.Next(12) == 0) await store.EraseAsync(user, DateTimeOffset.UnixEpoch.AddDays(i), Cancellation);
            else await store.CommitAsync([Commit(user, tag, head, id) with { Erasure = read.Erasure, Replayed = random.Next(5) == 0 ? i : null }], Cancellation);

            using var fresh = new SqliteStateStore(File);
            foreach (var each in stores) Assert.Equal(Described(await fresh.ReadUserAsync(user, Cancellation)), Described(await each.ReadUserAsync(user, Cancellation)));
        }

        static string Described(UserRead read) => read.Head is not { } head ? $"none, {read.Erasure}" : string.Join(' ',
            head.Weights with { Weights = [], Policy = null }, read.Erasure, read.Replayed, Convert.ToHexString(head.Weights.Policy ?? []), Convert.ToHexString(head.Memory),
            string.Join(',', head.Weights.Weights), string.Join(',', head.Covariance));
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

    protected override IStateStore Open()
    {
        var store = new SqliteStateStore(File);
        _opened.Add(store);
        return store;
    }
}
