using System.Buffers.Binary;

namespace Skiff.Ranking;

/// <summary>A vector of which few numbers are not 0.</summary>
/// <param name="Indices">Rising.</param>
public sealed record SparseVector(int[] Indices, float[] Values)
{
    private const int BytesEach = sizeof(int) + sizeof(float);

    public int Count => Indices.Length;

    /// <summary>Adds up what is at the same index, and scales to length 1; the zero vector stays.</summary>
    internal static SparseVector FromFeatures(List<(int Index, float Value)> features)
    {
        features.Sort((a, b) => a.Index.CompareTo(b.Index));
        var indices = new int[features.Count];
        var values = new float[features.Count];
        var count = 0;
        foreach (var (index, value) in features)
        {
            if (count > 0 && indices[count - 1] == index) values[count - 1] += value;
            else (indices[count], values[count++]) = (index, value);
        }
        Array.Resize(ref indices, count);
        Array.Resize(ref values, count);
        return new SparseVector(indices, values).Scaled();
    }

    /// <summary>This less another.</summary>
    internal SparseVector Minus(SparseVector other)
    {
        var differences = new List<(int, float)>(Count + other.Count);
        for (int i = 0, j = 0; i < Count || j < other.Count;)
        {
            var (mine, theirs) = (i < Count ? Indices[i] : int.MaxValue, j < other.Count ? other.Indices[j] : int.MaxValue);
            var value = (mine <= theirs ? Values[i] : 0) - (theirs <= mine ? other.Values[j] : 0);
            if (value != 0) differences.Add((Math.Min(mine, theirs), value));
            if (mine <= theirs) i++;
            if (theirs <= mine) j++;
        }
        return new SparseVector([.. differences.Select(pair => pair.Item1)], [.. differences.Select(pair => pair.Item2)]);
    }

    /// <summary>Index and value by turns, 8 little-endian bytes each.</summary>
    internal byte[] ToBytes()
    {
        var bytes = new byte[Count * BytesEach];
        for (var i = 0; i < Count; i++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(i * BytesEach), Indices[i]);
            BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(i * BytesEach + sizeof(int)), Values[i]);
        }
        return bytes;
    }

    /// <exception cref="FormatException">The bytes are no such vector.</exception>
    internal static SparseVector Read(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length % BytesEach != 0) throw new FormatException($"{bytes.Length} bytes are no pairs of index and value");
        var vector = new SparseVector(new int[bytes.Length / BytesEach], new float[bytes.Length / BytesEach]);
        for (var i = 0; i < vector.Count; i++)
        {
            vector.Indices[i] = BinaryPrimitives.ReadInt32LittleEndian(bytes[(i * BytesEach)..]);
            vector.Values[i] = BinaryPrimitives.ReadSingleLittleEndian(bytes[(i * BytesEach + sizeof(int))..]);
            if (vector.Indices[i] < 0 || !float.IsFinite(vector.Values[i])) throw new FormatException("an index below 0 or a value that is not finite");
        }
        return vector;
    }

    private SparseVector Scaled()
    {
        var length = Math.Sqrt(Values.Sum(value => (double)value * value));
        if (length > 0)
        {
            foreach (ref var value in Values.AsSpan()) value = (float)(value / length);
        }
        return this;
    }
}
