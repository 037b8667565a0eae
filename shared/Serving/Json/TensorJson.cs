using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using Skiff.Models;

namespace Skiff.Serving.Json;

/// <summary>
/// Reads the <c>data</c> of a tensor, in row-major order, straight into the binary form that the protocol and the models share. Arrays nested as deep as the shape
/// must mirror it. Any other nesting, flat data among it, is only grouping, as other servers have it: the elements are counted and nothing else.
/// <c>what</c> names the tensor in messages, for example <c>input 'x'</c>.
/// </summary>
internal static class TensorJson
{
    /// <summary>Reads elements of a fixed size, little-endian: any type but <see cref="DataType.Bytes"/> and <see cref="DataType.Bf16"/>, which JSON does not carry.</summary>
    /// <param name="destination">Room for exactly the elements of <paramref name="shape"/>.</param>
    public static void Read(ref JsonCursor cursor, DataType type, ReadOnlySpan<long> shape, Span<byte> destination, string what)
    {
        switch (type)
        {
            case DataType.Fp32:
                var floats = new Floats(destination, what);
                ReadTensor(ref cursor, ref floats, shape, what);
                break;
            case DataType.Bf16:
                throw RequestException.Invalid($"{what}: BF16 travels in binary only");
            default:
                var elements = new FixedSize(type, destination, what);
                ReadTensor(ref cursor, ref elements, shape, what);
                break;
        }
    }

    /// <summary>Reads elements of <see cref="DataType.Bytes"/>: each becomes the length of its UTF-8, four bytes little-endian, and the UTF-8. Returns the bytes written.</summary>
    public static int ReadStrings(ref JsonCursor cursor, ReadOnlySpan<long> shape, IBufferWriter<byte> destination, string what)
    {
        var strings = new Strings(destination, what);
        ReadTensor(ref cursor, ref strings, shape, what);
        return strings.Written;
    }

    /// <summary>What is done with the elements, in order.</summary>
    private interface IElements
    {
        /// <summary>Reads as many of the next <paramref name="most"/> elements, each with the comma after it, as a tight loop can take, and returns how many: 0 is fine.</summary>
        long ReadRun(ref JsonCursor cursor, long index, long most);

        /// <summary>Reads one element, or says what is wrong with it.</summary>
        void Read(ref JsonCursor cursor, long index);
    }

    private static void ReadTensor<TElements>(ref JsonCursor cursor, ref TElements elements, ReadOnlySpan<long> shape, string what)
        where TElements : struct, IElements, allows ref struct
    {
        if (shape.IsEmpty && cursor.Peek() != JsonKind.Array)
        {
            elements.Read(ref cursor, 0);
            return;
        }
        if (shape.Length > 1 && Depth(ref cursor, what) == shape.Length)
        {
            Span<long> place = stackalloc long[JsonCursor.MaxDepth];
            ReadNested(ref cursor, ref elements, shape, place, 0, 0, what);
            return;
        }
        var expected = Product(shape);
        var found = ReadGroup(ref cursor, ref elements, 0, expected, what);
        if (found != expected)
            throw RequestException.Invalid($"{what} of shape {Show(shape)} takes {Plural(expected, "value")}; data has {found}");
    }

    /// <summary>How many arrays open before the first element.</summary>
    private static int Depth(ref JsonCursor cursor, string what)
    {
        var start = cursor.Mark();
        var depth = 0;
        do
        {
            cursor.BeginArray(what);
            depth++;
        }
        while (cursor.NextElement() && cursor.Peek() == JsonKind.Array);
        cursor.Return(start);
        return depth;
    }

    /// <summary>Reads an array of elements, or of such arrays, and returns how many elements it has: those beyond <paramref name="expected"/> are only counted.</summary>
    private static long ReadGroup<TElements>(ref JsonCursor cursor, ref TElements elements, long index, long expected, string what)
        where TElements : struct, IElements, allows ref struct
    {
        if (Depth(ref cursor, what) == 1)
            return ReadRow(ref cursor, ref elements, index, expected, what);
        long found = 0;
        cursor.BeginArray(what);
        while (cursor.NextElement())
            found += ReadGroup(ref cursor, ref elements, index + found, Math.Max(expected - found, 0), what);
        return found;
    }

    /// <summary>Reads the arrays of one level, the last of which are rows of elements; returns the index after their last element.</summary>
    /// <param name="place">Where this array stands: its index in each of the <paramref name="level"/> levels around it.</param>
    private static long ReadNested<TElements>(
        ref JsonCursor cursor, ref TElements elements, ReadOnlySpan<long> shape, scoped Span<long> place, int level, long index, string what)
        where TElements : struct, IElements, allows ref struct
    {
        var expected = shape[level];
        long found = 0;
        if (level == shape.Length - 1)
        {
            found = ReadRow(ref cursor, ref elements, index, expected, what);
            index += found;
        }
        else
        {
            cursor.BeginArray(what, "arrays nested as its shape is");
            for (; cursor.NextElement(); found++)
            {
                if (found >= expected)
                {
                    cursor.Skip();
                    continue;
                }
                place[level] = found;
                index = ReadNested(ref cursor, ref elements, shape, place, level + 1, index, what);
            }
        }
        if (found == expected)
            return index;
        var path = string.Concat(place[..level].ToArray().Select(step => $"[{step}]"));
        throw RequestException.Invalid($"{what} of shape {Show(shape)} takes {Plural(expected, level == shape.Length - 1 ? "value" : "array")} in data{path}; it has {found}");
    }

    /// <summary>Reads an array of elements and returns how many it has: those beyond <paramref name="expected"/> are only counted.</summary>
    private static long ReadRow<TElements>(ref JsonCursor cursor, ref TElements elements, long index, long expected, string what)
        where TElements : struct, IElements, allows ref struct
    {
        cursor.BeginArray(what);
        long found = 0;
        while (cursor.NextElement())
        {
            // The element before the last bracket has no comma after it, so that a run never takes it.
            if (found < expected)
                found += elements.ReadRun(ref cursor, index + found, expected - found - 1);
            if (found < expected)
                elements.Read(ref cursor, index + found);
            else
                cursor.Skip();
            found++;
        }
        return found;
    }

    private static long Product(ReadOnlySpan<long> shape)
    {
        long product = 1;
        foreach (var dimension in shape)
            product = dimension == 0 ? 0 : product > long.MaxValue / dimension ? long.MaxValue : product * dimension;
        return product;
    }

    private static string Show(ReadOnlySpan<long> numbers) => $"[{string.Join(',', numbers.ToArray())}]";

    private static string Plural(long count, string noun) => count == 1 ? $"1 {noun}" : $"{count} {noun}s";

    private static RequestException OutOfRange(string what, ReadOnlySpan<byte> literal, long index, DataType type, string bounds = "") =>
        RequestException.Invalid($"{what}: {JsonCursor.Shorten(literal)} at index {index} is out of {type.WireName()}'s range{bounds}");

    /// <summary>FP32, which is what models are mostly sent.</summary>
    private readonly ref struct Floats(Span<byte> destination, string what) : IElements
    {
        private readonly Span<byte> _destination = destination;

        public long ReadRun(ref JsonCursor cursor, long index, long most)
        {
            // As in memory: the machines that ONNX Runtime runs on are little-endian.
            return cursor.ReadSingles(MemoryMarshal.Cast<byte, float>(_destination).Slice((int)index, (int)most));
        }

        public void Read(ref JsonCursor cursor, long index)
        {
            var literal = cursor.ReadNumber(what, "numbers");
            _ = DecimalParser.ReadSingle(literal, 0, out var value);
            if (!float.IsFinite(value))
                throw OutOfRange(what, literal, index, DataType.Fp32);
            BinaryPrimitives.WriteSingleLittleEndian(_destination[((int)index * sizeof(float))..], value);
        }
    }

    /// <summary>Every other type whose elements have a size.</summary>
    private readonly ref struct FixedSize(DataType type, Span<byte> destination, string what) : IElements
    {
        private readonly Span<byte> _destination = destination;

        public long ReadRun(ref JsonCursor cursor, long index, long most) => 0;

        public void Read(ref JsonCursor cursor, long index)
        {
            var target = _destination[((int)index * type.Size())..];
            switch (type)
            {
                case DataType.Bool: target[0] = ReadBool(ref cursor, index) ? (byte)1 : (byte)0; break;
                case DataType.UInt8: ReadInteger<byte>(ref cursor, index, target); break;
                case DataType.UInt16: ReadInteger<ushort>(ref cursor, index, target); break;
                case DataType.UInt32: ReadInteger<uint>(ref cursor, index, target); break;
                case DataType.UInt64: ReadInteger<ulong>(ref cursor, index, target); break;
                case DataType.Int8: ReadInteger<sbyte>(ref cursor, index, target); break;
                case DataType.Int16: ReadInteger<short>(ref cursor, index, target); break;
                case DataType.Int32: ReadInteger<int>(ref cursor, index, target); break;
                case DataType.Int64: ReadInteger<long>(ref cursor, index, target); break;
                case DataType.Fp16: BinaryPrimitives.WriteHalfLittleEndian(target, ReadHalf(ref cursor, index)); break;
                case DataType.Fp64: BinaryPrimitives.WriteDoubleLittleEndian(target, ReadDouble(ref cursor, index)); break;
                default: throw new ArgumentOutOfRangeException(nameof(type), type, "has no elements of a fixed size that JSON carries");
            }
        }

        private bool ReadBool(ref JsonCursor cursor, long index)
        {
            const string Takes = "true, false, 1 and 0";
            if (cursor.Peek() != JsonKind.Number)
                return cursor.ReadBoolean(what, Takes);
            var literal = cursor.ReadNumber();
            return literal switch
            {
                [(byte)'0'] => false,
                [(byte)'1'] => true,
                _ => throw RequestException.Invalid($"{what} takes {Takes}; found {JsonCursor.Shorten(literal)} at index {index}"),
            };
        }

        private void ReadInteger<T>(ref JsonCursor cursor, long index, Span<byte> target)
            where T : struct, IBinaryInteger<T>, IMinMaxValue<T>
        {
            var literal = cursor.ReadNumber(what, "integers");
            if (T.TryParse(literal, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value))
                value.WriteLittleEndian(target);
            else if (literal.ContainsAny(".eE"u8))
                throw RequestException.Invalid($"{what} takes integers; {JsonCursor.Shorten(literal)} at index {index} has a fraction or an exponent");
            else
                throw OutOfRange(what, literal, index, type, $", {T.MinValue} to {T.MaxValue}");
        }

        private Half ReadHalf(ref JsonCursor cursor, long index)
        {
            var literal = cursor.ReadNumber(what, "numbers");
            var value = Half.Parse(literal, NumberStyles.Float, CultureInfo.InvariantCulture);
            return Half.IsFinite(value) ? value : throw OutOfRange(what, literal, index, type);
        }

        private double ReadDouble(ref JsonCursor cursor, long index)
        {
            var literal = cursor.ReadNumber(what, "numbers");
            _ = DecimalParser.ReadDouble(literal, 0, out var value);
            return double.IsFinite(value) ? value : throw OutOfRange(what, literal, index, type);
        }
    }

    private ref struct Strings(IBufferWriter<byte> destination, string what) : IElements
    {
        public int Written { get; private set; }

        public readonly long ReadRun(ref JsonCursor cursor, long index, long most) => 0;

        public void Read(ref JsonCursor cursor, long index)
        {
            var text = cursor.ReadUtf8String(what, "strings");
            var size = sizeof(uint) + text.Length;
            var target = destination.GetSpan(size);
            BinaryPrimitives.WriteUInt32LittleEndian(target, (uint)text.Length);
            text.CopyTo(target[sizeof(uint)..]);
            destination.Advance(size);
            Written += size;
        }
    }
}
