using System.Text.Unicode;

namespace Skiff.Models;

/// <summary>
/// The fields of one message, in the order of the file, each checked against <see cref="OnnxSchema"/>. A field that should stand once and stands twice is
/// refused: parsers take the last, the first or both together.
/// </summary>
internal ref struct MessageReader(ReadOnlySpan<byte> bytes, OnnxMessage message)
{
    /// <summary>Far beyond any real name; what is longer would only be copied around.</summary>
    private const int LongestName = 1 << 16;

    private ProtobufReader _reader = new(bytes);
    private OnnxField _field;
    private uint _seen; // one bit a field number; ONNX has none above 30

    public readonly string Name => _field.Name;

    /// <summary>The message that the field holds; None where it holds something else.</summary>
    public readonly OnnxMessage Of => _field.Of;

    /// <summary>The field's contents; of a repeated number, the numbers one after the other.</summary>
    public ReadOnlySpan<byte> Bytes { get; private set; }

    /// <summary>The value of a number that stands once.</summary>
    public readonly long Integer => (long)new ProtobufReader(Bytes).ReadVarint();

    /// <summary>How many values this occurrence of a repeated field holds: a packed number can hold many.</summary>
    public int Count { get; private set; }

    public bool Next()
    {
        while (!_reader.AtEnd)
        {
            var (number, wire) = _reader.ReadTag();
            Bytes = _reader.ReadValue(wire);
            if (OnnxSchema.Find(message, number) is not { } field)
                continue;
            _field = field;
            CheckOnce(number);
            CheckWire(wire);
            CheckValue();
            return true;
        }
        return false;
    }

    private void CheckOnce(int number)
    {
        var bit = 1u << number;
        if (!_field.Repeated && (_seen & bit) != 0)
            throw new ModelRejectedException($"{message} has two of {Name}, which may stand only once.");
        _seen |= bit;
    }

    private readonly void CheckWire(WireType wire)
    {
        var expected = _field.Kind switch
        {
            FieldKind.Integer or FieldKind.Code => WireType.Varint,
            FieldKind.Float32 => WireType.Fixed32,
            FieldKind.Float64 => WireType.Fixed64,
            _ => WireType.Length,
        };
        var packed = _field.Repeated && wire == WireType.Length;
        if (wire != expected && !packed)
            throw new ModelRejectedException($"{message}.{Name} is encoded as {wire}, not as {expected}: the file is damaged or not ONNX.");
    }

    private void CheckValue()
    {
        Count = _field.Kind switch
        {
            FieldKind.Integer or FieldKind.Code => CountVarints(),
            FieldKind.Float32 => CountFixed(sizeof(float)),
            FieldKind.Float64 => CountFixed(sizeof(double)),
            _ => 1,
        };
        // Parsers cut such a number to 32 bits: 2³² + 1 would be one thing here and EXTERNAL there.
        if (_field.Kind == FieldKind.Code && Integer is < int.MinValue or > int.MaxValue)
            throw new ModelRejectedException($"{message}.{Name} is {Integer}, which does not fit its 32 bits.");
        if (_field.Kind == FieldKind.Name && Bytes.Length > LongestName)
            throw new ModelRejectedException($"{message}.{Name} has {Bytes.Length} bytes; the limit is {LongestName}.");
        if (_field.Kind == FieldKind.Name && !Utf8.IsValid(Bytes))
            throw new ModelRejectedException($"{message}.{Name} is not valid UTF-8.");
    }

    private readonly int CountVarints()
    {
        var count = 0;
        for (var numbers = new ProtobufReader(Bytes); !numbers.AtEnd; count++)
            numbers.ReadVarint();
        return count;
    }

    private readonly int CountFixed(int size) => Bytes.Length % size == 0
        ? Bytes.Length / size
        : throw new ModelRejectedException($"{message}.{Name} has {Bytes.Length} bytes, which is no multiple of {size}.");
}
