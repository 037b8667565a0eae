using System.Buffers.Binary;
using System.IO.Compression;

namespace Skiff.Support;

/// <summary>An idx file of bytes, the format of MNIST: magic 0, 0, 8, dimensions; each dimension as a big-endian int32; the bytes.</summary>
public sealed record Idx(int[] Shape, byte[] Values)
{
    /// <summary>How many items the first dimension counts.</summary>
    public int Count => Shape[0];

    public ReadOnlySpan<byte> this[int item] => Values.AsSpan(item * (Values.Length / Count), Values.Length / Count);

    /// <summary>Reads a gzipped idx file.</summary>
    public static Idx Read(string path)
    {
        using var stream = new GZipStream(File.OpenRead(path), CompressionMode.Decompress);
        Span<byte> four = stackalloc byte[4];
        stream.ReadExactly(four);
        if (four is not [0, 0, 8, var dimensions]) throw new InvalidDataException($"{path} is not an idx file of bytes");
        var shape = new int[dimensions];
        for (var i = 0; i < dimensions; i++)
        {
            stream.ReadExactly(four);
            shape[i] = BinaryPrimitives.ReadInt32BigEndian(four);
        }
        var values = new byte[shape.Aggregate(1, (product, dimension) => product * dimension)];
        stream.ReadExactly(values);
        return new Idx(shape, values);
    }
}
