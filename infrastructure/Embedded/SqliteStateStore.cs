using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Data.Sqlite;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Embedded;

/// <summary>
/// Heads and accepted feedback in one SQLite file, <c>synchronous=NORMAL</c>: a commit outlives the process, and what a loss of power undoes is still in the queue, which lets go
/// only after <see cref="FlushAsync"/>. The weights stand apart from the covariance, so a prediction reads a few pages only.
/// </summary>
public sealed partial class SqliteStateStore : IStateStore, IDisposable
{
    private const string Schema = """
        CREATE TABLE IF NOT EXISTS heads (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL,
            tag INTEGER NOT NULL, features_version INTEGER NOT NULL, prior_version INTEGER NOT NULL, updates INTEGER NOT NULL, offset REAL NOT NULL, weights BLOB NOT NULL,
            PRIMARY KEY (tenant, app, user)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS covariances (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, covariance BLOB NOT NULL, memory BLOB,
            PRIMARY KEY (tenant, app, user));
        CREATE TABLE IF NOT EXISTS policies (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, policy BLOB NOT NULL,
            PRIMARY KEY (tenant, app, user)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS feedback (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, id_hash BLOB NOT NULL,
            learnt INTEGER NOT NULL, note TEXT, body BLOB NOT NULL, committed INTEGER NOT NULL DEFAULT 0);
        CREATE UNIQUE INDEX IF NOT EXISTS feedback_once ON feedback (tenant, app, id_hash);
        CREATE INDEX IF NOT EXISTS feedback_of_user ON feedback (tenant, app, user, seq);
        CREATE TABLE IF NOT EXISTS erasures (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, at INTEGER NOT NULL, version INTEGER NOT NULL,
            PRIMARY KEY (tenant, app, user)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS log_keys (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, key BLOB NOT NULL,
            PRIMARY KEY (tenant, app, user)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS replays (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, upto INTEGER NOT NULL,
            PRIMARY KEY (tenant, app, user)) WITHOUT ROWID;
        """;

    // 16 MiB: what many users' commits touch is scattered over the file, and a checkpoint costs two syncs however much it copies.
    private const int CheckpointPages = 4000;

    private readonly string _path;
    private readonly string _synchronous;
    private readonly TimeProvider _time;
    private readonly Connection _writer;
    private readonly SemaphoreSlim _writing = new(1);
    private readonly KeptUsers _kept = new(); // used by who holds the writer only
    private readonly ConcurrentBag<Connection> _readers = [];
    private bool _logHoldsErased = true; // used by who holds the writer only; at the start nobody knows what a process that crashed has left

    /// <param name="synchronous"><c>NORMAL</c>, or <c>FULL</c> for commits that outlive a loss of power by themselves, at the price of a sync each.</param>
    /// <exception cref="StoreException">The file can't be opened or written.</exception>
    public SqliteStateStore(string path, string synchronous = "NORMAL", TimeProvider? time = null)
    {
        _path = path;
        _synchronous = synchronous;
        _time = time ?? TimeProvider.System;
        _writer = new Connection(path, synchronous);
    }

    public int MostPerCommit => int.MaxValue;

    public double SpentUsd => 0;

    public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation) =>
        ValueTask.FromResult(new WeightsRead(WithReader(connection => connection.ReadWeights(user)), CostUsd: 0));

    public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation) => ValueTask.FromResult(WithReader(
        connection => connection.ReadTag(user) == knownTag ? new WeightsRead(null, CostUsd: 0, IsUnchanged: true) : new WeightsRead(connection.ReadWeights(user), CostUsd: 0)));

    // What a learner asks before it commits is asked of the connection that commits: every other one has to read its pages anew after each commit.
    public ValueTask<UserRead> ReadUserAsync(UserKey user, CancellationToken cancellation) => WithWriterAsync(() => _kept.Find(user, _writer.DataVersion) ?? _kept.Add(user, _writer.ReadUser(user)), cancellation);

    public ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation) => WithWriterAsync(() =>
    {
        var found = new HashSet<string>();
        foreach (var id in feedbackIds)
        {
            if (_writer.IsAccepted.Bind(tenant, app, HashOf(id)).ExecuteScalar() is not null) found.Add(id);
        }
        return (IReadOnlySet<string>)found;
    }, cancellation);

    public ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation) => WithWriterAsync(
        () =>
        {
            // One transaction holds many users' commits; a user who lost a race is taken back alone.
            var done = Database.InTransaction(_writer.Sqlite, () => commits.Select(commit => _writer.TryCommit(commit, _time.GetUtcNow())).ToArray());
            for (var i = 0; i < done.Length; i++) _kept.Commit(commits[i], done[i]);
            return (IReadOnlyList<bool>)done;
        }, cancellation);

    public async ValueTask FlushAsync(CancellationToken cancellation) => await WithWriterAsync(() =>
    {
        // A checkpoint syncs the log before it copies from it, so every commit before it is then on the disk.
        // FULL: a passive one that a reader keeps from copying anything syncs nothing either, and says so in its answer alone.
        using var command = _writer.Sqlite.CreateCommand();
        command.CommandText = "PRAGMA wal_checkpoint(FULL)";
        if (Convert.ToInt64(command.ExecuteScalar(), CultureInfo.InvariantCulture) != 0) throw new StoreException($"the database {_path} is busy: not flushed");
        CutOffLog();
        return true;
    }, cancellation);

    public void Dispose()
    {
        _writer.Dispose();
        while (_readers.TryTake(out var reader)) reader.Dispose();
    }

    /// <summary>For what changes users in another way than by committing them.</summary>
    private ValueTask<T> ChangeAsync<T>(Func<T> change, CancellationToken cancellation) => WithWriterAsync(() =>
    {
        _kept.Clear();
        return change();
    }, cancellation);

    private async ValueTask<T> WithWriterAsync<T>(Func<T> action, CancellationToken cancellation)
    {
        await _writing.WaitAsync(cancellation);
        try
        {
            return Database.Guard(_path, action);
        }
        finally
        {
            _writing.Release();
        }
    }

    private T WithReader<T>(Func<Connection, T> read) => Database.Guard(_path, () =>
    {
        // A connection serves one thread at a time.
        if (!_readers.TryTake(out var reader)) reader = new Connection(_path, _synchronous);
        try
        {
            return read(reader);
        }
        finally
        {
            _readers.Add(reader);
        }
    });

    /// <summary>128 bits of an id: ids may be long, and an index of hashes stays small.</summary>
    private static byte[] HashOf(string feedbackId) => SHA256.HashData(Encoding.UTF8.GetBytes(feedbackId))[..16];

    private static byte[] ToBytes(float[] values) => MemoryMarshal.AsBytes<float>(values).ToArray();

    private static float[] ToFloats(byte[] bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();

    private static long TagAfter(UserCommit commit) => commit.ExpectedTag is { } tag ? long.Parse(tag, CultureInfo.InvariantCulture) + 1 : (commit.Erasure?.Version ?? 0) + 1;

    /// <summary>The users whom a learner has asked for of late, as its last commit left them: whoever sends much would otherwise be read and parsed again for every click.</summary>
    private sealed class KeptUsers
    {
        private const int MostBytes = 16 << 20;

        private readonly Dictionary<UserKey, UserRead> _users = [];
        private long _version;
        private int _bytes;

        /// <param name="version">Of the database: what others have changed is not known here.</param>
        public UserRead? Find(UserKey user, long version)
        {
            if (version != _version) Clear();
            _version = version;
            return _users.GetValueOrDefault(user);
        }

        public UserRead Add(UserKey user, UserRead read)
        {
            if (_bytes + SizeOf(read) > MostBytes) Clear();
            _bytes += SizeOf(read);
            return _users[user] = read;
        }

        /// <summary>What was committed is what is now kept; what was not, somebody else has changed.</summary>
        public void Commit(UserCommit commit, bool isDone)
        {
            if (!_users.Remove(commit.User, out var before)) return;
            _bytes -= SizeOf(before);
            if (!isDone) return;
            var head = commit.Head is not { } changed ? before.Head : changed with
            {
                Weights = changed.Weights with { Tag = TagAfter(commit).ToString(CultureInfo.InvariantCulture), Policy = changed.Weights.Policy ?? before.Head?.Weights.Policy },
            };
            Add(commit.User, before with { Head = head, Replayed = commit.Replayed ?? before.Replayed });
        }

        public void Clear()
        {
            _users.Clear();
            _bytes = 0;
        }

        private static int SizeOf(UserRead read) =>
            256 + (read.Head is { } head ? sizeof(float) * (head.Weights.Weights.Length + head.Covariance.Length) + head.Memory.Length + (head.Weights.Policy?.Length ?? 0) : 0);
    }

    /// <summary>A connection and its prepared commands.</summary>
    private sealed partial class Connection : IDisposable
    {
        private readonly SqliteCommand _selectWeights;
        private readonly SqliteCommand _selectTag;
        private readonly SqliteCommand _selectCovariance;
        private readonly SqliteCommand _insertHead;
        private readonly SqliteCommand _updateHead;
        private readonly SqliteCommand _putCovariance;
        private readonly SqliteCommand _putPolicy;
        private readonly SqliteCommand _insertFeedback;
        private readonly SqliteCommand _takeOut;
        private readonly SqliteCommand _selectErasure;
        private readonly SqliteCommand _selectReplayed;
        private readonly SqliteCommand _dataVersion;
        private readonly SqliteCommand _savepoint;
        private readonly SqliteCommand _release;

        public Connection(string path, string synchronous)
        {
            Sqlite = Database.Open(path, synchronous, Schema + EventSchema + ReplicaSchema, CheckpointPages);
            Database.AddColumn(Sqlite, "covariances", "memory BLOB");
            Database.AddColumn(Sqlite, "events", "who TEXT");
            Database.AddColumn(Sqlite, "feedback", "committed INTEGER NOT NULL DEFAULT 0");
            const string key = "tenant = $tenant AND app = $app AND user = $user";
            _selectWeights = Database.Prepare(Sqlite,
                $"SELECT tag, features_version, prior_version, updates, offset, weights, policy FROM heads LEFT JOIN policies USING (tenant, app, user) WHERE {key}", "$tenant", "$app", "$user");
            _selectTag = Database.Prepare(Sqlite, $"SELECT tag FROM heads WHERE {key}", "$tenant", "$app", "$user");
            _selectCovariance = Database.Prepare(Sqlite, $"SELECT covariance, memory FROM covariances WHERE {key}", "$tenant", "$app", "$user");
            _insertHead = Database.Prepare(Sqlite,
                "INSERT INTO heads VALUES ($tenant, $app, $user, $tag, $features, $prior, $updates, $offset, $weights) ON CONFLICT DO NOTHING",
                "$tenant", "$app", "$user", "$tag", "$features", "$prior", "$updates", "$offset", "$weights");
            _updateHead = Database.Prepare(Sqlite,
                $"UPDATE heads SET tag = tag + 1, features_version = $features, prior_version = $prior, updates = $updates, offset = $offset, weights = $weights WHERE {key} AND tag = $tag",
                "$tenant", "$app", "$user", "$features", "$prior", "$updates", "$offset", "$weights", "$tag");
            _putCovariance = Database.Prepare(Sqlite,
                "INSERT INTO covariances (tenant, app, user, covariance, memory) VALUES ($tenant, $app, $user, $covariance, $memory) ON CONFLICT (tenant, app, user) DO UPDATE SET covariance = excluded.covariance, memory = excluded.memory",
                "$tenant", "$app", "$user", "$covariance", "$memory");
            _putPolicy = Database.Prepare(Sqlite,
                "INSERT INTO policies VALUES ($tenant, $app, $user, $policy) ON CONFLICT (tenant, app, user) DO UPDATE SET policy = excluded.policy",
                "$tenant", "$app", "$user", "$policy");
            _insertFeedback = Database.Prepare(Sqlite,
                "INSERT INTO feedback (tenant, app, user, id_hash, learnt, note, body, committed) VALUES ($tenant, $app, $user, $hash, $learnt, $note, $body, $committed) ON CONFLICT DO NOTHING",
                "$tenant", "$app", "$user", "$hash", "$learnt", "$note", "$body", "$committed");
            _takeOut = Database.Prepare(Sqlite, $"DELETE FROM feedback WHERE {key} AND id_hash = $hash AND learnt = 0", "$tenant", "$app", "$user", "$hash");
            _selectErasure = Database.Prepare(Sqlite, "SELECT at, version FROM erasures WHERE tenant = $tenant AND app = $app AND user IN ($hash, $user)", "$tenant", "$app", "$hash", "$user");
            _selectReplayed = Database.Prepare(Sqlite, $"SELECT upto FROM replays WHERE {key}", "$tenant", "$app", "$user");
            _dataVersion = Database.Prepare(Sqlite, "PRAGMA data_version");
            _savepoint = Database.Prepare(Sqlite, "SAVEPOINT one_user");
            _release = Database.Prepare(Sqlite, "RELEASE one_user");
            IsAccepted = Database.Prepare(Sqlite, "SELECT 1 FROM feedback WHERE tenant = $tenant AND app = $app AND id_hash = $hash", "$tenant", "$app", "$hash");
        }

        public SqliteConnection Sqlite { get; }
        public SqliteCommand IsAccepted { get; }

        /// <summary>Changes when another connection commits, of this process or of another.</summary>
        public long DataVersion => (long)_dataVersion.ExecuteScalar()!;

        public HeadWeights? ReadWeights(UserKey user)
        {
            using var reader = _selectWeights.Bind(user.Tenant, user.App, user.User).ExecuteReader();
            return !reader.Read() ? null : new HeadWeights
            {
                Tag = reader.GetInt64(0).ToString(CultureInfo.InvariantCulture),
                FeaturesVersion = reader.GetInt32(1),
                PriorVersion = reader.GetInt32(2),
                Updates = reader.GetInt64(3),
                Offset = reader.GetDouble(4),
                Weights = ToFloats(reader.GetFieldValue<byte[]>(5)),
                Policy = reader.IsDBNull(6) ? null : reader.GetFieldValue<byte[]>(6),
            };
        }

        public string? ReadTag(UserKey user) => _selectTag.Bind(user.Tenant, user.App, user.User).ExecuteScalar() is long tag ? tag.ToString(CultureInfo.InvariantCulture) : null;

        public UserRead ReadUser(UserKey user)
        {
            // All reads see one moment.
            Database.Execute(Sqlite, "BEGIN");
            try
            {
                var erasure = ReadErasure(user);
                var replayed = ReadReplayed(user);
                if (ReadWeights(user) is not { } weights) return new UserRead(null, erasure) { Replayed = replayed };
                if (weights.Weights.Length == 0) return new UserRead(new HeadState(weights, []), erasure) { Replayed = replayed };
                using var reader = _selectCovariance.Bind(user.Tenant, user.App, user.User).ExecuteReader();
                if (!reader.Read()) throw new StoreException("a head without its covariance: the state database is damaged");
                var head = new HeadState(weights, ToFloats(reader.GetFieldValue<byte[]>(0))) { Memory = reader.IsDBNull(1) ? [] : reader.GetFieldValue<byte[]>(1) };
                return new UserRead(head, erasure) { Replayed = replayed };
            }
            finally
            {
                Database.Execute(Sqlite, "COMMIT");
            }
        }

        public bool TryCommit(UserCommit commit, DateTimeOffset now)
        {
            _savepoint.ExecuteNonQuery();
            // A head that is changed has its tag, which no erasure leaves standing.
            var written = (commit is { Head: not null, ExpectedTag: not null } || ReadErasure(commit.User) == commit.Erasure) && TryWriteHead(commit)
                && commit.Accepted.All(accepted => (!commit.IsRelease || TryTakeOut(commit.User, accepted)) && TryWriteFeedback(commit.User, accepted, now))
                && commit.Events.All(change => TryWriteEvent(commit.User, change));
            if (written && commit.Replayed is { } upto) WriteReplayed(commit.User, upto);
            if (!written) Database.Execute(Sqlite, "ROLLBACK TO one_user");
            _release.ExecuteNonQuery();
            return written;
        }

        public void Dispose()
        {
            DisposeEvents();
            foreach (var command in new[] { _selectWeights, _selectTag, _selectCovariance, _insertHead, _updateHead, _putCovariance, _putPolicy, _insertFeedback, _takeOut, _selectErasure, _selectReplayed, _dataVersion, _savepoint, _release, IsAccepted }) command.Dispose();
            Sqlite.Dispose();
        }

        private bool TryWriteHead(UserCommit commit)
        {
            if (commit.Head is not { } head) return true;
            var (tenant, app, user) = commit.User;
            var weights = head.Weights;
            var written = commit.ExpectedTag is null
                ? _insertHead.Bind(tenant, app, user, TagAfter(commit), weights.FeaturesVersion, weights.PriorVersion, weights.Updates, weights.Offset, ToBytes(weights.Weights)).ExecuteNonQuery()
                : _updateHead.Bind(tenant, app, user, weights.FeaturesVersion, weights.PriorVersion, weights.Updates, weights.Offset, ToBytes(weights.Weights),
                    long.Parse(commit.ExpectedTag, CultureInfo.InvariantCulture)).ExecuteNonQuery();
            if (written == 0) return false;
            if (head.Covariance.Length > 0) _putCovariance.Bind(tenant, app, user, ToBytes(head.Covariance), head.Memory).ExecuteNonQuery();
            if (weights.Policy is { } policy) _putPolicy.Bind(tenant, app, user, policy).ExecuteNonQuery();
            return true;
        }

        /// <summary>Out of quarantine: its row comes again at the end of the order.</summary>
        private bool TryTakeOut(UserKey user, AcceptedFeedback accepted) => _takeOut.Bind(user.Tenant, user.App, user.User, HashOf(accepted.Message.FeedbackId)).ExecuteNonQuery() == 1;

        private bool TryWriteFeedback(UserKey user, AcceptedFeedback accepted, DateTimeOffset now) => _insertFeedback.Bind(
            user.Tenant, user.App, user.User, HashOf(accepted.Message.FeedbackId), accepted.Learnt ? 1 : 0, accepted.Note, accepted.Message.Serialize(), now.ToUnixTimeMilliseconds()).ExecuteNonQuery() == 1;

        /// <summary>By the hash of a name, so that not even the name stays; earlier versions kept it.</summary>
        private Erasure? ReadErasure(UserKey user)
        {
            using var reader = _selectErasure.Bind(user.Tenant, user.App, HashOf(user.User), user.User).ExecuteReader();
            return reader.Read() ? new Erasure(DateTimeOffset.FromUnixTimeMilliseconds(reader.GetInt64(0)), reader.GetInt64(1)) : null;
        }
    }
}
