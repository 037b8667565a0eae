using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using System.Security.Cryptography;

namespace Skiff.Caching;

/// <summary>
/// Hashes rows of equal length to 32 bytes: four passes of NH under Toeplitz-shifted keys (UMAC, Black et al. 1999). Whichever two rows somebody chooses, they meet with a probability of at most 2⁻¹²⁸ over
/// the key, which is random, this process's own, and shows in no answer. At 3 KB that is proven for a tenth of what SHA-256 costs, which would be most of a hit.
/// </summary>
internal static class RowHash
{
    /// <summary>Longer rows are hashed by SHA-256: the key would grow with them, and what their models take dwarfs it.</summary>
    public const int MostBytes = 1 << 16;

    private const int Passes = 4;

    // A pass begins a pair of words further on than the one before.
    private static readonly ulong[] s_key = MemoryMarshal.Cast<byte, ulong>(RandomNumberGenerator.GetBytes(MostBytes + Passes * sizeof(ulong)).AsSpan()).ToArray();

    public static void Hash(ReadOnlySpan<byte> row, Span<ulong> hash)
    {
        if (row.Length > MostBytes) SHA256.HashData(row, MemoryMarshal.AsBytes(hash));
        else if (Avx2.IsSupported) HashWide(row, hash);
        else HashPairs(row, s_key, hash);
    }

    /// <summary>Σ (m₂ᵢ + k₂ᵢ mod 2³²)(m₂ᵢ₊₁ + k₂ᵢ₊₁ mod 2³²) mod 2⁶⁴, a pass a word of the result. Added to what is there.</summary>
    internal static void HashPairs(ReadOnlySpan<byte> row, ReadOnlySpan<ulong> key, Span<ulong> hash)
    {
        Span<byte> last = stackalloc byte[sizeof(ulong)];
        for (var pair = 0; !row.IsEmpty; pair++)
        {
            // The end is filled up with zeros, which still tells rows of one length apart.
            var bytes = Math.Min(row.Length, last.Length);
            if (bytes < last.Length) row.CopyTo(last);
            var message = BinaryPrimitives.ReadUInt64LittleEndian(bytes < last.Length ? last : row);
            for (var pass = 0; pass < Passes; pass++)
            {
                var k = key[pair + pass];
                hash[pass] += (ulong)((uint)message + (uint)k) * ((uint)(message >> 32) + (uint)(k >> 32));
            }
            row = row[bytes..];
        }
    }

    internal static void HashWide(ReadOnlySpan<byte> row, Span<ulong> hash)
    {
        Vector256<ulong> a = default, b = default, c = default, d = default;
        ref var key = ref MemoryMarshal.GetArrayDataReference(s_key);
        var wide = MemoryMarshal.Cast<byte, ulong>(row);
        var pair = 0;
        for (; pair + Vector256<ulong>.Count <= wide.Length; pair += Vector256<ulong>.Count)
        {
            var message = Vector256.Create(wide.Slice(pair)).AsUInt32();
            a += Products(message, Vector256.LoadUnsafe(ref key, (nuint)pair));
            b += Products(message, Vector256.LoadUnsafe(ref key, (nuint)pair + 1));
            c += Products(message, Vector256.LoadUnsafe(ref key, (nuint)pair + 2));
            d += Products(message, Vector256.LoadUnsafe(ref key, (nuint)pair + 3));
        }
        (hash[0], hash[1], hash[2], hash[3]) = (Vector256.Sum(a), Vector256.Sum(b), Vector256.Sum(c), Vector256.Sum(d));
        HashPairs(row[(pair * sizeof(ulong))..], s_key.AsSpan(pair), hash);
    }

    /// <summary>For tests: the same without vectors.</summary>
    internal static void HashNarrow(ReadOnlySpan<byte> row, Span<ulong> hash) => HashPairs(row, s_key, hash);

    private static Vector256<ulong> Products(Vector256<uint> message, Vector256<ulong> key)
    {
        var sums = message + key.AsUInt32();
        return Avx2.Multiply(sums, (sums.AsUInt64() >> 32).AsUInt32());
    }
}
