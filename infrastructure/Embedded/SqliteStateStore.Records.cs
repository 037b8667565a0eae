using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using Skiff.Feedback;
using Skiff.Personalization;

namespace Skiff.Embedded;

public sealed partial class SqliteStateStore
{
    private const int PageSize = 1000;
    private const string OfUser = "tenant = $tenant AND app = $app AND user = $user";

    /// <summary>How long an erasure is remembered: longer than any message may still be on its way.</summary>
    private static readonly TimeSpan ErasureHorizon = TimeSpan.FromDays(60);

    public async IAsyncEnumerable<KeptFeedback> ReadFeedbackAsync(FeedbackQuery query, [EnumeratorCancellation] CancellationToken cancellation)
    {
        // By pages, each a transaction of its own: a long look must not keep the log from being written back.
        var after = 0L;
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            var page = WithReader(connection => connection.ReadFeedback(query, after));
            foreach (var kept in page) yield return kept;
            if (page.Count < PageSize) yield break;
            after = page[^1].Order;
            await Task.Yield();
        }
    }

    public async IAsyncEnumerable<string> ReadUsersAsync(string tenant, string app, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var after = "";
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            var page = WithReader(connection => connection.Select("SELECT user FROM heads WHERE tenant = $tenant AND app = $app AND user > $after ORDER BY user LIMIT $most",
                reader => reader.GetString(0), ("$tenant", tenant), ("$app", app), ("$after", after), ("$most", PageSize)));
            foreach (var user in page) yield return user;
            if (page.Count < PageSize) yield break;
            after = page[^1];
            await Task.Yield();
        }
    }

    /// <summary>Up to here an erasure writes the file anew, in well under a second; beyond, who learns would wait for too long.</summary>
    private const long MostRewritten = 32 << 20;

    public async ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation) => await ChangeAsync(() =>
    {
        // What is deleted is overwritten with zeros, and the deletion outlives a loss of power by itself. What stood elsewhere in the file before (rows that were purged or moved, pages that were split) goes by
        // writing it anew, where that is quick; in a larger one, traces of it stay in free space until that is used again. The log's file still has what was there before, and is emptied. Where a reader keeps it from
        // that (ours read a page at a time; a backup, say, or a shell may take long) the user is erased all the same, and the next flush or erasure tries again: until then the user's bytes stay in the log.
        Database.Execute(_writer.Sqlite, "PRAGMA secure_delete = ON; PRAGMA synchronous = FULL");
        try
        {
            var erased = Database.InTransaction(_writer.Sqlite, () => _writer.Erase(user, at, ErasureHorizon));
            _logHoldsErased = true;
            if (_writer.Select("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", reader => reader.GetInt64(0))[0] <= MostRewritten) Database.Execute(_writer.Sqlite, "VACUUM");
            CutOffLog();
            return erased;
        }
        finally
        {
            Database.Execute(_writer.Sqlite, $"PRAGMA secure_delete = OFF; PRAGMA synchronous = {_synchronous}");
        }
    }, cancellation);

    private void CutOffLog()
    {
        if (_logHoldsErased) _logHoldsErased = !Database.TryCutOffLog(_writer.Sqlite);
    }

    public async ValueTask PurgeAsync(string tenant, string app, DateTimeOffset before, CancellationToken cancellation) => await ChangeAsync(
        () => Database.InTransaction(_writer.Sqlite, () => _writer.Execute(
            $"DELETE FROM feedback WHERE tenant = $tenant AND app = $app AND committed < $before AND NOT (learnt = 0 AND coalesce(note, '') LIKE '{AcceptedFeedback.Quarantine}%')",
            ("$tenant", tenant), ("$app", app), ("$before", before.ToUnixTimeMilliseconds()))), cancellation);

    public async ValueTask<IReadOnlyDictionary<string, byte[]>> LogKeysAsync(string tenant, string app, IReadOnlyCollection<string>? users, bool create, CancellationToken cancellation)
    {
        if (create && users is not null)
        {
            await ChangeAsync(() => Database.InTransaction(_writer.Sqlite, () => users.Sum(user => _writer.Execute(
                "INSERT INTO log_keys VALUES ($tenant, $app, $user, $key) ON CONFLICT DO NOTHING",
                ("$tenant", tenant), ("$app", app), ("$user", user), ("$key", RandomNumberGenerator.GetBytes(32))))), cancellation);
        }
        return WithReader(connection =>
        {
            var keys = new Dictionary<string, byte[]>();
            if (users is null) Add("SELECT user, key FROM log_keys WHERE tenant = $tenant AND app = $app", "");
            else foreach (var user in users) Add($"SELECT user, key FROM log_keys WHERE {OfUser}", user);
            return (IReadOnlyDictionary<string, byte[]>)keys;

            void Add(string sql, string user)
            {
                foreach (var (whose, key) in connection.Select(sql, reader => (reader.GetString(0), reader.GetFieldValue<byte[]>(1)), ("$tenant", tenant), ("$app", app), ("$user", user))) keys[whose] = key;
            }
        });
    }

    public ValueTask<IReadOnlyDictionary<string, DateTimeOffset>> FindErasedAsync(string tenant, string app, IReadOnlyCollection<string> users, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return ValueTask.FromResult(WithReader(connection => connection.FindErased(tenant, app, users)));
    }

    private sealed partial class Connection
    {
        private const string Naming = "json_extract(CAST(body AS TEXT), '$.user') = $naming";

        // A user's by the index; others by their order (a plus keeps SQLite from the index, by which it would sort all that is left for each page).
        public List<KeptFeedback> ReadFeedback(FeedbackQuery query, long after) => Select(
            "SELECT seq, learnt, note, body, committed FROM feedback WHERE "
            + (query.User is null ? "+tenant = $tenant AND +app" : "user = $user AND tenant = $tenant AND app") + " IN (SELECT value FROM json_each($apps)) AND seq > $after AND committed >= $from AND committed < $to" + (query.Naming is null ? "" : $" AND {Naming}") + (query.OnlyQuarantined ? $" AND learnt = 0 AND note LIKE '{AcceptedFeedback.Quarantine}%'" : "") + $" ORDER BY seq LIMIT {PageSize}",
            reader => new KeptFeedback(
                new AcceptedFeedback(FeedbackMessage.Deserialize(reader.GetFieldValue<byte[]>(3)), reader.GetInt64(1) != 0, reader.IsDBNull(2) ? null : reader.GetString(2)),
                reader.GetInt64(0), DateTimeOffset.FromUnixTimeMilliseconds(reader.GetInt64(4))),
            ("$tenant", query.Tenant), ("$apps", JsonSerializer.Serialize(query.Apps)), ("$after", after), ("$from", query.From.ToUnixTimeMilliseconds()), ("$to", query.To.ToUnixTimeMilliseconds()), ("$user", query.User ?? ""), ("$naming", query.Naming ?? ""));

        public int Erase(UserKey user, DateTimeOffset at, TimeSpan horizon)
        {
            ReadOnlySpan<(string, object)> key = [("$tenant", user.Tenant), ("$app", user.App), ("$user", user.User)];
            var version = Math.Max(ReadErasure(user)?.Version ?? 0, ReadWeights(user) is { } weights ? long.Parse(weights.Tag, System.Globalization.CultureInfo.InvariantCulture) : 0);
            var erased = EraseEvents(user);
            foreach (var table in (ReadOnlySpan<string>)["heads", "covariances", "policies", "feedback", "log_keys", "replays", "erasures"]) erased += Execute($"DELETE FROM {table} WHERE {OfUser}", key);
            erased += Execute($"DELETE FROM feedback WHERE tenant = $tenant AND app = $app AND {Naming}", ("$tenant", user.Tenant), ("$app", UserKey.OfShard("", user.App, 0).App), ("$naming", user.User));
            Execute("INSERT OR REPLACE INTO erasures VALUES ($tenant, $app, $hash, $at, $version)", [key[0], key[1], ("$hash", HashOf(user.User)), ("$at", at.ToUnixTimeMilliseconds()), ("$version", version)]);
            Execute("DELETE FROM erasures WHERE at < $old", ("$old", (at - horizon).ToUnixTimeMilliseconds()));
            return erased;
        }

        public IReadOnlyDictionary<string, DateTimeOffset> FindErased(string tenant, string app, IReadOnlyCollection<string> users)
        {
            var erased = new Dictionary<string, DateTimeOffset>();
            foreach (var user in users)
            {
                if (ReadErasure(new UserKey(tenant, app, user)) is { } erasure) erased[user] = erasure.At;
            }
            return erased;
        }

        private long ReadReplayed(UserKey user) => (long?)_selectReplayed.Bind(user.Tenant, user.App, user.User).ExecuteScalar() ?? 0;

        private void WriteReplayed(UserKey user, long upto) => Execute(
            "INSERT INTO replays VALUES ($tenant, $app, $user, $upto) ON CONFLICT (tenant, app, user) DO UPDATE SET upto = excluded.upto",
            ("$tenant", user.Tenant), ("$app", user.App), ("$user", user.User), ("$upto", upto));

        public int Execute(string sql, params ReadOnlySpan<(string Name, object Value)> parameters)
        {
            using var command = Sqlite.CreateCommand();
            command.CommandText = sql;
            foreach (var (name, value) in parameters) command.Parameters.AddWithValue(name, value);
            return command.ExecuteNonQuery();
        }

        public List<T> Select<T>(string sql, Func<SqliteDataReader, T> read, params ReadOnlySpan<(string Name, object Value)> parameters)
        {
            using var command = Sqlite.CreateCommand();
            command.CommandText = sql;
            foreach (var (name, value) in parameters)
            {
                if (sql.Contains(name, StringComparison.Ordinal)) command.Parameters.AddWithValue(name, value);
            }
            var rows = new List<T>();
            using var reader = command.ExecuteReader();
            while (reader.Read()) rows.Add(read(reader));
            return rows;
        }
    }
}
