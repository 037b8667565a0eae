using System.Security.Cryptography;
using System.Text;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

public sealed class ModelStoreTests : IDisposable
{
    private const string Tenant = "default";
    private static readonly DateTimeOffset Now = new(2025, 6, 1, 12, 30, 0, TimeSpan.Zero);

    private readonly ScratchFolder _folder = new();
    private readonly ModelStore _store;

    public ModelStoreTests() => _store = Open();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task FirstPublish_IsVersion1WithoutParent()
    {
        var content = Encoding.UTF8.GetBytes("content");
        var described = Describe("m") with
        {
            Inputs = [new TensorSpec("x", DataType.Fp32, [-1, 3])],
            Outputs = [new TensorSpec("y", DataType.Int64, [-1])],
            Metadata = new Dictionary<string, string> { ["classes"] = "3" },
        };
        var published = await _store.PublishAsync(Tenant, described, content, Cancellation);

        var manifest = (await Open().ManifestAsync(Tenant, ArtifactKind.Model, "m", 1, Cancellation))!;
        Assert.Equal((ArtifactKind.Model, "m", 1), (manifest.Kind, manifest.Name, manifest.Version));
        Assert.Null(manifest.Parent);
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(content)), manifest.Sha256);
        Assert.Equal(content.Length, manifest.Bytes);
        Assert.Equal(("tests", Now), (manifest.By, manifest.Created));
        Assert.Equal("3", manifest.Metadata["classes"]);
        Assert.Equal(["'x' FP32 [-1,3]"], manifest.Inputs.Select(input => $"{input}"));
        Assert.Equal(["'y' INT64 [-1]"], manifest.Outputs.Select(output => $"{output}"));
        Assert.Equal(published.Sha256, manifest.Sha256);
        Assert.Equal(content, await Open().ContentAsync(Tenant, manifest, Cancellation));
    }

    [Fact]
    public async Task NextPublish_HasTheOneBeforeAsParent()
    {
        await PublishAsync("m", "one");
        var second = await PublishAsync("m", "two");

        Assert.Equal((2, 1), (second.Version, second.Parent));
        Assert.Equal([1, 2], await _store.VersionsAsync(Tenant, ArtifactKind.Model, "m", Cancellation));
        Assert.Equal("one"u8.ToArray(), await ContentAsync("m", 1));
        Assert.Equal("two"u8.ToArray(), await ContentAsync("m", 2));
    }

    [Fact]
    public async Task TenVersions_AreListedByNumber()
    {
        for (var i = 0; i < 11; i++) await PublishAsync("m", $"content {i}");

        Assert.Equal(Enumerable.Range(1, 11), await _store.VersionsAsync(Tenant, ArtifactKind.Model, "m", Cancellation));
    }

    [Fact]
    public async Task SameContentTwice_IsKeptOnce()
    {
        var first = await PublishAsync("m", "same");
        var second = await PublishAsync("n", "same");

        Assert.Equal(first.Sha256, second.Sha256);
        Assert.Equal([first.Sha256], await new FileObjectStore(_folder.Path).ListAsync($"{Tenant}/blobs", Cancellation));
    }

    [Fact]
    public async Task PublishersAtOnce_GetAVersionEach()
    {
        const int publishers = 8;
        using var start = new Barrier(publishers);

        var published = await Task.WhenAll(Enumerable.Range(0, publishers).Select(publisher => Task.Factory.StartNew(
            async () =>
            {
                start.SignalAndWait(Cancellation);
                return await Open().PublishAsync(Tenant, Describe("m"), Encoding.UTF8.GetBytes($"content {publisher}"), Cancellation);
            },
            Cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap()));

        Assert.Equal(Enumerable.Range(1, publishers), published.Select(manifest => manifest.Version).Order());
        for (var publisher = 0; publisher < publishers; publisher++)
        {
            Assert.Equal(Encoding.UTF8.GetBytes($"content {publisher}"), await ContentAsync("m", published[publisher].Version));
        }
    }

    [Fact]
    public async Task Alias_MovesForwardAndBack()
    {
        await PublishAsync("m", "one");
        await PublishAsync("m", "two");

        Assert.Null(await MoveAsync("m", "live", 1));
        Assert.Equal(1, await MoveAsync("m", "live", 2));
        Assert.Equal(2, await ResolveAsync("m", "live"));
        Assert.Equal(2, await MoveAsync("m", "live", 1));
        Assert.Equal(1, await ResolveAsync("m", "live"));
        await MoveAsync("m", "canary", 2);
        Assert.Equal(new Dictionary<string, int> { ["canary"] = 2, ["live"] = 1 }, await _store.AliasesAsync(Tenant, ArtifactKind.Model, "m", Cancellation));
    }

    [Fact]
    public async Task AliasMovedByManyAtOnce_AlwaysNamesAVersionThatIs()
    {
        await PublishAsync("m", "one");
        await PublishAsync("m", "two");
        await MoveAsync("m", "live", 1);
        var moving = Task.WhenAll(Enumerable.Range(0, 4).Select(mover => Task.Run(
            async () =>
            {
                for (var i = 0; i < 15; i++) await Open().MoveAliasAsync(Tenant, ArtifactKind.Model, "m", "live", 1 + (mover + i) % 2, Cancellation);
            },
            Cancellation)));

        while (!moving.IsCompleted) Assert.InRange((await ResolveAsync("m", "live"))!.Value, 1, 2);
        await moving;
    }

    [Fact]
    public async Task AliasToUnknownVersion_IsRefusedAndStays()
    {
        await PublishAsync("m", "one");
        await MoveAsync("m", "live", 1);

        var unknownVersion = await Assert.ThrowsAsync<ArgumentException>(() => MoveAsync("m", "live", 7));
        var unknownName = await Assert.ThrowsAsync<ArgumentException>(() => MoveAsync("other", "live", 1));

        Assert.Equal("'m' has no version 7; it has 1", unknownVersion.Message);
        Assert.Equal("there is no model 'other'", unknownName.Message);
        Assert.Equal(1, await ResolveAsync("m", "live"));
        Assert.Null(await ResolveAsync("other", "live"));
    }

    [Fact]
    public async Task CorruptBlob_IsDetectedAndHealedByPublishingItsContentAgain()
    {
        var manifest = await PublishAsync("m", "precious");
        await File.WriteAllTextAsync(_folder[$"{Tenant}/blobs/{manifest.Sha256}"], "preciouS", Cancellation);

        var error = await Assert.ThrowsAsync<StoreException>(() => ContentAsync("m", 1));
        Assert.Contains("m version 1 is corrupt", error.Message);
        Assert.Contains(manifest.Sha256, error.Message);

        await PublishAsync("m", "precious");
        Assert.Equal("precious"u8.ToArray(), await ContentAsync("m", 1));
    }

    [Fact]
    public async Task MissingBlob_IsAnErrorThatNamesTheVersion()
    {
        var manifest = await PublishAsync("m", "precious");
        File.Delete(_folder[$"{Tenant}/blobs/{manifest.Sha256}"]);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await _store.ContentAsync(Tenant, manifest, Cancellation));

        Assert.Contains("m version 1", error.Message);
        Assert.Contains("missing", error.Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("{\"kind\":\"Model\"")]
    [InlineData("{\"name\":\"m\"}")]
    [InlineData("[]")]
    public async Task DamagedManifest_IsAnErrorThatNamesIt(string damaged)
    {
        await PublishAsync("m", "one");
        await File.WriteAllTextAsync(_folder[$"{Tenant}/models/m/versions/00000001.json"], damaged, Cancellation);

        var error = await Assert.ThrowsAsync<StoreException>(() => _store.ManifestAsync(Tenant, ArtifactKind.Model, "m", 1, Cancellation));

        Assert.Contains($"'{Tenant}/models/m/versions/00000001.json'", error.Message);
        Assert.Contains("damaged", error.Message);
    }

    [Fact]
    public async Task DamagedAlias_IsAnErrorAndCanBeMovedAgain()
    {
        await PublishAsync("m", "one");
        await MoveAsync("m", "live", 1);
        await File.WriteAllTextAsync(_folder[$"{Tenant}/models/m/aliases/live.json"], "{", Cancellation);

        await Assert.ThrowsAsync<StoreException>(() => ResolveAsync("m", "live"));

        await MoveAsync("m", "live", 1);
        Assert.Equal(1, await ResolveAsync("m", "live"));
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData("../m")]
    [InlineData("a/b")]
    [InlineData("a\\b")]
    [InlineData("a b")]
    [InlineData("a.b")]
    [InlineData("a\0")]
    [InlineData("é")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public async Task InvalidName_IsRefusedEverywhere(string name)
    {
        await PublishAsync("m", "one");
        var before = Directory.GetFiles(_folder.Path, "*", SearchOption.AllDirectories);

        await Assert.ThrowsAsync<InvalidNameException>(() => PublishAsync(name, "content"));
        await Assert.ThrowsAsync<InvalidNameException>(() => _store.PublishAsync(name, Describe("m"), "content"u8.ToArray(), Cancellation));
        await Assert.ThrowsAsync<InvalidNameException>(() => _store.ManifestAsync(Tenant, ArtifactKind.Model, name, 1, Cancellation));
        await Assert.ThrowsAsync<InvalidNameException>(() => _store.VersionsAsync(name, ArtifactKind.Model, "m", Cancellation));
        await Assert.ThrowsAsync<InvalidNameException>(() => ResolveAsync(name, "live"));
        await Assert.ThrowsAsync<InvalidNameException>(() => ResolveAsync("m", name));
        await Assert.ThrowsAsync<InvalidNameException>(() => MoveAsync("m", name, 1));

        Assert.Equal(before.Order(), Directory.GetFiles(_folder.Path, "*", SearchOption.AllDirectories).Order());
    }

    [Fact]
    public async Task AliasCopiedFromAnotherName_NamesTheVersionOfItsOwn()
    {
        foreach (var name in new[] { "m", "n" })
        {
            await PublishAsync(name, $"content of {name}");
            await MoveAsync(name, "live", 1);
        }

        File.Copy(_folder[$"{Tenant}/models/n/aliases/live.json"], _folder[$"{Tenant}/models/m/aliases/live.json"], overwrite: true);

        var live = (await _store.LiveAsync(Tenant, ArtifactKind.Model, "m", Cancellation))!;
        Assert.Equal("m", live.Name);
        Assert.Equal("content of m"u8.ToArray(), await _store.ContentAsync(Tenant, live, Cancellation));
    }

    [Fact]
    public async Task Tenants_SeeNothingOfEachOther()
    {
        var mine = await _store.PublishAsync("acme", Describe("m"), "acme's"u8.ToArray(), Cancellation);
        await _store.MoveAliasAsync("acme", ArtifactKind.Model, "m", "live", 1, Cancellation);

        Assert.Empty(await _store.NamesAsync("other", ArtifactKind.Model, Cancellation));
        Assert.Empty(await _store.VersionsAsync("other", ArtifactKind.Model, "m", Cancellation));
        Assert.Null(await _store.ManifestAsync("other", ArtifactKind.Model, "m", 1, Cancellation));
        Assert.Null(await _store.ResolveAsync("other", ArtifactKind.Model, "m", "live", Cancellation));
        await Assert.ThrowsAsync<StoreException>(async () => await _store.ContentAsync("other", mine, Cancellation));

        await _store.PublishAsync("other", Describe("m"), "other's"u8.ToArray(), Cancellation);
        Assert.Equal("acme's"u8.ToArray(), await _store.ContentAsync("acme", mine, Cancellation));
    }

    [Fact]
    public async Task Kinds_HaveTheirOwnNamesAndVersions()
    {
        await PublishAsync("m", "model");
        var prior = await _store.PublishAsync(Tenant, Describe("m") with { Kind = ArtifactKind.Prior }, "{}"u8.ToArray(), Cancellation);

        Assert.Equal(1, prior.Version);
        Assert.Equal(["m"], await _store.NamesAsync(Tenant, ArtifactKind.Prior, Cancellation));
        Assert.Empty(await _store.NamesAsync(Tenant, ArtifactKind.App, Cancellation));
    }

    private static Manifest Describe(string name) => new() { Kind = ArtifactKind.Model, Name = name, By = "tests", Version = 0, Sha256 = "", Bytes = 0, Created = default };

    private ModelStore Open() => new(new FileObjectStore(_folder.Path), new StoppedClock(Now));

    private Task<Manifest> PublishAsync(string name, string content) => _store.PublishAsync(Tenant, Describe(name), Encoding.UTF8.GetBytes(content), Cancellation);

    private Task<int?> MoveAsync(string name, string alias, int version) => _store.MoveAliasAsync(Tenant, ArtifactKind.Model, name, alias, version, Cancellation);

    private Task<int?> ResolveAsync(string name, string alias) => _store.ResolveAsync(Tenant, ArtifactKind.Model, name, alias, Cancellation);

    private async Task<byte[]> ContentAsync(string name, int version) =>
        await _store.ContentAsync(Tenant, (await _store.ManifestAsync(Tenant, ArtifactKind.Model, name, version, Cancellation))!, Cancellation);

    private sealed class StoppedClock(DateTimeOffset now) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => now;
    }
}
