using System.Security.Cryptography;
using System.Text;
using Skiff.Caching;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>The suite through a cache, and what the cache itself must keep.</summary>
public sealed class CachedObjectStoreTests : ObjectStoreTests, IDisposable
{
    private const int BlobBytes = 1000;

    private readonly ScratchFolder _folder = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private string Cache => _folder["cache"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task BlobReadOnce_ComesFromTheDiskAlsoAfterARestart()
    {
        var key = await PublishAsync("a");
        var content = (await Open().GetAsync(key, Cancellation))!.Content;
        File.Delete(_folder[$"store/{key}"]);

        Assert.Equal(content, (await Open().GetAsync(key, Cancellation))!.Content);
    }

    [Fact]
    public async Task DamagedFile_IsFetchedAgain()
    {
        var key = await PublishAsync("a");
        var content = (await Open().GetAsync(key, Cancellation))!.Content;
        var file = Assert.Single(Files());
        await File.WriteAllTextAsync(file, "damaged", Cancellation);

        Assert.Equal(content, (await Open().GetAsync(key, Cancellation))!.Content);

        Assert.Equal(content, await File.ReadAllBytesAsync(file, Cancellation));
    }

    [Fact]
    public async Task BlobThatIsDamagedInTheStore_IsNotKept()
    {
        var key = await PublishAsync("a");
        await File.WriteAllTextAsync(_folder[$"store/{key}"], "damaged", Cancellation);

        Assert.Equal("damaged"u8.ToArray(), (await Open().GetAsync(key, Cancellation))!.Content);

        Assert.Empty(Files());
    }

    [Fact]
    public async Task BlobOfAnotherTenant_IsNotSeen()
    {
        var key = await PublishAsync("a");
        await Open().GetAsync(key, Cancellation);

        Assert.Null(await Open().GetAsync(key.Replace("acme/", "other/", StringComparison.Ordinal), Cancellation));
    }

    [Fact]
    public async Task FullCache_ForgetsTheLeastRecentlyRead()
    {
        string[] keys = [await PublishAsync("a"), await PublishAsync("b"), await PublishAsync("c"), await PublishAsync("d")];
        for (var i = 0; i < 3; i++)
        {
            await Open().GetAsync(keys[i], Cancellation);
            File.SetLastWriteTimeUtc(PathOf(keys[i]), DateTime.UtcNow.AddMinutes(i - 10));
        }
        await Open().GetAsync(keys[0], Cancellation);

        await Open().GetAsync(keys[3], Cancellation);

        Assert.Equal(new[] { keys[0], keys[2], keys[3] }.Select(PathOf).Order(), Files().Order());
    }

    [Fact]
    public async Task BlobLargerThanTheCache_PassesThrough()
    {
        var small = await PublishAsync("a");
        await Open().GetAsync(small, Cancellation);
        var large = await PublishAsync(new string('x', 4 * BlobBytes));

        Assert.Equal(4 * BlobBytes, (await Open().GetAsync(large, Cancellation))!.Content.Length);

        Assert.Equal([PathOf(small)], Files());
    }

    [Fact]
    public async Task ManyReadersOfManyBlobs_GetWhatTheyAskedForWithinTheBudget()
    {
        var keys = new List<string>();
        for (var i = 0; i < 12; i++) keys.Add(await PublishAsync($"{i}"));

        await Task.WhenAll(Enumerable.Range(0, 8).Select(reader => Task.Run(
            async () =>
            {
                // As processes of their own would share the folder.
                var store = Open();
                for (var i = 0; i < 100; i++)
                {
                    var key = keys[(reader * 5 + i * 7) % keys.Count];
                    var content = (await store.GetAsync(key, Cancellation))!.Content;
                    Assert.EndsWith(Convert.ToHexStringLower(SHA256.HashData(content)), key);
                }
            },
            Cancellation)));

        await Open().GetAsync(await PublishAsync("last"), Cancellation);
        Assert.InRange(Files().Sum(file => new FileInfo(file).Length), BlobBytes, 3 * BlobBytes);
    }

    [Fact]
    public async Task FileThatAKilledWriterLeft_IsRemoved()
    {
        await Open().GetAsync(await PublishAsync("a"), Cancellation);
        var left = Path.Combine(Cache, "acme", ".tmp-left");
        await File.WriteAllTextAsync(left, "half", Cancellation);
        File.SetLastWriteTimeUtc(left, DateTime.UtcNow.AddHours(-1));

        await Open().GetAsync(await PublishAsync("b"), Cancellation);

        Assert.False(File.Exists(left));
    }

    [Fact]
    public async Task CacheThatCannotBeWritten_CostsNoAnswer()
    {
        var key = await PublishAsync("a");
        await File.WriteAllTextAsync(Cache, "where the folder should be", Cancellation);

        Assert.NotNull(await Open().GetAsync(key, Cancellation));
    }

    [Fact]
    public async Task PublishingAgain_HealsTheStoreDespiteTheCache()
    {
        var models = new ModelStore(Open(), TimeProvider.System);
        var manifest = new Manifest { Kind = ArtifactKind.Model, Name = "m", By = "tests", Version = 0, Sha256 = "", Bytes = 0, Created = default };
        var published = await models.PublishAsync("acme", manifest, "precious"u8.ToArray(), Cancellation);
        await models.ContentAsync("acme", published, Cancellation);
        var stored = _folder[$"store/acme/blobs/{published.Sha256}"];
        await File.WriteAllTextAsync(stored, "preciouS", Cancellation);

        await models.PublishAsync("acme", manifest, "precious"u8.ToArray(), Cancellation);

        Assert.Equal("precious", await File.ReadAllTextAsync(stored, Cancellation));
    }

    protected override IObjectStore Open() => new CachedObjectStore(new FileObjectStore(_folder["store"]), Cache, 3 * BlobBytes);

    protected override IObjectStore OpenUnwritable()
    {
        Directory.CreateDirectory(_folder["store"]);
        File.WriteAllText(_folder["store/full"], "where the folder should be");
        return Open();
    }

    private async Task<string> PublishAsync(string text)
    {
        var content = Encoding.UTF8.GetBytes(text.PadRight(BlobBytes));
        var key = $"acme/blobs/{Convert.ToHexStringLower(SHA256.HashData(content))}";
        await new FileObjectStore(_folder["store"]).TryCreateAsync(key, content, Cancellation);
        return key;
    }

    private string PathOf(string key) => Path.Combine(Cache, "acme", Path.GetFileName(key));

    private string[] Files() => Directory.Exists(Cache) ? Directory.GetFiles(Cache, "*", SearchOption.AllDirectories) : [];
}
