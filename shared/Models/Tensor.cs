namespace Skiff.Models;

/// <summary>
/// A tensor in a <see cref="TensorBuffer"/>: elements row-major and little-endian; those of <see cref="DataType.Bytes"/> one after the other, each behind its uint32 length.
/// Reused from request to request, hence mutable.
/// </summary>
public sealed class Tensor
{
    public string Name { get; set; } = "";
    public DataType Type { get; set; }
    public long[] Shape { get; set; } = [];

    /// <summary>Where the elements start in the buffer, and their length in bytes.</summary>
    public int Offset { get; set; }

    public int Length { get; set; }

    /// <summary>Sets the shape, keeping the array where it is the same again, as it is for most requests of a model.</summary>
    public void SetShape(ReadOnlySpan<long> shape)
    {
        if (!shape.SequenceEqual(Shape)) Shape = shape.ToArray();
    }
}
