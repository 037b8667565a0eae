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
public sealed class SqliteStateStore : IStateStore, IDisposable
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
            learnt INTEGER NOT NULL, note TEXT, body BLOB NOT NULL);
        CREATE UNIQUE INDEX IF NOT EXISTS feedback_once ON feedback (tenant, app, id_hash);
        CREATE INDEX IF NOT EXISTS feedback_of_user ON feedback (tenant, app, user, seq);
        """;

    private readonly string _path;
    private readonly string _synchronous;
    private readonly Connection _writer;
    private readonly SemaphoreSlim _writing = new(1);
    private readonly ConcurrentBag<Connection> _readers = [];

    /// <param name="synchronous"><c>NORMAL</c>, or <c>FULL</c> for commits that outlive a loss of power by themselves, at the price of a sync each.</param>
    /// <exception cref="StoreException">The file can't be opened or written.</exception>
    public SqliteStateStore(string path, string synchronous = "NORMAL")
    {
        _path = path;
        _synchronous = synchronous;
        _writer = new Connection(path, synchronous);
    }

    public int MostPerCommit => int.MaxValue;

    public double SpentUsd => 0;

    public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation) =>
        ValueTask.FromResult(new WeightsRead(WithReader(connection => connection.ReadWeights(user)), CostUsd: 0));

    public ValueTask<HeadState?> ReadHeadAsync(UserKey user, CancellationToken cancellation) =>
        ValueTask.FromResult(WithReader(connection => connection.ReadHead(user)));

    public ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation) =>
        ValueTask.FromResult(WithReader(connection =>
        {
            var found = new HashSet<string>();
            foreach (var id in feedbackIds)
            {
                if (connection.IsAccepted.Bind(tenant, app, HashOf(id)).ExecuteScalar() is not null) found.Add(id);
            }
            return (IReadOnlySet<string>)found;
        }));

    public async ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation)
    {
        await _writing.WaitAsync(cancellation);
        try
        {
            return Database.Guard(_path, () =>
            {
                // One transaction holds many users' commits; a user who lost a race is taken back alone.
                return Database.InTransaction(_writer.Sqlite, () => commits.Select(_writer.TryCommit).ToArray());
            });
        }
        finally
        {
            _writing.Release();
        }
    }

    public async ValueTask FlushAsync(CancellationToken cancellation)
    {
        await _writing.WaitAsync(cancellation);
        try
        {
            // A checkpoint syncs the log before it copies from it, so every commit before it is then on the disk.
            Database.Guard(_path, () =>
            {
                // FULL: a passive one that a reader keeps from copying anything syncs nothing either, and says so in its answer alone.
                using var command = _writer.Sqlite.CreateCommand();
                command.CommandText = "PRAGMA wal_checkpoint(FULL)";
                return Convert.ToInt64(command.ExecuteScalar(), CultureInfo.InvariantCulture) == 0 ? true : throw new StoreException($"the database {_path} is busy: not flushed");
            });
        }
        finally
        {
            _writing.Release();
        }
    }

    public void Dispose()
    {
        _writer.Dispose();
        while (_readers.TryTake(out var reader)) reader.Dispose();
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

    /// <summary>128 bits of the id: ids may be long, and an index of hashes stays small.</summary>
    private static byte[] HashOf(string feedbackId) => SHA256.HashData(Encoding.UTF8.GetBytes(feedbackId))[..16];

    private static byte[] ToBytes(float[] values) => MemoryMarshal.AsBytes<float>(values).ToArray();

    private static float[] ToFloats(byte[] bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();

    /// <summary>A connection and its prepared commands.</summary>
    private sealed class Connection : IDisposable
    {
        private readonly SqliteCommand _selectWeights;
        private readonly SqliteCommand _selectCovariance;
        private readonly SqliteCommand _insertHead;
        private readonly SqliteCommand _updateHead;
        private readonly SqliteCommand _putCovariance;
        private readonly SqliteCommand _putPolicy;
        private readonly SqliteCommand _insertFeedback;

        public Connection(string path, string synchronous)
        {
            Sqlite = Database.Open(path, synchronous, Schema);
            Database.AddColumn(Sqlite, "covariances", "memory BLOB");
            const string key = "tenant = $tenant AND app = $app AND user = $user";
            _selectWeights = Database.Prepare(Sqlite,
                $"SELECT tag, features_version, prior_version, updates, offset, weights, policy FROM heads LEFT JOIN policies USING (tenant, app, user) WHERE {key}", "$tenant", "$app", "$user");
            _selectCovariance = Database.Prepare(Sqlite, $"SELECT covariance, memory FROM covariances WHERE {key}", "$tenant", "$app", "$user");
            _insertHead = Database.Prepare(Sqlite,
                "INSERT INTO heads VALUES ($tenant, $app, $user, 1, $features, $prior, $updates, $offset, $weights) ON CONFLICT DO NOTHING",
                "$tenant", "$app", "$user", "$features", "$prior", "$updates", "$offset", "$weights");
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
                "INSERT INTO feedback (tenant, app, user, id_hash, learnt, note, body) VALUES ($tenant, $app, $user, $hash, $learnt, $note, $body) ON CONFLICT DO NOTHING",
                "$tenant", "$app", "$user", "$hash", "$learnt", "$note", "$body");
            IsAccepted = Database.Prepare(Sqlite, "SELECT 1 FROM feedback WHERE tenant = $tenant AND app = $app AND id_hash = $hash", "$tenant", "$app", "$hash");
        }

        public SqliteConnection Sqlite { get; }
        public SqliteCommand IsAccepted { get; }

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

        public HeadState? ReadHead(UserKey user)
        {
            // Both reads see one moment.
            Database.Execute(Sqlite, "BEGIN");
            try
            {
                if (ReadWeights(user) is not { } weights) return null;
                if (weights.Weights.Length == 0) return new HeadState(weights, []);
                using var reader = _selectCovariance.Bind(user.Tenant, user.App, user.User).ExecuteReader();
                if (!reader.Read()) throw new StoreException("a head without its covariance: the state database is damaged");
                return new HeadState(weights, ToFloats(reader.GetFieldValue<byte[]>(0))) { Memory = reader.IsDBNull(1) ? [] : reader.GetFieldValue<byte[]>(1) };
            }
            finally
            {
                Database.Execute(Sqlite, "COMMIT");
            }
        }

        public bool TryCommit(UserCommit commit)
        {
            Database.Execute(Sqlite, "SAVEPOINT one_user");
            var written = TryWriteHead(commit) && commit.Accepted.All(accepted => TryWriteFeedback(commit.User, accepted));
            if (!written) Database.Execute(Sqlite, "ROLLBACK TO one_user");
            Database.Execute(Sqlite, "RELEASE one_user");
            return written;
        }

        public void Dispose()
        {
            foreach (var command in new[] { _selectWeights, _selectCovariance, _insertHead, _updateHead, _putCovariance, _putPolicy, _insertFeedback, IsAccepted }) command.Dispose();
            Sqlite.Dispose();
        }

        private bool TryWriteHead(UserCommit commit)
        {
            if (commit.Head is not { } head) return true;
            var (tenant, app, user) = commit.User;
            var weights = head.Weights;
            var written = commit.ExpectedTag is null
                ? _insertHead.Bind(tenant, app, user, weights.FeaturesVersion, weights.PriorVersion, weights.Updates, weights.Offset, ToBytes(weights.Weights)).ExecuteNonQuery()
                : _updateHead.Bind(tenant, app, user, weights.FeaturesVersion, weights.PriorVersion, weights.Updates, weights.Offset, ToBytes(weights.Weights),
                    long.Parse(commit.ExpectedTag, CultureInfo.InvariantCulture)).ExecuteNonQuery();
            if (written == 0) return false;
            if (head.Covariance.Length > 0) _putCovariance.Bind(tenant, app, user, ToBytes(head.Covariance), head.Memory).ExecuteNonQuery();
            if (weights.Policy is { } policy) _putPolicy.Bind(tenant, app, user, policy).ExecuteNonQuery();
            return true;
        }

        private bool TryWriteFeedback(UserKey user, AcceptedFeedback accepted) => _insertFeedback.Bind(
            user.Tenant, user.App, user.User, HashOf(accepted.Message.FeedbackId), accepted.Learnt ? 1 : 0, accepted.Note, accepted.Message.Serialize()).ExecuteNonQuery() == 1;
    }
}
