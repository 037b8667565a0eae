using System.Globalization;

namespace Skiff.Routing;

/// <summary>What a replica says in the state store: that it is there, for how long that counts, and how it is.</summary>
/// <param name="Address">Where callers reach it.</param>
/// <param name="Until">By the clocks of all: they must agree within a few seconds.</param>
/// <param name="Load">As in <see cref="ReplicaReport"/>.</param>
/// <param name="Warm">Loaded models as <see cref="ReplicaReport.WarmHeader"/> has them, at most <see cref="MostWarm"/>: a store is paid by the size of what is written.</param>
public sealed record Registration(Uri Address, DateTimeOffset Until, double Load, int Queue, string Warm, string Version)
{
    public const int MostWarm = 24;

    internal ReplicaReport Report => ReplicaReport.Parse(Load.ToString("0.###", CultureInfo.InvariantCulture), Queue.ToString(CultureInfo.InvariantCulture), Warm, Version);
}

/// <summary>Who is on the heavy tier, where replicas say so themselves. They belong to no tenant.</summary>
public interface IReplicaRegistry
{
    /// <summary>Puts a registration in the place of the one that its address had.</summary>
    /// <exception cref="Store.StoreException">The store can't be written.</exception>
    ValueTask RegisterAsync(Registration replica, CancellationToken cancellation);

    ValueTask UnregisterAsync(Uri address, CancellationToken cancellation);

    /// <returns>All of them, those whose time is over too: when they go is the store's affair.</returns>
    ValueTask<IReadOnlyList<Registration>> ReadReplicasAsync(CancellationToken cancellation);
}

/// <summary>The replicas that have registered, as long as that counts.</summary>
public sealed class RegisteredReplicas(IReplicaRegistry registry, TimeProvider time) : IReplicaSource
{
    public TimeSpan? Interval => TimeSpan.FromSeconds(5);

    public async Task<IReadOnlyList<FoundReplica>> FindAsync(CancellationToken cancellation)
    {
        var (now, replicas) = (time.GetUtcNow(), await registry.ReadReplicasAsync(cancellation));
        return [.. replicas.Where(replica => replica.Until > now).Select(replica => new FoundReplica(replica.Address, replica.Report))];
    }
}
