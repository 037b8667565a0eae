using System.Buffers.Binary;
using System.Numerics;

namespace Skiff.Ranking;

/// <summary>
/// Names to numbers as Vowpal Wabbit makes them (its <c>--hash strings</c> with <c>--chain_hash</c>): MurmurHash3 of 32 bits, a feature's hash seeded with its namespace's, that of a text value with its name's.
/// A name of digits alone is its own number, added to the seed. Whoever knows Vowpal Wabbit's <c>--audit</c> finds the same indices.
/// </summary>
internal static class VowpalHash
{
    /// <summary>What the first of two crossed features is multiplied with before the second is mixed in: the 32-bit prime of Fowler, Noll and Vo.</summary>
    private const uint Prime = 16777619;

    /// <summary>The hash of a name under a seed: of a namespace under 0, of a feature under its namespace, of a text value under its feature.</summary>
    public static uint Hash(ReadOnlySpan<byte> name, uint seed)
    {
        while (name is [<= (byte)' ', ..]) name = name[1..];
        while (name is [.., <= (byte)' ']) name = name[..^1];
        var number = 0u;
        foreach (var letter in name)
        {
            if (letter is < (byte)'0' or > (byte)'9') return Murmur(name, seed);
            number = 10 * number + (letter - (uint)'0');
        }
        return number + seed;
    }

    /// <summary>The index of two features together.</summary>
    public static uint Cross(uint first, uint second) => (Prime * first) ^ second;

    /// <summary>MurmurHash3_x86_32 (Austin Appleby, in the public domain).</summary>
    public static uint Murmur(ReadOnlySpan<byte> bytes, uint seed)
    {
        const uint c1 = 0xcc9e2d51, c2 = 0x1b873593;
        var hash = seed;
        var length = (uint)bytes.Length;
        for (; bytes.Length >= sizeof(uint); bytes = bytes[sizeof(uint)..])
        {
            hash ^= BitOperations.RotateLeft(BinaryPrimitives.ReadUInt32LittleEndian(bytes) * c1, 15) * c2;
            hash = BitOperations.RotateLeft(hash, 13) * 5 + 0xe6546b64;
        }
        var rest = 0u;
        for (var i = bytes.Length - 1; i >= 0; i--) rest = rest << 8 | bytes[i];
        hash ^= BitOperations.RotateLeft(rest * c1, 15) * c2;
        hash ^= length;
        hash = (hash ^ (hash >> 16)) * 0x85ebca6b;
        hash = (hash ^ (hash >> 13)) * 0xc2b2ae35;
        return hash ^ (hash >> 16);
    }
}
