namespace Skiff.Routing;

/// <summary>
/// One replica's order of preference over all slots. A key falls into one of 2²⁰ slots, and a slot belongs to the replica that ranks it best: rendezvous hashing (Thaler, Ravishankar 1998) over
/// slots instead of keys. The rank is a permutation that runs backwards too, so a replica can list its best slots; that is how <see cref="ReplicaSet"/> finds all owners without asking every
/// replica about every slot, and why a set above the limit has the same owners as one below it.
/// </summary>
internal readonly struct SlotOrder
{
    public const int Bits = 20;
    public const int Slots = 1 << Bits;

    private const uint Mask = Slots - 1;
    private const int Half = Bits / 2; // x ^ (x >> Half) undoes itself

    private readonly uint _start, _first, _second, _firstBack, _secondBack;

    public SlotOrder(ulong seed)
    {
        var bits = RouteKey.Mix(seed);
        _start = (uint)bits & Mask;
        _first = (uint)(bits >> Bits) & Mask | 1;
        _second = (uint)(bits >> 2 * Bits) & Mask | 1;
        (_firstBack, _secondBack) = (Inverse(_first), Inverse(_second));
    }

    /// <summary>The slot of a key.</summary>
    public static uint SlotOf(ulong key) => (uint)(RouteKey.Mix(key) >> (64 - Bits));

    /// <summary>0 for the slot that this replica wants most, 2²⁰ − 1 for the last.</summary>
    public uint Rank(uint slot)
    {
        var x = (slot ^ _start) * _first & Mask;
        x = (x ^ x >> Half) * _second & Mask;
        x = (x ^ x >> Half) * 0xB5297 & Mask;
        return x ^ x >> Half;
    }

    /// <summary>The slot of that rank.</summary>
    public uint SlotAt(uint rank)
    {
        var x = (rank ^ rank >> Half) * s_lastBack & Mask;
        x = (x ^ x >> Half) * _secondBack & Mask;
        x = (x ^ x >> Half) * _firstBack & Mask;
        return x ^ _start;
    }

    private static readonly uint s_lastBack = Inverse(0xB5297);

    /// <summary>Of an odd number, modulo 2²⁰: Newton's iteration doubles the bits that are right.</summary>
    private static uint Inverse(uint odd)
    {
        var inverse = odd;
        for (var bits = 3; bits < Bits; bits *= 2) inverse *= 2 - odd * inverse;
        return inverse & Mask;
    }
}
