namespace Skiff.Models;

/// <summary>How a field's value is laid out; 3 and 4 were groups, which ONNX never had.</summary>
internal enum WireType
{
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

/// <summary>
/// Protobuf's wire format, without a schema. Stricter than the specification where parsers are known to differ: a file that two of them could read
/// differently is refused, so that what was checked here is what runs.
/// </summary>
internal ref struct ProtobufReader(ReadOnlySpan<byte> bytes)
{
    private const int LongestVarint = 10;

    private ReadOnlySpan<byte> _rest = bytes;

    public readonly bool AtEnd => _rest.IsEmpty;

    public (int Number, WireType Wire) ReadTag()
    {
        var tag = ReadVarint();
        if (tag is < 8 or > uint.MaxValue)
            throw new ModelRejectedException($"The file is damaged or not ONNX: {tag >> 3} is no protobuf field number.");
        var wire = (int)(tag & 7);
        if (wire is not ((int)WireType.Varint or (int)WireType.Fixed64 or (int)WireType.Length or (int)WireType.Fixed32))
            throw new ModelRejectedException($"The file is damaged or not ONNX: field {tag >> 3} has protobuf wire type {wire}; ONNX has 0, 1, 2 and 5, and no groups.");
        return ((int)(tag >> 3), (WireType)wire);
    }

    /// <summary>
    /// The bytes of a field's value: what follows the length, or the encoded number itself. So a number that stands alone reads like a packed list of one.
    /// </summary>
    public ReadOnlySpan<byte> ReadValue(WireType wire)
    {
        var before = _rest;
        switch (wire)
        {
            case WireType.Varint:
                ReadVarint();
                return before[..^_rest.Length];
            case WireType.Fixed32:
                return Take(sizeof(uint));
            case WireType.Fixed64:
                return Take(sizeof(ulong));
            default:
                return Take(ReadVarint());
        }
    }

    public ulong ReadVarint()
    {
        var value = 0UL;
        for (var i = 0; i < LongestVarint; i++)
        {
            if (i == _rest.Length)
                throw new ModelRejectedException("The file is truncated or damaged: it ends inside a number.");
            var part = _rest[i];
            value |= (ulong)(part & 0x7F) << (7 * i);
            if (part >= 0x80)
                continue;
            var overflows = i == LongestVarint - 1 && part > 1;
            var padded = i > 0 && part == 0;
            if (overflows || padded)
                break;
            _rest = _rest[(i + 1)..];
            return value;
        }
        throw new ModelRejectedException("The file is damaged or not ONNX: a number (varint) is written in more bytes than it takes.");
    }

    private ReadOnlySpan<byte> Take(ulong count)
    {
        if (count > (ulong)_rest.Length)
            throw new ModelRejectedException($"The file is truncated or damaged: a field of {count} bytes starts {_rest.Length} bytes before its end.");
        var taken = _rest[..(int)count];
        _rest = _rest[(int)count..];
        return taken;
    }
}
