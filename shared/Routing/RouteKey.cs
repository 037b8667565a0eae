using System.Numerics;
using System.Runtime.InteropServices;

namespace Skiff.Routing;

/// <summary>
/// What a request is routed by: a user, so that its head and its cached answers are where it lands, or a model, so that it is loaded in few places. A hash that is the same in every process
/// and on every machine, since all callers of a tier must agree without talking. It is no secret and resists no attacker: who makes keys collide fills one replica up to its bound.
/// </summary>
public static class RouteKey
{
    private const ulong Multiplier = 0x9E3779B97F4A7C15;

    public static ulong OfUser(string tenant, string app, string user) => Of(tenant, app, user);

    public static ulong OfModel(string tenant, string model) => Of(tenant, model);

    /// <summary>Of what is asked: the same again comes to the same place, where the answer may be kept.</summary>
    public static ulong OfContent(ReadOnlySpan<byte> content) => Finish(AddAll(Multiplier, content));

    /// <summary>The end of a hash: every bit of the result depends on every bit of <paramref name="z"/> (Steele, Lea, Flood 2014).</summary>
    internal static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>Each part with its length, so that no two lists of parts are one text. Never 0, which means none.</summary>
    internal static ulong Of(params ReadOnlySpan<string> parts)
    {
        var hash = Multiplier;
        foreach (var part in parts)
        {
            hash = AddAll(Add(hash, (ulong)part.Length), MemoryMarshal.AsBytes(part.AsSpan()));
        }
        return Finish(hash);
    }

    private static ulong AddAll(ulong hash, ReadOnlySpan<byte> rest)
    {
        for (; rest.Length >= sizeof(ulong); rest = rest[sizeof(ulong)..]) hash = Add(hash, System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(rest));
        if (rest.IsEmpty) return hash;
        var last = 0UL;
        for (var i = rest.Length; i-- > 0;) last = last << 8 | rest[i];
        return Add(hash, last);
    }

    private static ulong Finish(ulong hash)
    {
        hash = Mix(hash);
        return hash == 0 ? 1 : hash;
    }

    private static ulong Add(ulong hash, ulong value) => BitOperations.RotateLeft((hash ^ value) * Multiplier, 29) * 0xD6E8FEB86659FD93;
}
