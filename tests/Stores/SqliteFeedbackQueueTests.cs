using System.Buffers.Binary;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>The suite in a file, and what is SQLite's own.</summary>
public sealed class SqliteFeedbackQueueTests : FeedbackQueueTests
{
    private readonly ScratchFolder _folder = new();

    private string File => _folder["queue.db"];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task ReceiptsOfCompletedMessages_AreNotUsedAgain()
    {
        string first;
        await using (var queue = new SqliteFeedbackQueue(File))
        {
            await queue.SendAsync([Some.Feedback("f1")], Cancellation);
            var received = await ReceiveAsync(queue, 1);
            first = received[0].Receipt;
            await queue.CompleteAsync(received, Cancellation);
        }

        await using var reopened = new SqliteFeedbackQueue(File);
        await reopened.SendAsync([Some.Feedback("f2")], Cancellation);
        Assert.NotEqual(first, (await ReceiveAsync(reopened, 1))[0].Receipt);
    }

    [Fact]
    public async Task ConcurrentSenders_ShareTransactionsAndAreAllDurable()
    {
        const int senders = 64;
        await using var queue = new SqliteFeedbackQueue(File);
        await queue.SendAsync([Some.Feedback("first")], Cancellation);
        var before = CommitsIn(File + "-wal");

        Task[] sending;
        using (var other = RawSqlite.Open(File))
        using (other.BeginTransaction())
        {
            // As long as somebody else holds the file nothing can be written: all of them queue up.
            sending = [.. Enumerable.Range(0, senders).Select(i => queue.SendAsync([Some.Feedback($"f{i}")], Cancellation).AsTask())];
            Assert.DoesNotContain(sending, task => task.IsCompleted);
        }
        await Task.WhenAll(sending);

        // The first may have started on its own; the rest share one.
        Assert.InRange(CommitsIn(File + "-wal") - before, 1, 2);
        using var reading = RawSqlite.Open(File);
        Assert.Equal(senders + 1L, reading.Scalar("SELECT count(*) FROM messages"));
        Assert.Equal(["first", .. Enumerable.Range(0, senders).Select(i => $"f{i}")], await ReceiveIdsAsync(queue, senders + 1));
    }

    [Fact]
    public async Task SecondMessageThatCannotBeWritten_TakesTheFirstWithIt()
    {
        await using var queue = new SqliteFeedbackQueue(File);
        using var other = RawSqlite.Open(File);
        other.Execute("""
            CREATE TRIGGER full AFTER INSERT ON messages WHEN (SELECT count(*) FROM messages) >= 2
            BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END
            """);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await queue.SendAsync([Some.Feedback("f1"), Some.Feedback("f2")], Cancellation));
        Assert.Contains(File, error.Message);
        Assert.Contains("disk is full", error.Message);
        Assert.Equal(0L, other.Scalar("SELECT count(*) FROM messages"));

        other.Execute("DROP TRIGGER full");
        await queue.SendAsync([Some.Feedback("f3")], Cancellation);
        Assert.Equal(["f3"], await ReceiveIdsAsync(queue, 1));
    }

    [Fact]
    public async Task LockedDatabase_RefusesAndKeepsNothing()
    {
        await using var queue = new SqliteFeedbackQueue(File);
        using var other = RawSqlite.Open(File);
        other.Execute("BEGIN EXCLUSIVE");

        var sending = queue.SendAsync([Some.Feedback("f1")], Cancellation).AsTask();
        var error = await Assert.ThrowsAsync<StoreException>(() => sending.WaitAsync(TimeSpan.FromSeconds(15), Cancellation));

        other.Execute("ROLLBACK");
        Assert.Contains(File, error.Message);
        Assert.Contains("locked", error.Message);
        Assert.Equal(0L, other.Scalar("SELECT count(*) FROM messages"));
        await queue.SendAsync([Some.Feedback("f2")], Cancellation);
        Assert.Equal(["f2"], await ReceiveIdsAsync(queue, 1));
    }

    [Fact]
    public async Task DamagedMessage_ComesAsOneOfNobodyThatSaysSo()
    {
        await using var queue = new SqliteFeedbackQueue(File);
        await queue.SendAsync([Some.Feedback("f1")], Cancellation);
        using (var other = RawSqlite.Open(File)) other.Execute("INSERT INTO messages (body) VALUES (x'7b2c')");
        await queue.SendAsync([Some.Feedback("f2")], Cancellation);

        var received = await ReceiveAsync(queue, 3);

        Assert.Equal(["f1", "f2"], received.Where(one => one.Message.Fault is null).Select(one => one.Message.FeedbackId));
        var damaged = Assert.Single(received, one => one.Message.Fault is not null).Message;
        Assert.Equal("{,"u8.ToArray(), damaged.Raw);
        Assert.Equal(("", "", ""), (damaged.Tenant, damaged.App, damaged.User));
    }

    [Fact]
    public async Task ReaderFarBehindOrAmongOtherSenders_MissesNothingAndGetsNothingTwice()
    {
        await using var queue = new SqliteFeedbackQueue(File);
        await using var other = new SqliteFeedbackQueue(File);
        var sent = new List<string>();

        // More than is kept at hand, then messages of two processes in turns, then a reader who keeps up.
        await SendAsync(queue, 3000);
        for (var i = 0; i < 5; i++)
        {
            await SendAsync(other, 2);
            await SendAsync(queue, 3);
        }
        Assert.Equal(sent, await ReceiveIdsAsync(queue, sent.Count, most: 700));
        for (var i = 0; i < 5; i++)
        {
            sent.Clear();
            await SendAsync(i % 2 == 0 ? queue : other, 2);
            await SendAsync(queue, 1);
            Assert.Equal(sent, await ReceiveIdsAsync(queue, sent.Count));
        }

        async Task SendAsync(SqliteFeedbackQueue to, int count)
        {
            string[] ids = [.. Enumerable.Range(0, count).Select(_ => Guid.NewGuid().ToString())];
            sent.AddRange(ids);
            await to.SendAsync([.. ids.Select(id => Some.Feedback(id))], Cancellation);
        }
    }

    [Fact]
    public async Task ReceivedMessagesOfAnErasedUser_AreNoLongerInTheFiles_AndAllOthersAre()
    {
        var at = Some.Feedback("").At;
        var ann = new UserKey("default", "app", "ann-of-this-test");
        await using var queue = new SqliteFeedbackQueue(File);
        await queue.SendAsync([.. Enumerable.Range(0, 300).Select(i => Some.Feedback($"done-{i}", ann.User))], Cancellation);
        await ReceiveAsync(queue, 300, complete: true);
        await queue.SendAsync(
        [
            Some.Feedback("f1", ann.User), Some.Feedback("g1", "ben"), Some.Feedback("f2", ann.User) with { At = at.AddDays(1), Decided = at }, Some.Feedback("later", ann.User) with { At = at.AddDays(1) },
            Some.Feedback("other-app", ann.User) with { App = "app2" }, Some.Feedback("other-tenant", ann.User) with { Tenant = "acme" },
        ], Cancellation);
        var received = await ReceiveAsync(queue, 6);
        await queue.SendAsync([Some.Feedback("on-its-way", ann.User), Some.Feedback("g2", "ben")], Cancellation);
        Assert.Contains("done-", Bytes());
        Assert.Contains("\"f1\"", Bytes());

        await queue.EraseAsync(ann, at, Cancellation);

        Assert.DoesNotContain("done-", Bytes());
        Assert.DoesNotContain("\"f1\"", Bytes());
        Assert.DoesNotContain("\"f2\"", Bytes());
        Assert.Equal(["g1", "later", "other-app", "other-tenant", "on-its-way", "g2"], await LeftAsync());

        // What nobody had received comes as always, and when it is done with nothing is left of it either.
        var rest = await ReceiveAsync(queue, 2);
        Assert.Equal(["on-its-way", "g2"], rest.Select(one => one.Message.FeedbackId));
        await queue.SendAsync([Some.Feedback("g3", "ben")], Cancellation);
        await queue.CompleteAsync([.. received.Where(one => one.Message.FeedbackId != "g1"), .. rest], Cancellation);
        // Its senders and completers don't wait for the scrubbing: whoever comes next does.
        await queue.SendAsync([Some.Feedback("g4", "ben")], Cancellation);
        Assert.DoesNotContain(ann.User, Bytes());
        Assert.DoesNotContain("on-its-way", Bytes());
        Assert.Equal(["g1", "g3", "g4"], await LeftAsync());
        Assert.Equal(["g3", "g4"], await ReceiveIdsAsync(queue, 2));

        string Bytes() => RawSqlite.Bytes(File);

        // Of a client who has received nothing yet, as after a crash.
        async Task<IEnumerable<string>> LeftAsync()
        {
            await using var other = new SqliteFeedbackQueue(File);
            using var raw = RawSqlite.Open(File);
            return (await ReceiveAsync(other, (int)(long)raw.Scalar("SELECT count(*) FROM messages")!)).Select(one => one.Message.FeedbackId);
        }
    }

    [Fact]
    public async Task MessagesFromBeforeACrash_AreScrubbedWhenTheyAreDoneWith()
    {
        await using var crashed = new SqliteFeedbackQueue(File);
        await crashed.SendAsync([Some.Feedback("f1", "ann-of-this-test"), Some.Feedback("f2")], Cancellation);

        await using var queue = new SqliteFeedbackQueue(File);
        await ReceiveAsync(queue, 2, complete: true);
        await queue.SendAsync([Some.Feedback("f3")], Cancellation);

        Assert.DoesNotContain("ann-of-this-test", RawSqlite.Bytes(File));
        Assert.Equal(["f3"], await ReceiveIdsAsync(queue, 1));
    }

    [Fact]
    public async Task ReaderWhoHoldsTheLog_DoesNotKeepAUserFromBeingErased_AndTheNextErasureEmptiesIt()
    {
        var ann = new UserKey("default", "app", "ann-of-this-test");
        await using var queue = new SqliteFeedbackQueue(File);
        await queue.SendAsync([Some.Feedback("f1", ann.User), Some.Feedback("g1", "ben")], Cancellation);
        await ReceiveAsync(queue, 2);
        using (var other = RawSqlite.Open(File))
        {
            other.Execute("BEGIN; SELECT count(*) FROM messages");
            await queue.EraseAsync(ann, DateTimeOffset.UtcNow, Cancellation);
            Assert.Equal(2L, other.Scalar("SELECT count(*) FROM messages"));
            other.Execute("COMMIT");
            Assert.Equal(1L, other.Scalar("SELECT count(*) FROM messages"));
            Assert.Contains(ann.User, RawSqlite.Bytes(File));
        }

        await queue.EraseAsync(ann with { User = "nobody" }, DateTimeOffset.UtcNow, Cancellation);

        Assert.DoesNotContain(ann.User, RawSqlite.Bytes(File));
        Assert.Contains("ben", RawSqlite.Bytes(File));
    }

    [Fact]
    public async Task ClosedQueue_Refuses()
    {
        var queue = new SqliteFeedbackQueue(File);
        await queue.DisposeAsync();

        await Assert.ThrowsAsync<StoreException>(async () => await queue.SendAsync([Some.Feedback("f1")], Cancellation));
    }

    [Fact]
    public void FolderInTheFilesPlace_IsAnErrorThatNamesIt()
    {
        Directory.CreateDirectory(File);

        Assert.Contains(File, Assert.Throws<StoreException>(() => new SqliteFeedbackQueue(File)).Message);
    }

    [Fact]
    public void FileInTheFoldersPlace_IsAnErrorThatNamesIt()
    {
        System.IO.File.WriteAllText(_folder["file"], "not a folder");
        var path = _folder["file/queue.db"];

        Assert.Contains(path, Assert.Throws<StoreException>(() => new SqliteFeedbackQueue(path)).Message);
    }

    [Fact]
    public void FileThatIsNoDatabase_IsAnErrorAndStaysAsItIs()
    {
        var content = string.Concat(Enumerable.Repeat("this is not a database. ", 100));
        System.IO.File.WriteAllText(File, content);

        var error = Assert.Throws<StoreException>(() => new SqliteFeedbackQueue(File));

        Assert.Contains(File, error.Message);
        Assert.Contains("not a database", error.Message);
        Assert.Equal(content, System.IO.File.ReadAllText(File));
    }

    protected override IFeedbackQueue OpenQueue() => new SqliteFeedbackQueue(File);

    /// <summary>Counts the commits in a write-ahead log: frames whose header says how large the database is after them (sqlite.org/fileformat2.html).</summary>
    private static int CommitsIn(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        var header = new byte[32];
        stream.ReadExactly(header);
        var frame = new byte[24 + BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(8))];
        var commits = 0;
        while (stream.ReadAtLeast(frame, frame.Length, throwOnEndOfStream: false) == frame.Length)
        {
            if (BinaryPrimitives.ReadInt32BigEndian(frame.AsSpan(4)) != 0) commits++;
        }
        return commits;
    }
}
