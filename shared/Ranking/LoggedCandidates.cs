using System.Buffers.Binary;
using System.Text;

namespace Skiff.Ranking;

/// <summary>What there was to choose from and all of p, as an event's message keeps it, so that other policies can be judged on the choice: for each candidate, in the caller's order, the hash of its id 4 | p 4, little-endian.</summary>
public static class LoggedCandidates
{
    private const int Width = 2 * sizeof(uint);

    public static byte[] Write(IReadOnlyList<RankAction> candidates, ReadOnlySpan<double> propensities)
    {
        var bytes = new byte[candidates.Count * Width];
        for (var i = 0; i < candidates.Count; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(i * Width), HashOf(candidates[i].Id));
            BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(i * Width + sizeof(uint)), (float)propensities[i]);
        }
        return bytes;
    }

    public static (uint[] Ids, double[] Propensities) Read(ReadOnlySpan<byte> bytes)
    {
        var (ids, propensities) = (new uint[bytes.Length / Width], new double[bytes.Length / Width]);
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(i * Width)..]);
            propensities[i] = BinaryPrimitives.ReadSingleLittleEndian(bytes[(i * Width + sizeof(uint))..]);
        }
        return (ids, propensities);
    }

    public static uint HashOf(string id) => VowpalHash.Murmur(Encoding.UTF8.GetBytes(id), 0);
}
