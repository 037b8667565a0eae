using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Skiff.Models;

namespace Skiff.Hosts.Oip;

/// <summary>Elements in the protocol's binary form.</summary>
internal static class Elements
{
    public static byte[] Of<T>(params T[] values)
        where T : unmanaged => MemoryMarshal.AsBytes<T>(values).ToArray();

    public static byte[] Strings(params string[] values) => Strings(values.Select(Encoding.UTF8.GetBytes));

    public static byte[] Strings(IEnumerable<byte[]> values) => [.. values.SelectMany(value => Of((uint)value.Length).Concat(value))];

    /// <summary>The <c>data</c> of an answer, read by another parser than ours.</summary>
    public static byte[] FromJson(DataType type, JsonElement data) => [.. data.EnumerateArray().SelectMany(element => FromElement(type, element))];

    private static byte[] FromElement(DataType type, JsonElement element) => type switch
    {
        DataType.Bool => Of(element.GetBoolean()),
        DataType.UInt8 => Of(element.GetByte()),
        DataType.UInt16 => Of(element.GetUInt16()),
        DataType.UInt32 => Of(element.GetUInt32()),
        DataType.UInt64 => Of(element.GetUInt64()),
        DataType.Int8 => Of(element.GetSByte()),
        DataType.Int16 => Of(element.GetInt16()),
        DataType.Int32 => Of(element.GetInt32()),
        DataType.Int64 => Of(element.GetInt64()),
        DataType.Fp16 => Of(Half.Parse(element.GetRawText(), CultureInfo.InvariantCulture)),
        DataType.Fp32 => Of(element.GetSingle()),
        DataType.Fp64 => Of(element.GetDouble()),
        DataType.Bytes => Strings(element.GetString()!),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, null),
    };
}
