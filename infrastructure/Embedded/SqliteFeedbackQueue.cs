using System.Globalization;
using System.Threading.Channels;
using Microsoft.Data.Sqlite;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Embedded;

/// <summary>
/// The embedded queue: one SQLite file with <c>synchronous=FULL</c>. One task writes, and everybody who sends while it syncs shares the next transaction (group commit),
/// so a sync is paid by many. One reader follows the sequence; what it received stays in the file until it is completed, and comes again after a restart. A reader who
/// keeps up is handed what was sent, without reading it back.
/// </summary>
public sealed class SqliteFeedbackQueue : IFeedbackQueue, IAsyncDisposable
{
    private const string Schema = "CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)";
    private const int MostPerCommit = 1024;
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(1);

    // 2 MiB: a log that starts over soon writes where it has written before, and such a sync costs half of one that makes the file longer.
    private const int CheckpointPages = 512;

    private readonly string _path;
    private readonly SqliteConnection _connection; // used by the writer's task only
    private readonly SqliteConnection _reading; // used by the receiver only
    private readonly SqliteCommand _insert;
    private readonly SqliteCommand _delete;
    private readonly SqliteCommand _select;
    private readonly SqliteCommand _selectReceived;
    private readonly Channel<Work> _work = Channel.CreateUnbounded<Work>(new UnboundedChannelOptions { SingleReader = true });
    private readonly SemaphoreSlim _arrived = new(1);
    private readonly Recent _recent = new();
    private readonly Task _writer;
    private long _received;
    private long _scrubFrom; // used by the writer's task only: the deletion of this message, or of a later one, scrubs the file; MaxValue for none

    /// <exception cref="StoreException">The file can't be opened or written.</exception>
    public SqliteFeedbackQueue(string path)
    {
        _path = path;
        _connection = Database.Open(path, "FULL", Schema, CheckpointPages);
        _reading = Database.Open(path, "FULL", Schema, CheckpointPages);
        _insert = Database.Prepare(_connection, "INSERT INTO messages (body) VALUES ($body)", "$body");
        _delete = Database.Prepare(_connection, "DELETE FROM messages WHERE seq = $seq", "$seq");
        _selectReceived = Database.Prepare(_connection, "SELECT seq, body FROM messages WHERE seq <= $received", "$received");
        _select = Database.Prepare(_reading, "SELECT seq, body FROM messages WHERE seq > $after ORDER BY seq LIMIT $most", "$after", "$most");
        // What lies here from before a crash may be of somebody who was erased.
        _scrubFrom = Database.Guard(path, Newest) ?? long.MaxValue;
        _writer = Task.Run(WriteAsync);
    }

    public bool IsShared => false;

    // Letting go of messages needs a flush of the state, which costs a sync; keeping them costs their space.
    public int MostUncompleted => 4096;

    public async ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        await EnqueueAsync(new Work([.. messages.Select(message => (message, message.Serialize()))], []));
    }

    public async ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation) =>
        await EnqueueAsync(new Work([], [.. messages.Select(Sequence)]));

    public async ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation) => await EnqueueAsync(new Work([], []) { Erased = (user, at) });

    public async ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation)
    {
        while (true)
        {
            // Or after a second: replicas are processes of their own and write into the same file.
            await _arrived.WaitAsync(LongestWait, cancellation);
            List<ReceivedFeedback> received;
            try
            {
                received = _recent.Take(_received, most) is { Count: > 0 } handed ? handed : Read(most);
                if (received.Count > 0) Volatile.Write(ref _received, Sequence(received[^1]));
            }
            catch (StoreException)
            {
                // Whoever comes back finds what is behind it.
                Signal();
                throw;
            }
            if (received.Count == 0) continue;
            // There may be more than was asked for; and a signal too many costs one look.
            Signal();
            return received;
        }
    }

    /// <summary>Writes what was sent so far and closes the file.</summary>
    public async ValueTask DisposeAsync()
    {
        _work.Writer.TryComplete();
        await _writer;
        foreach (var item in new IDisposable[] { _insert, _delete, _select, _selectReceived, _connection, _reading }) item.Dispose();
    }

    private List<ReceivedFeedback> Read(int most) => Database.Guard(_path, () =>
    {
        var received = new List<ReceivedFeedback>();
        using var reader = _select.Bind(_received, most).ExecuteReader();
        while (reader.Read())
        {
            received.Add(Received(reader.GetInt64(0), FeedbackMessage.Read(reader.GetFieldValue<byte[]>(1))));
        }
        return received;
    });

    private static ReceivedFeedback Received(long sequence, FeedbackMessage message) => new(sequence.ToString(CultureInfo.InvariantCulture), message);

    private static long Sequence(ReceivedFeedback received) => long.Parse(received.Receipt, CultureInfo.InvariantCulture);

    private void Signal()
    {
        // Zero or one: the receiver reads whatever there is.
        if (_arrived.CurrentCount == 0) _arrived.Release();
    }

    private async Task EnqueueAsync(Work work)
    {
        if (!_work.Writer.TryWrite(work)) throw new StoreException("the queue is closed: the server is stopping");
        await work.Done.Task;
    }

    private async Task WriteAsync()
    {
        var batch = new List<Work>();
        while (await _work.Reader.WaitToReadAsync())
        {
            batch.Clear();
            var size = 0;
            while (size < MostPerCommit && _work.Reader.TryRead(out var work))
            {
                batch.Add(work);
                size += work.Sent.Length + work.Completed.Length;
            }
            try
            {
                Commit(batch);
                Signal();
                foreach (var work in batch.Where(work => work.Erased is null)) work.Done.TrySetResult();
                if (batch.Exists(work => work.Erased is not null)) Scrub(isLast: false);
                else if (batch.Exists(work => work.Completed.Any(receipt => receipt >= _scrubFrom))) Scrub(isLast: true);
                foreach (var work in batch) work.Done.TrySetResult();
            }
            catch (Exception e)
            {
                // Whatever it was, those who wait are told and the writer goes on: a writer that ends would leave everybody waiting.
                foreach (var work in batch) work.Done.TrySetException(e);
            }
        }
    }

    private void Commit(List<Work> batch)
    {
        var sent = new List<(long Sequence, FeedbackMessage Message)>();
        Database.Guard(_path, () => Database.InTransaction(_connection, () =>
        {
            foreach (var work in batch)
            {
                foreach (var (message, body) in work.Sent)
                {
                    _insert.Bind(body).ExecuteNonQuery();
                    sent.Add((SQLitePCL.raw.sqlite3_last_insert_rowid(_connection.Handle), message));
                }
                foreach (var receipt in work.Completed) _delete.Bind(receipt).ExecuteNonQuery();
                if (work.Erased is { } erased) Erase(erased.User, erased.At);
            }
            return true;
        }));
        _recent.Add(sent);
    }

    /// <summary>What was received the learner has, or has learnt: these messages wait for others only, to be completed together.</summary>
    private void Erase(UserKey user, DateTimeOffset at)
    {
        _scrubFrom = Newest() ?? 0;
        var erased = new List<long>();
        using (var reader = _selectReceived.Bind(Volatile.Read(ref _received)).ExecuteReader())
        {
            while (reader.Read())
            {
                var message = FeedbackMessage.Read(reader.GetFieldValue<byte[]>(1));
                // As the learner has it: of what was ranked it counts when it was said.
                if (new UserKey(message.Tenant, message.App, message.User) == user && (message.Rank is null ? message.Since : message.At) <= at) erased.Add(reader.GetInt64(0));
            }
        }
        foreach (var sequence in erased) _delete.Bind(sequence).ExecuteNonQuery();
    }

    private long? Newest()
    {
        using var command = _connection.CreateCommand();
        command.CommandText = "SELECT max(seq) FROM messages";
        return command.ExecuteScalar() as long?;
    }

    /// <summary>
    /// Writes the file anew, without what was deleted before, and empties its log; ordinary work leaves the bytes of what it deletes where they were. After an erasure it is done once more, by the deletion of the messages that
    /// were on their way then and not received: the user's may be among them. A log that a reader keeps from being emptied holds the bytes until that deletion, or the one after.
    /// </summary>
    private void Scrub(bool isLast) => Database.Guard(_path, () =>
    {
        Database.Execute(_connection, "VACUUM");
        if (Database.TryCutOffLog(_connection) && isLast) _scrubFrom = long.MaxValue;
        return true;
    });

    private sealed record Work((FeedbackMessage Message, byte[] Body)[] Sent, long[] Completed)
    {
        public (UserKey User, DateTimeOffset At)? Erased { get; init; }

        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    /// <summary>The last messages that were sent, for a reader who has read everything before them. The file has them all, so any may be forgotten.</summary>
    private sealed class Recent
    {
        private readonly Queue<(long Sequence, FeedbackMessage Message)> _messages = new();

        public void Add(List<(long, FeedbackMessage)> sent)
        {
            lock (_messages)
            {
                foreach (var one in sent) _messages.Enqueue(one);
                while (_messages.Count > MostPerCommit) _messages.Dequeue();
            }
        }

        /// <returns>What follows <paramref name="received"/> without a gap; empty when the next one is not at hand: another process may have sent it.</returns>
        public List<ReceivedFeedback> Take(long received, int most)
        {
            var taken = new List<ReceivedFeedback>();
            lock (_messages)
            {
                while (_messages.TryPeek(out var next) && next.Sequence <= received + 1 && taken.Count < most)
                {
                    _messages.Dequeue();
                    if (next.Sequence <= received) continue;
                    taken.Add(Received(next.Sequence, next.Message));
                    received = next.Sequence;
                }
            }
            return taken;
        }
    }
}
