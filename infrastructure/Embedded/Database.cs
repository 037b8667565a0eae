using System.Globalization;
using Microsoft.Data.Sqlite;
using Skiff.Store;

namespace Skiff.Embedded;

/// <summary>Opens SQLite files the one way we use them: write-ahead log, a busy timeout, and failures as <see cref="StoreException"/>.</summary>
internal static class Database
{
    // How long to wait for others to let go of the file. The provider repeats what was busy until its own timeout, so both must say it.
    private const int BusySeconds = 5;

    /// <summary>How long a log that is to be cut off waits for its readers, in milliseconds: nobody writes meanwhile.</summary>
    private const int CutOffMilliseconds = 1000;

    static Database() => SQLitePCL.Batteries_V2.Init();

    /// <param name="synchronous"><c>FULL</c>: a commit outlives a loss of power. <c>NORMAL</c>: it outlives the process, and the last ones may be undone by a loss of power.</param>
    /// <param name="checkpointPages">How many pages the log holds before they are copied into the database.</param>
    /// <exception cref="StoreException">The file can't be opened or written, or is no database.</exception>
    public static SqliteConnection Open(string path, string synchronous, string schema, int checkpointPages = 1000)
    {
        return Guard(path, () =>
        {
            if (Path.GetDirectoryName(path) is { Length: > 0 } folder) Directory.CreateDirectory(folder);
            var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Pooling = false, DefaultTimeout = BusySeconds }.ToString());
            connection.Open();
            try
            {
                Execute(connection, "PRAGMA journal_mode=WAL");
                Execute(connection, $"PRAGMA synchronous={synchronous}");
                Execute(connection, $"PRAGMA wal_autocheckpoint={checkpointPages}");
                Execute(connection, $"PRAGMA busy_timeout={BusySeconds * 1000}");
                Execute(connection, schema);
                return connection;
            }
            catch
            {
                connection.Dispose();
                throw;
            }
        });
    }

    public static void Execute(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    /// <summary>Adds to a table of an earlier version the column that it lacks; whoever opens the file at the same moment may be the faster one.</summary>
    public static void AddColumn(SqliteConnection connection, string table, string column)
    {
        using var command = connection.CreateCommand();
        command.CommandText = $"SELECT count(*) FROM pragma_table_info('{table}') WHERE name = '{column.Split(' ')[0]}'";
        if (Convert.ToInt64(command.ExecuteScalar(), CultureInfo.InvariantCulture) > 0) return;
        InTransaction(connection, () =>
        {
            if (Convert.ToInt64(command.ExecuteScalar(), CultureInfo.InvariantCulture) == 0) Execute(connection, $"ALTER TABLE {table} ADD COLUMN {column}");
            return true;
        });
    }

    /// <summary>
    /// Copies the log into the database and makes its file empty: a checkpoint of another kind leaves in the file what it has copied, until it is written over.
    /// </summary>
    /// <returns>False where somebody read an earlier state, or wrote, for as long as this waits: then the log is as it was, or copied and not emptied.</returns>
    public static bool TryCutOffLog(SqliteConnection connection)
    {
        Execute(connection, $"PRAGMA busy_timeout={CutOffMilliseconds}");
        try
        {
            using var command = connection.CreateCommand();
            command.CommandText = "PRAGMA wal_checkpoint(TRUNCATE)";
            return Convert.ToInt64(command.ExecuteScalar(), CultureInfo.InvariantCulture) == 0;
        }
        finally
        {
            Execute(connection, $"PRAGMA busy_timeout={BusySeconds * 1000}");
        }
    }

    /// <summary>
    /// Runs an action in a write transaction. Plain statements rather than the provider's transaction object: when the disk is full SQLite rolls back by itself,
    /// and that object then fails in its own rollback and leaves the connection unusable.
    /// </summary>
    public static T InTransaction<T>(SqliteConnection connection, Func<T> action)
    {
        Execute(connection, "BEGIN IMMEDIATE");
        try
        {
            var result = action();
            Execute(connection, "COMMIT");
            return result;
        }
        catch
        {
            if (SQLitePCL.raw.sqlite3_get_autocommit(connection.Handle) == 0) Execute(connection, "ROLLBACK");
            throw;
        }
    }

    public static T Guard<T>(string path, Func<T> action)
    {
        try
        {
            return action();
        }
        catch (Exception e) when (e is SqliteException or IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't use the database {path}: {e.Message}", e);
        }
    }

    /// <summary>A prepared command whose parameters are bound by name in the order given.</summary>
    public static SqliteCommand Prepare(SqliteConnection connection, string sql, params ReadOnlySpan<string> parameters)
    {
        var command = connection.CreateCommand();
        command.CommandText = sql;
        foreach (var name in parameters) command.Parameters.Add(new SqliteParameter { ParameterName = name });
        command.Prepare();
        return command;
    }

    public static SqliteCommand Bind(this SqliteCommand command, params ReadOnlySpan<object?> values)
    {
        for (var i = 0; i < values.Length; i++) command.Parameters[i].Value = values[i] ?? DBNull.Value;
        return command;
    }
}
