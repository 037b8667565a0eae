using Skiff.Routing;

namespace Skiff.Stores;

/// <summary>Replicas that register in the store of their callers' state.</summary>
public abstract partial class StateStoreTests
{
    [Fact]
    public async Task Replica_IsReadAsItRegisteredLast_UntilItLeaves()
    {
        // The store may be shared with other tests: of these replicas nobody else knows.
        var name = Guid.NewGuid().ToString("N");
        var until = DateTimeOffset.FromUnixTimeMilliseconds(DateTimeOffset.UtcNow.AddMinutes(1).ToUnixTimeMilliseconds());
        var first = new Registration(new Uri($"http://{name}.example:8090"), until, 0.125, 3, "acme/fm_big, default/other", "1.2.3");
        var second = first with { Address = new Uri($"http://{name}.example:8091"), Load = 0, Queue = 0, Warm = "" };
        var registry = (IReplicaRegistry)Store;
        await registry.RegisterAsync(first, Cancellation);
        await registry.RegisterAsync(second, Cancellation);
        Assert.Equal([first, second], await ReadAsync());

        var renewed = first with { Until = until.AddSeconds(5), Load = 1, Queue = 12 };
        await registry.RegisterAsync(renewed, Cancellation);
        Assert.Equal([renewed, second], await ReadAsync());

        await registry.UnregisterAsync(second.Address, Cancellation);
        await registry.UnregisterAsync(second.Address, Cancellation);
        Assert.Equal([renewed], await ReadAsync());
        await registry.UnregisterAsync(first.Address, Cancellation);
        Assert.Empty(await ReadAsync());

        async Task<Registration[]> ReadAsync() => [.. (await ((IReplicaRegistry)Open()).ReadReplicasAsync(Cancellation)).Where(replica => replica.Address.Host == $"{name}.example").OrderBy(replica => replica.Address.Port)];
    }
}
