namespace Skiff.Models;

/// <summary>The product of a shape's dimensions, which remembers what was wrong with them instead of overflowing.</summary>
internal struct Volume()
{
    public long Elements { get; private set; } = 1;

    public string? Fault { get; private set; }

    public void Add(long dimension)
    {
        var product = (Int128)Elements * dimension;
        if (dimension < 0)
            Fault ??= $"the negative dimension {dimension}";
        else if (product > long.MaxValue)
            Fault ??= "dimensions whose product does not fit 64 bits";
        else
            Elements = (long)product;
    }

    /// <summary>One occurrence of a field <c>dims</c>.</summary>
    public void AddAll(ReadOnlySpan<byte> dims)
    {
        for (var reader = new ProtobufReader(dims); !reader.AtEnd;)
            Add((long)reader.ReadVarint());
    }
}
