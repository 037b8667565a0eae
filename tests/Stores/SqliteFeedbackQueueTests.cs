using System.Buffers.Binary;
using Skiff.Embedded;
using Skiff.Feedback;
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
