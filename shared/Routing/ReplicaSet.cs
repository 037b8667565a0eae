namespace Skiff.Routing;

/// <summary>
/// Who there is, at one moment: immutable, replaced as a whole. The same addresses give the same owners in every process, whatever their order. One replica more or less moves only the slots that it
/// gains or gives up: of N it owns 1/N, ± √(N / 2²⁰) of that (0.8% at 64, 3% at 1,000).
/// </summary>
public sealed class ReplicaSet
{
    public const int MostReplicas = ushort.MaxValue;

    /// <summary>Up to here all are asked about a slot; beyond, owners come from a table (2 MB) that takes tens of milliseconds to fill.</summary>
    internal const int MostWithoutTable = 64;

    private readonly Replica[] _replicas;
    private readonly SlotOrder[] _orders;
    private readonly ushort[]? _owners;

    private ReplicaSet(Replica[] replicas)
    {
        _replicas = replicas;
        _orders = [.. replicas.Select(replica => new SlotOrder(RouteKey.Of(replica.Name)))];
        if (replicas.Length > MostWithoutTable) _owners = Owners(_orders);
    }

    public static ReplicaSet Empty { get; } = new([]);

    public int Count => _replicas.Length;

    public ReadOnlySpan<Replica> Replicas => _replicas;

    /// <param name="before">Replicas that stay keep what is known of them.</param>
    /// <exception cref="ArgumentException">There are more than <see cref="MostReplicas"/>.</exception>
    public static ReplicaSet Of(IEnumerable<Uri> addresses, RouterOptions options, ReplicaSet? before = null)
    {
        var known = (before ?? Empty)._replicas.ToDictionary(replica => replica.Name);
        Replica[] replicas = [.. addresses.Select(address => address.GetLeftPart(UriPartial.Authority)).Distinct().Order(StringComparer.Ordinal)
            .Select(name => known.GetValueOrDefault(name) ?? new Replica(new Uri(name), options))];
        return replicas.Length <= MostReplicas ? new ReplicaSet(replicas) : throw new ArgumentException($"there are {replicas.Length} replicas; at most {MostReplicas} are routed to");
    }

    /// <returns>The index of the replica that a slot belongs to, whether it can take anything or not.</returns>
    internal int Owner(uint slot)
    {
        if (_owners is not null) return _owners[slot];
        var (owner, best) = (-1, uint.MaxValue);
        for (var i = 0; i < _orders.Length; i++)
        {
            var rank = _orders[i].Rank(slot);
            if (rank < best) (owner, best) = (i, rank);
        }
        return owner;
    }

    internal bool HasTable => _owners is not null;

    internal uint Rank(int replica, uint slot) => _orders[replica].Rank(slot);

    /// <summary>Each replica in turn takes the next of its slots that nobody had: M ln M steps for M slots, however many replicas. Equal ranks go to the first by name, as in <see cref="Owner"/>.</summary>
    private static ushort[] Owners(SlotOrder[] orders)
    {
        var owners = new ushort[SlotOrder.Slots];
        Array.Fill(owners, ushort.MaxValue);
        var free = SlotOrder.Slots;
        for (uint rank = 0; free > 0; rank++)
        {
            for (var i = 0; i < orders.Length; i++)
            {
                ref var owner = ref owners[orders[i].SlotAt(rank)];
                if (owner != ushort.MaxValue) continue;
                owner = (ushort)i;
                free--;
            }
        }
        return owners;
    }
}
