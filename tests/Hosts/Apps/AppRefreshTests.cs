using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Hosts.Learning;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Apps;

/// <summary>How a moved alias is noticed where nobody looks but requests, and the store is not always there.</summary>
public sealed class AppRefreshTests : IDisposable
{
    private readonly ScratchFolder _folder = new();
    private readonly UnsteadyObjects _objects;
    private readonly ModelStore _store;
    private readonly ModelHost _models;
    private readonly AppHost _apps;

    public AppRefreshTests()
    {
        _objects = new UnsteadyObjects(new FileObjectStore(_folder.Path));
        _store = new ModelStore(_objects, TimeProvider.System);
        // Every request looks.
        _models = new ModelHost(_store, new ModelHostOptions { AliasInterval = TimeSpan.Zero }, TimeProvider.System, NullLogger<ModelHost>.Instance);
        _apps = new AppHost(_store, _models, TimeSpan.Zero, TimeProvider.System, NullLogger<AppHost>.Instance);
    }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _models.UnloadAll();
        _folder.Dispose();
    }

    [Fact]
    public async Task NewVersionThatCouldNotBeRead_IsTakenWhenTheStoreIsBack()
    {
        await EchoApp.PublishAsync(_store);
        Assert.Equal(1, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
        await EchoApp.PublishAsync(_store);
        _objects.BlobsFail = true;
        await _apps.RefreshDueAsync();
        Assert.Equal(1, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
        await _apps.SettleAsync(Cancellation);

        _objects.BlobsFail = false;
        await _apps.RefreshDueAsync();

        Assert.Equal(2, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
    }

    [Fact]
    public async Task NewVersionWhoseModelComesLater_IsTakenThen()
    {
        // As a synchronized folder arrives: its files in any order.
        await EchoApp.PublishAsync(_store);
        await _apps.GetAsync("default", "echo", Cancellation);
        var manifest = (await _store.LiveAsync("default", ArtifactKind.App, "echo", Cancellation))!;
        var document = Encoding.UTF8.GetString(await _store.ContentAsync("default", manifest, Cancellation)).Replace("echo_body", "later_body", StringComparison.Ordinal);
        await _store.PublishAsync("default", manifest, Encoding.UTF8.GetBytes(document), Cancellation);
        await _store.MoveAliasAsync("default", ArtifactKind.App, "echo", ModelStore.Live, 2, Cancellation);
        await _apps.RefreshDueAsync();
        Assert.Equal(1, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
        await _apps.SettleAsync(Cancellation);

        await new Publisher(_store, ModelLimits.Default).PushAsync("default", OnnxBuilder.Identity(DataType.Fp32, -1, 3), "later_body", ModelStore.Live, Cancellation);
        await _apps.RefreshDueAsync();

        Assert.Equal(2, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
    }

    [Fact]
    public async Task LookThatARequestBegan_IsOverWhenItHasSettled()
    {
        await EchoApp.PublishAsync(_store);
        await _apps.GetAsync("default", "echo", Cancellation);
        (await _models.AcquireAsync("default", "echo_body", null, Cancellation)).Dispose();
        await _apps.SettleAsync(Cancellation);
        await EchoApp.PublishAsync(_store);
        await _store.MoveAliasAsync("default", ArtifactKind.Model, "echo_body", ModelStore.Live, 2, Cancellation);
        _objects.Delay = TimeSpan.FromMilliseconds(20);

        // The request that begins it is answered at once, by what is here.
        Assert.Equal(1, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
        using (var lease = await _models.AcquireAsync("default", "echo_body", null, Cancellation)) Assert.Equal(1, lease.Manifest.Version);
        await _apps.SettleAsync(Cancellation);

        Assert.Equal(2, (await _apps.GetAsync("default", "echo", Cancellation)).Version);
        using (var lease = await _models.AcquireAsync("default", "echo_body", null, Cancellation)) Assert.Equal(2, lease.Manifest.Version);
    }

    [Fact]
    public async Task StoreThatDoesNotAnswer_IsWaitedForOnce()
    {
        await EchoApp.PublishAsync(_store);
        await _apps.GetAsync("default", "echo", Cancellation);
        _objects.Delay = Timeout.InfiniteTimeSpan;
        await _apps.GetAsync("default", "echo", Cancellation);
        using var deadline = new CancellationTokenSource();

        var first = _apps.SettleAsync(deadline.Token);
        await _apps.GetAsync("default", "echo", Cancellation);
        var second = _apps.SettleAsync(CancellationToken.None);

        Assert.True(second.IsCompletedSuccessfully);
        Assert.False(first.IsCompleted);
        await deadline.CancelAsync();
        await first;
    }

    /// <summary>Reads that take a while, and blobs that can't be read for now.</summary>
    private sealed class UnsteadyObjects(IObjectStore objects) : IObjectStore
    {
        public bool BlobsFail { get; set; }

        public TimeSpan Delay { get; set; }

        public string Location => objects.Location;

        public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
        {
            if (Delay != TimeSpan.Zero) await Task.Delay(Delay, Cancellation);
            if (BlobsFail && key.Contains("/blobs/", StringComparison.Ordinal)) throw new StoreException("the store is away");
            return await objects.GetAsync(key, cancellation);
        }

        public ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation) => objects.TryCreateAsync(key, content, cancellation);

        public ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation) =>
            objects.TryReplaceAsync(key, content, expectedTag, cancellation);

        public ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation) => objects.ListAsync(prefix, cancellation);
    }
}
