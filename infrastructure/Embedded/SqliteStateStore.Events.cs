using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Embedded;

/// <summary>Events that wait for their reward: a row each, found by id and by when they are due, changed in the transaction of their shard's commit.</summary>
public sealed partial class SqliteStateStore : IEventStore
{
    private const string EventSchema = """
        CREATE TABLE IF NOT EXISTS events (
            tenant TEXT NOT NULL, app TEXT NOT NULL, user TEXT NOT NULL, id TEXT NOT NULL,
            due INTEGER NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, who TEXT,
            PRIMARY KEY (tenant, app, user, id));
        CREATE INDEX IF NOT EXISTS events_due ON events (tenant, app, user, due);
        """;

    public ValueTask<IReadOnlyList<WaitingEvent>> ReadEventsAsync(UserKey shard, IReadOnlyCollection<string> ids, CancellationToken cancellation) =>
        ValueTask.FromResult(WithReader(connection => (IReadOnlyList<WaitingEvent>)[.. ids.SelectMany(id => connection.ReadEvent(shard, id))]));

    public ValueTask<IReadOnlyList<WaitingEvent>> FindDueAsync(UserKey shard, DateTimeOffset at, int most, CancellationToken cancellation) =>
        ValueTask.FromResult(WithReader(connection => connection.FindDue(shard, at, most)));

    public async IAsyncEnumerable<WaitingEvent> ReadEventsAsync(UserKey user, [EnumeratorCancellation] CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        foreach (var app in UserKey.EventApps(user.App))
        {
            foreach (var waiting in WithReader(connection => connection.ReadEventsOf(user with { App = app }))) yield return waiting;
            await Task.Yield();
        }
    }

    private sealed partial class Connection
    {
        private const string Columns = "id, due, version, body, who", OfShard = "tenant = $tenant AND app = $app AND user = $user";

        // Made when first needed: most connections never see an event.
        private SqliteCommand? _selectEvent;
        private SqliteCommand? _selectDue;
        private SqliteCommand? _insertEvent;
        private SqliteCommand? _updateEvent;
        private SqliteCommand? _deleteEvent;

        public IReadOnlyList<WaitingEvent> ReadEvent(UserKey shard, string id)
        {
            _selectEvent ??= Database.Prepare(Sqlite, $"SELECT {Columns} FROM events WHERE {OfShard} AND id = $id", "$tenant", "$app", "$user", "$id");
            return Read(_selectEvent.Bind(shard.Tenant, shard.App, shard.User, id));
        }

        public IReadOnlyList<WaitingEvent> FindDue(UserKey shard, DateTimeOffset at, int most)
        {
            _selectDue ??= Database.Prepare(Sqlite, $"SELECT {Columns} FROM events WHERE {OfShard} AND due <= $at ORDER BY due LIMIT $most", "$tenant", "$app", "$user", "$at", "$most");
            return Read(_selectDue.Bind(shard.Tenant, shard.App, shard.User, at.UtcTicks, most));
        }

        /// <param name="user">With the app under which the events' shards lie.</param>
        public List<WaitingEvent> ReadEventsOf(UserKey user) => Select(
            $"SELECT {Columns} FROM events WHERE tenant = $tenant AND app = $app AND who = $who ORDER BY due", Read, ("$tenant", user.Tenant), ("$app", user.App), ("$who", user.User));

        private int EraseEvents(UserKey user) => UserKey.EventApps(user.App).Sum(app => Execute(
            "DELETE FROM events WHERE tenant = $tenant AND app = $app AND who = $who", ("$tenant", user.Tenant), ("$app", app), ("$who", user.User)));

        /// <returns>False when the event is not as it was read.</returns>
        private bool TryWriteEvent(UserKey shard, EventChange change)
        {
            var (tenant, app, user) = shard;
            if (change.Before is not { } before)
            {
                var after = change.After!;
                _insertEvent ??= Database.Prepare(Sqlite, "INSERT INTO events VALUES ($tenant, $app, $user, $id, $due, $version, $body, $who) ON CONFLICT DO NOTHING",
                    "$tenant", "$app", "$user", "$id", "$due", "$version", "$body", "$who");
                return _insertEvent.Bind(tenant, app, user, after.Id, after.Due.UtcTicks, after.Version, after.Body, after.User).ExecuteNonQuery() == 1;
            }
            if (change.After is { } changed)
            {
                _updateEvent ??= Database.Prepare(Sqlite, $"UPDATE events SET version = $version, body = $body WHERE {OfShard} AND id = $id AND version = $before",
                    "$tenant", "$app", "$user", "$id", "$version", "$body", "$before");
                return _updateEvent.Bind(tenant, app, user, before.Id, changed.Version, changed.Body, before.Version).ExecuteNonQuery() == 1;
            }
            _deleteEvent ??= Database.Prepare(Sqlite, $"DELETE FROM events WHERE {OfShard} AND id = $id AND version = $before", "$tenant", "$app", "$user", "$id", "$before");
            return _deleteEvent.Bind(tenant, app, user, before.Id, before.Version).ExecuteNonQuery() == 1;
        }

        private static List<WaitingEvent> Read(SqliteCommand command)
        {
            var events = new List<WaitingEvent>();
            using var reader = command.ExecuteReader();
            while (reader.Read()) events.Add(Read(reader));
            return events;
        }

        private static WaitingEvent Read(SqliteDataReader reader) =>
            new(reader.GetString(0), new DateTimeOffset(reader.GetInt64(1), TimeSpan.Zero), reader.GetInt64(2), reader.GetFieldValue<byte[]>(3)) { User = reader.IsDBNull(4) ? null : reader.GetString(4) };

        private void DisposeEvents()
        {
            foreach (var command in new[] { _selectEvent, _selectDue, _insertEvent, _updateEvent, _deleteEvent }) command?.Dispose();
        }
    }
}
