using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

public sealed class FileObjectStoreTests : ObjectStoreTests, IDisposable
{
    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void RegularFileInTheFoldersPlace_IsAnErrorThatNamesIt()
    {
        File.WriteAllText(_folder["file"], "not a folder");

        var error = Assert.Throws<StoreException>(() => new FileObjectStore(_folder["file"]));

        Assert.Contains(_folder["file"], error.Message);
    }

    [Fact]
    public async Task FailedWrite_LeavesNoFile()
    {
        // The object's own place is taken by a folder: everything succeeds but the naming.
        Directory.CreateDirectory(_folder["store/a/b"]);
        var store = Open();

        await Assert.ThrowsAsync<StoreException>(async () => await store.TryCreateAsync("a/b", "x"u8.ToArray(), TestContext.Current.CancellationToken));

        Assert.DoesNotContain(Directory.GetFiles(_folder["store"], "*", SearchOption.AllDirectories), file => Path.GetFileName(file) != ".lock");
    }

    [Fact]
    public async Task ReplaceThatCannotLock_IsAnErrorThatNamesTheObject()
    {
        var store = Open();
        await store.TryCreateAsync("a/b", "x"u8.ToArray(), TestContext.Current.CancellationToken);
        var stored = (await store.GetAsync("a/b", TestContext.Current.CancellationToken))!;
        File.Delete(_folder["store/a/.lock"]);
        Directory.CreateDirectory(_folder["store/a/.lock"]);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.TryReplaceAsync("a/b", "y"u8.ToArray(), stored.Tag, TestContext.Current.CancellationToken));

        Assert.Contains("'a/b'", error.Message);
    }

    protected override IObjectStore Open() => new FileObjectStore(_folder["store"]);

    protected override IObjectStore OpenUnwritable()
    {
        Directory.CreateDirectory(_folder["store"]);
        File.WriteAllText(_folder["store/full"], "where the folder should be");
        return Open();
    }
}
