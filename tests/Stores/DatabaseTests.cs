using Microsoft.Data.Sqlite;
using Skiff.Embedded;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

public sealed class DatabaseTests
{
    [Fact]
    public void FullDisk_UndoesTheTransactionAndLeavesTheConnectionUsable()
    {
        using var folder = new ScratchFolder();
        var path = Path.Combine(folder.Path, "full.db");
        using var connection = Database.Open(path, "FULL", "CREATE TABLE t (body BLOB)");
        // What SQLite does when the disk is full it does at this limit too: SQLITE_FULL, and the transaction is rolled back under us.
        Database.Execute(connection, "PRAGMA max_page_count = 20");

        for (var attempt = 0; attempt < 2; attempt++)
        {
            var error = Assert.Throws<StoreException>(() => Insert(path, connection, 1_000_000));
            Assert.Contains("full", error.Message);
        }

        Insert(path, connection, 100);
        using var count = connection.CreateCommand();
        count.CommandText = "SELECT count(*) FROM t";
        Assert.Equal(1L, count.ExecuteScalar());
    }

    [Fact]
    public void FailureInsideATransaction_UndoesIt()
    {
        using var folder = new ScratchFolder();
        using var connection = Database.Open(Path.Combine(folder.Path, "a.db"), "FULL", "CREATE TABLE t (body BLOB)");

        Assert.Throws<InvalidOperationException>(() => Database.InTransaction<bool>(connection, () =>
        {
            Database.Execute(connection, "INSERT INTO t VALUES (1)");
            throw new InvalidOperationException();
        }));

        using var count = connection.CreateCommand();
        count.CommandText = "SELECT count(*) FROM t";
        Assert.Equal(0L, count.ExecuteScalar());
    }

    private static void Insert(string path, SqliteConnection connection, int bytes) => Database.Guard(path, () => Database.InTransaction(connection, () =>
    {
        Database.Execute(connection, $"INSERT INTO t VALUES (zeroblob({bytes}))");
        return true;
    }));
}
