using Microsoft.Data.Sqlite;
using Skiff.Store;

namespace Skiff.Embedded;

/// <summary>Opens SQLite files the one way we use them: write-ahead log, a busy timeout, and failures as <see cref="StoreException"/>.</summary>
internal static class Database
{
    static Database() => SQLitePCL.Batteries_V2.Init();

    /// <param name="synchronous"><c>FULL</c>: a commit outlives a loss of power. <c>NORMAL</c>: it outlives the process, and the last ones may be undone by a loss of power.</param>
    /// <exception cref="StoreException">The file can't be opened or written, or is no database.</exception>
    public static SqliteConnection Open(string path, string synchronous, string schema)
    {
        return Guard(path, () =>
        {
            if (Path.GetDirectoryName(path) is { Length: > 0 } folder) Directory.CreateDirectory(folder);
            var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Pooling = false }.ToString());
            connection.Open();
            try
            {
                Execute(connection, "PRAGMA journal_mode=WAL");
                Execute(connection, $"PRAGMA synchronous={synchronous}");
                Execute(connection, "PRAGMA busy_timeout=5000");
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
