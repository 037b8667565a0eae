namespace Skiff.Models;

/// <summary>Element types of the Open Inference Protocol, in the order in which the protocol lists them.</summary>
public enum DataType : byte
{
    Bool,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bytes,
    Bf16,
}

/// <summary>Names and sizes of <see cref="DataType"/> on the wire.</summary>
public static class DataTypes
{
    private static readonly string[] Names =
        ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16"];

    private static readonly int[] Sizes = [1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0, 2];

    /// <summary>The names that <see cref="TryParse(string, out DataType)"/> takes, for error messages.</summary>
    public static string Allowed { get; } = string.Join(", ", Names);

    /// <summary>The protocol's name, for example <c>FP32</c>.</summary>
    public static string WireName(this DataType type) => Names[(int)type];

    /// <summary>Bytes an element; 0 for <see cref="DataType.Bytes"/>, whose elements each have their own length.</summary>
    public static int Size(this DataType type) => Sizes[(int)type];

    public static bool TryParse(string name, out DataType type)
    {
        var index = Array.IndexOf(Names, name);
        type = (DataType)Math.Max(index, 0);
        return index >= 0;
    }

    public static bool TryParse(ReadOnlySpan<byte> utf8, out DataType type)
    {
        for (var i = 0; i < Names.Length; i++)
        {
            if (System.Text.Ascii.Equals(utf8, Names[i]))
            {
                type = (DataType)i;
                return true;
            }
        }
        type = default;
        return false;
    }
}
