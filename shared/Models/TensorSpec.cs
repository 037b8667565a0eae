namespace Skiff.Models;

/// <summary>A model's input or output: -1 in <paramref name="Shape"/> is a dimension that the caller chooses, such as the number of rows.</summary>
public sealed record TensorSpec(string Name, DataType Type, long[] Shape)
{
    /// <summary>Whether a tensor of this shape is one that the model takes: the same rank, and the same size wherever the model fixes one.</summary>
    public bool Takes(ReadOnlySpan<long> shape)
    {
        if (shape.Length != Shape.Length) return false;
        for (var i = 0; i < shape.Length; i++)
        {
            if (Shape[i] >= 0 && Shape[i] != shape[i]) return false;
        }
        return true;
    }

    public override string ToString() => $"'{Name}' {Type.WireName()} {Shapes.Format(Shape)}";
}

public static class Shapes
{
    /// <summary>For messages: <c>[-1,1,28,28]</c>.</summary>
    public static string Format(ReadOnlySpan<long> shape) => "[" + string.Join(",", shape.ToArray()) + "]";

    /// <summary>Elements of a shape without negative dimensions, or -1 when there are more than fit a <see cref="long"/>.</summary>
    public static long Count(ReadOnlySpan<long> shape)
    {
        // A zero anywhere makes the product zero, however large the rest is.
        if (shape.Contains(0)) return 0;
        var count = 1L;
        foreach (var dimension in shape)
        {
            if (Math.BigMul(count, dimension, out var low) != 0 || low < 0) return -1;
            count = low;
        }
        return count;
    }
}
