namespace Skiff.Models;

/// <summary>
/// An element type of TensorProto: the bits of an element, the field that takes its values when they aren't raw bytes, and the bits that one entry of that
/// field holds (a complex number takes two entries, two 4-bit numbers share one).
/// </summary>
internal sealed record ElementType(string Name, int Bits, string Field, int EntryBits, DataType? Served)
{
    private static readonly ElementType?[] Types =
    [
        null,
        new("FLOAT", 32, "float_data", 32, DataType.Fp32),
        new("UINT8", 8, "int32_data", 8, DataType.UInt8),
        new("INT8", 8, "int32_data", 8, DataType.Int8),
        new("UINT16", 16, "int32_data", 16, DataType.UInt16),
        new("INT16", 16, "int32_data", 16, DataType.Int16),
        new("INT32", 32, "int32_data", 32, DataType.Int32),
        new("INT64", 64, "int64_data", 64, DataType.Int64),
        new("STRING", 1, "string_data", 1, DataType.Bytes), // bits don't matter: raw bytes can't hold strings, and an entry is an element
        new("BOOL", 8, "int32_data", 8, DataType.Bool),
        new("FLOAT16", 16, "int32_data", 16, DataType.Fp16),
        new("DOUBLE", 64, "double_data", 64, DataType.Fp64),
        new("UINT32", 32, "uint64_data", 32, DataType.UInt32),
        new("UINT64", 64, "uint64_data", 64, DataType.UInt64),
        new("COMPLEX64", 64, "float_data", 32, null),
        new("COMPLEX128", 128, "double_data", 64, null),
        new("BFLOAT16", 16, "int32_data", 16, DataType.Bf16),
        new("FLOAT8E4M3FN", 8, "int32_data", 8, null),
        new("FLOAT8E4M3FNUZ", 8, "int32_data", 8, null),
        new("FLOAT8E5M2", 8, "int32_data", 8, null),
        new("FLOAT8E5M2FNUZ", 8, "int32_data", 8, null),
        new("UINT4", 4, "int32_data", 8, null),
        new("INT4", 4, "int32_data", 8, null),
        new("FLOAT4E2M1", 4, "int32_data", 8, null),
        new("FLOAT8E8M0", 8, "int32_data", 8, null),
        new("UINT2", 2, "int32_data", 8, null),
        new("INT2", 2, "int32_data", 8, null),
    ];

    /// <summary>The names that an input or output may have, for error messages.</summary>
    public static string Allowed { get; } = string.Join(", ", Types.Where(type => type?.Served != null).Select(type => type!.Name));

    public bool IsString => Field == "string_data";

    public static ElementType? Find(long number) => number >= 0 && number < Types.Length ? Types[number] : null;

    public UInt128 RawBytes(long elements) => DivideUp(elements, 8);

    public UInt128 Entries(long elements) => DivideUp(elements, EntryBits);

    private UInt128 DivideUp(long elements, int unit) => ((UInt128)elements * (uint)Bits + (uint)unit - 1) / (uint)unit;
}
