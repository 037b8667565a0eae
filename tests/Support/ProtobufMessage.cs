using System.Buffers.Binary;
using System.Text;

namespace Skiff.Support;

/// <summary>Writes one protobuf message, field by field and as wrong as a test wants it.</summary>
public sealed class ProtobufMessage
{
    private readonly MemoryStream _bytes = new();

    public byte[] ToArray() => _bytes.ToArray();

    public ProtobufMessage Integer(int field, long value) => Tag(field, wire: 0).Varint((ulong)value);

    public ProtobufMessage Float(int field, float value)
    {
        Tag(field, wire: 5);
        Span<byte> bytes = stackalloc byte[sizeof(float)];
        BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        return Raw(bytes);
    }

    public ProtobufMessage Bytes(int field, ReadOnlySpan<byte> value) => Tag(field, wire: 2).Varint((ulong)value.Length).Raw(value);

    public ProtobufMessage Text(int field, string value) => Bytes(field, Encoding.UTF8.GetBytes(value));

    public ProtobufMessage Texts(int field, IEnumerable<string> values)
    {
        foreach (var value in values)
            Text(field, value);
        return this;
    }

    public ProtobufMessage Message(int field, ProtobufMessage value) => Bytes(field, value.ToArray());

    public ProtobufMessage Message(int field, Action<ProtobufMessage> write)
    {
        var value = new ProtobufMessage();
        write(value);
        return Message(field, value);
    }

    /// <summary>A packed list.</summary>
    public ProtobufMessage Integers(int field, params ReadOnlySpan<long> values)
    {
        var list = new ProtobufMessage();
        foreach (var value in values)
            list.Varint((ulong)value);
        return Message(field, list);
    }

    /// <summary>A packed list.</summary>
    public ProtobufMessage Floats(int field, params ReadOnlySpan<float> values)
    {
        var bytes = new byte[values.Length * sizeof(float)];
        for (var i = 0; i < values.Length; i++)
            BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(i * sizeof(float)), values[i]);
        return Bytes(field, bytes);
    }

    public ProtobufMessage Tag(int field, int wire) => Varint((ulong)field << 3 | (uint)wire);

    public ProtobufMessage Varint(ulong value)
    {
        for (; value >= 0x80; value >>= 7)
            _bytes.WriteByte((byte)(value | 0x80));
        _bytes.WriteByte((byte)value);
        return this;
    }

    public ProtobufMessage Raw(params ReadOnlySpan<byte> bytes)
    {
        _bytes.Write(bytes);
        return this;
    }
}
