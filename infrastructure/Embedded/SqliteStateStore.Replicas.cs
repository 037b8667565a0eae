using Skiff.Routing;

namespace Skiff.Embedded;

/// <summary>Replicas of a heavy tier on this machine.</summary>
public sealed partial class SqliteStateStore : IReplicaRegistry
{
    private const string ReplicaSchema = "CREATE TABLE IF NOT EXISTS replicas (address TEXT PRIMARY KEY, until INTEGER NOT NULL, load REAL NOT NULL, queue INTEGER NOT NULL, warm TEXT NOT NULL, version TEXT NOT NULL) WITHOUT ROWID;";

    public async ValueTask RegisterAsync(Registration replica, CancellationToken cancellation) => await WithWriterAsync(
        () => Database.InTransaction(_writer.Sqlite, () =>
        {
            // Whoever died is forgotten here, where somebody writes anyway.
            _writer.Execute("DELETE FROM replicas WHERE until < $now", ("$now", _time.GetUtcNow().ToUnixTimeMilliseconds()));
            return _writer.Execute(
                "INSERT OR REPLACE INTO replicas VALUES ($address, $until, $load, $queue, $warm, $version)",
                ("$address", replica.Address.AbsoluteUri), ("$until", replica.Until.ToUnixTimeMilliseconds()), ("$load", replica.Load), ("$queue", replica.Queue), ("$warm", replica.Warm), ("$version", replica.Version));
        }), cancellation);

    public async ValueTask UnregisterAsync(Uri address, CancellationToken cancellation) =>
        await WithWriterAsync(() => _writer.Execute("DELETE FROM replicas WHERE address = $address", ("$address", address.AbsoluteUri)), cancellation);

    public ValueTask<IReadOnlyList<Registration>> ReadReplicasAsync(CancellationToken cancellation) => ValueTask.FromResult<IReadOnlyList<Registration>>(WithReader(connection => connection.Select(
        "SELECT address, until, load, queue, warm, version FROM replicas",
        reader => new Registration(new Uri(reader.GetString(0)), DateTimeOffset.FromUnixTimeMilliseconds(reader.GetInt64(1)), reader.GetDouble(2), reader.GetInt32(3), reader.GetString(4), reader.GetString(5)))));
}
