using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Unit.Apps;

/// <summary>What a version of an app may change that ranks.</summary>
public sealed class PublisherTests : IDisposable
{
    private const string Plain = """{"name":"news","input":{"name":"x","type":"FP32","shape":[3]},"labels":["a","b","c"],"cascade":[{"model":"m"}]}""";

    private readonly LocalApps _apps = new();

    public void Dispose() => _apps.Dispose();

    [Theory]
    [InlineData("""{"shards":8}""")]
    [InlineData("""{"shards":1}""")]
    public async Task OtherCountOfShards_IsRefused(string rank)
    {
        await PushAsync("{}");
        var refused = await Assert.ThrowsAsync<PublishException>(() => PushAsync(rank));

        Assert.Contains("it takes 4, as in version 1 of app 'news'", refused.Message);
        Assert.Equal([1], await VersionsAsync());
        // The same count under the name, and others under others.
        Assert.Equal(2, (await PushAsync("""{"shards":4,"reward_wait":"PT1M"}""")).Version);
        Assert.Equal(1, (await PushAsync(rank, "daily")).Version);
        Assert.Equal(1, (await PushAsync(rank, tenant: "acme")).Version);
    }

    [Fact]
    public async Task OtherCountOfShards_IsRefusedAfterVersionsThatDoNotRank()
    {
        await _apps.PushAsync("m", OnnxBuilder.Identity(DataType.Fp32, -1, 3));
        await _apps.PushAppAsync(Plain);
        await PushAsync("""{"shards":2}""");
        await _apps.PushAppAsync(Plain);

        Assert.Contains("version 2", (await Assert.ThrowsAsync<PublishException>(() => PushAsync("{}"))).Message);
        Assert.Equal(4, (await PushAsync("""{"shards":2}""")).Version);
    }

    [Fact]
    public async Task DamagedVersion_IsReplaced()
    {
        await PushAsync("""{"shards":2}""");
        var live = (await _apps.Store.LiveAsync("default", ArtifactKind.App, "news", CancellationToken.None))!;
        await File.WriteAllTextAsync(Path.Combine(new Uri(_apps.Store.Location).LocalPath, "default", "blobs", live.Sha256), "damaged", TestContext.Current.CancellationToken);

        Assert.Equal(2, (await PushAsync("""{"shards":2,"default_reward":0.5}""")).Version);
    }

    private Task<App> PushAsync(string rank, string name = "news", string tenant = "default") => _apps.PushAppAsync($$"""{"name":"{{name}}","rank":{{rank}}}""", tenant);

    private Task<IReadOnlyList<int>> VersionsAsync() => _apps.Store.VersionsAsync("default", ArtifactKind.App, "news", CancellationToken.None);
}
