using System.Buffers.Binary;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Serving.Json;

namespace Skiff.Serving;

/// <summary>
/// Reads the Open Inference Protocol's REST request, binary extension included, into an <see cref="InferRequest"/>: numbers go from the text straight into the tensor.
/// </summary>
internal static class OipRequestReader
{
    // More dimensions, inputs and outputs than any model has: they bound what a request can make us set aside.
    private const int MaxRank = 16;
    private const int MaxTensors = 1024;

    /// <param name="jsonLength">Length of the JSON before the binary data (<c>Inference-Header-Content-Length</c>); null = the body is JSON; 0 = raw mode.</param>
    /// <exception cref="RequestException">The body is not such a request.</exception>
    public static void Read(ReadOnlySpan<byte> body, int? jsonLength, InferRequest request)
    {
        if (jsonLength == 0)
        {
            ReadRaw(body, request);
            return;
        }
        if (jsonLength > body.Length)
        {
            throw RequestException.Invalid($"Inference-Header-Content-Length is {jsonLength} and the body has only {body.Length} bytes");
        }
        var json = body[..(jsonLength ?? body.Length)];
        var binary = body[json.Length..];
        var cursor = new JsonCursor(json);
        var hasInputs = false;
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("id"u8)) request.Id = InferRequest.Reuse(request.Id ?? "", cursor.ReadUtf8String("'id'"));
            else if (name.SequenceEqual("parameters"u8)) ReadParameters(ref cursor, request);
            else if (name.SequenceEqual("inputs"u8))
            {
                if (hasInputs) throw RequestException.Invalid("'inputs' stands twice in the request");
                hasInputs = true;
                cursor.BeginArray("'inputs'");
                while (cursor.NextElement()) ReadInput(ref cursor, request, ref binary);
            }
            else if (name.SequenceEqual("outputs"u8))
            {
                cursor.BeginArray("'outputs'");
                while (cursor.NextElement()) ReadOutput(ref cursor, request);
            }
            else cursor.Skip();
        }
        cursor.End();
        if (!hasInputs) throw RequestException.Invalid("the request has no 'inputs': it takes an array of {name, shape, datatype, data}");
        if (!binary.IsEmpty)
        {
            throw RequestException.Invalid($"{binary.Length} bytes follow that no input's 'binary_data_size' speaks for");
        }
    }

    private static void ReadRaw(ReadOnlySpan<byte> body, InferRequest request)
    {
        request.IsRaw = true;
        request.BinaryOutputs = true;
        var tensor = request.AddInput();
        tensor.Length = body.Length;
        tensor.Offset = request.Buffer.Allocate(body.Length);
        body.CopyTo(request.Buffer.Span(tensor.Offset, body.Length));
    }

    private static void ReadParameters(ref JsonCursor cursor, InferRequest request)
    {
        cursor.BeginObject("'parameters'");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("binary_data_output"u8)) request.BinaryOutputs = cursor.ReadBoolean("'binary_data_output'");
            else if (name.SequenceEqual("timeout"u8))
            {
                request.TimeoutMicroseconds = cursor.ReadInt64("'timeout'");
                if (request.TimeoutMicroseconds < 0) throw RequestException.Invalid($"'timeout' is {request.TimeoutMicroseconds}; it takes microseconds, 0 for none");
            }
            else if (name.SequenceEqual("priority"u8)) request.Priority = Priorities.Check(cursor.ReadInt64("'priority'"));
            else cursor.Skip();
        }
    }

    private static void ReadOutput(ref JsonCursor cursor, InferRequest request)
    {
        if (request.OutputCount == MaxTensors) throw RequestException.Invalid($"the request asks for more than {MaxTensors} outputs");
        var output = request.AddOutput();
        output.Binary = null;
        var named = false;
        cursor.BeginObject("an element of 'outputs'");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("name"u8))
            {
                output.Name = InferRequest.Reuse(output.Name, cursor.ReadUtf8String("an output's 'name'"));
                named = true;
            }
            else if (name.SequenceEqual("parameters"u8))
            {
                cursor.BeginObject("an output's 'parameters'");
                while (cursor.NextProperty(out var parameter))
                {
                    if (parameter.SequenceEqual("binary_data"u8)) output.Binary = cursor.ReadBoolean("'binary_data'");
                    else if (parameter.SequenceEqual("classification"u8))
                    {
                        throw new RequestException(Refusal.Unsupported, "the classification extension is not supported: ask for the output and sort it");
                    }
                    else cursor.Skip();
                }
            }
            else cursor.Skip();
        }
        if (!named) throw RequestException.Invalid($"output {request.OutputCount - 1} has no 'name'");
    }

    private static void ReadInput(ref JsonCursor cursor, InferRequest request, ref ReadOnlySpan<byte> binary)
    {
        var index = request.InputCount;
        if (index == MaxTensors) throw RequestException.Invalid($"the request has more than {MaxTensors} inputs");
        var tensor = request.AddInput();
        Span<long> dimensions = stackalloc long[MaxRank];
        var rank = -1;
        var hasName = false;
        DataType? type = null;
        long? binarySize = null;
        JsonMark? data = null;
        var read = false;

        cursor.BeginObject("an element of 'inputs'");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("name"u8))
            {
                tensor.Name = InferRequest.Reuse(tensor.Name, cursor.ReadUtf8String("an input's 'name'"));
                hasName = true;
            }
            else if (name.SequenceEqual("datatype"u8)) type = ReadType(ref cursor, index);
            else if (name.SequenceEqual("shape"u8)) rank = ReadShape(ref cursor, index, dimensions);
            else if (name.SequenceEqual("parameters"u8)) binarySize = ReadInputParameters(ref cursor) ?? binarySize;
            else if (name.SequenceEqual("data"u8))
            {
                if (data is not null) throw RequestException.Invalid($"input {index} has 'data' twice");
                data = cursor.Mark();
                // Straight away where everything is known, as clients nearly always send it; otherwise on a second visit.
                if (hasName && type is not null && rank >= 0)
                {
                    ReadData(ref cursor, request, tensor, type.Value, dimensions[..rank]);
                    read = true;
                }
                else cursor.Skip();
            }
            else cursor.Skip();
        }

        if (!hasName) throw RequestException.Invalid($"input {index} has no 'name'");
        if (type is null) throw RequestException.Invalid($"input '{tensor.Name}' has no 'datatype': it takes one of {DataTypes.Allowed}");
        if (rank < 0) throw RequestException.Invalid($"input '{tensor.Name}' has no 'shape'");
        if (binarySize is { } size)
        {
            if (data is not null) throw RequestException.Invalid($"input '{tensor.Name}' has both 'data' and 'binary_data_size': it takes one of them");
            ReadBinary(ref binary, size, request, tensor, type.Value, dimensions[..rank]);
        }
        else if (data is not { } mark) throw RequestException.Invalid($"input '{tensor.Name}' has no 'data' and no 'binary_data_size'");
        else if (!read)
        {
            var after = cursor.Mark();
            cursor.Return(mark);
            ReadData(ref cursor, request, tensor, type.Value, dimensions[..rank]);
            cursor.Return(after);
        }
    }

    private static DataType ReadType(ref JsonCursor cursor, int index)
    {
        var name = cursor.ReadUtf8String("an input's 'datatype'");
        if (DataTypes.TryParse(name, out var type)) return type;
        throw RequestException.Invalid($"input {index} has the unknown datatype '{System.Text.Encoding.UTF8.GetString(name)}': it takes one of {DataTypes.Allowed}");
    }

    private static int ReadShape(ref JsonCursor cursor, int index, scoped Span<long> dimensions)
    {
        var rank = 0;
        cursor.BeginArray("an input's 'shape'");
        while (cursor.NextElement())
        {
            if (rank == dimensions.Length) throw RequestException.Invalid($"input {index} has more than {dimensions.Length} dimensions");
            var dimension = cursor.ReadInt64("a dimension of 'shape'");
            if (dimension < 0) throw RequestException.Invalid($"input {index} has the negative dimension {dimension} in its shape: a request's dimensions are 0 or more");
            dimensions[rank++] = dimension;
        }
        return rank;
    }

    private static long? ReadInputParameters(ref JsonCursor cursor)
    {
        long? size = null;
        cursor.BeginObject("an input's 'parameters'");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("binary_data_size"u8)) size = cursor.ReadInt64("'binary_data_size'");
            else cursor.Skip();
        }
        return size;
    }

    private static void ReadData(ref JsonCursor cursor, InferRequest request, Tensor tensor, DataType type, scoped ReadOnlySpan<long> shape)
    {
        var what = $"input '{tensor.Name}'";
        tensor.Type = type;
        tensor.SetShape(shape);
        if (type == DataType.Bytes)
        {
            ReadStrings(ref cursor, request, tensor, what);
            return;
        }
        var count = Shapes.Count(shape);
        // Each element takes at least a digit and a comma, so a shape that promises more than the body holds is refused before memory is set aside for it.
        if (count < 0 || count > cursor.Length) throw WrongCount(tensor, count);
        if (count * type.Size() > Array.MaxLength) throw new RequestException(Refusal.TooLarge, $"input '{tensor.Name}' takes more than {Array.MaxLength} bytes");
        tensor.Length = (int)count * type.Size();
        tensor.Offset = request.Buffer.Allocate(tensor.Length);
        TensorJson.Read(ref cursor, type, tensor.Shape, request.Buffer.Span(tensor.Offset, tensor.Length), what);
    }

    private static void ReadStrings(ref JsonCursor cursor, InferRequest request, Tensor tensor, string what)
    {
        var writer = new System.Buffers.ArrayBufferWriter<byte>();
        TensorJson.ReadStrings(ref cursor, tensor.Shape, writer, what);
        tensor.Length = writer.WrittenCount;
        tensor.Offset = request.Buffer.Allocate(tensor.Length);
        writer.WrittenSpan.CopyTo(request.Buffer.Span(tensor.Offset, tensor.Length));
    }

    private static void ReadBinary(ref ReadOnlySpan<byte> binary, long size, InferRequest request, Tensor tensor, DataType type, scoped ReadOnlySpan<long> shape)
    {
        tensor.Type = type;
        tensor.SetShape(shape);
        if (size < 0 || size > binary.Length)
        {
            throw RequestException.Invalid($"input '{tensor.Name}' has a 'binary_data_size' of {size} and {binary.Length} bytes of binary data are left in the body");
        }
        var bytes = binary[..(int)size];
        binary = binary[bytes.Length..];
        var count = Shapes.Count(shape);
        if (type == DataType.Bytes) CheckStrings(bytes, count, tensor);
        else if (count < 0 || count > int.MaxValue || count * type.Size() != size)
        {
            throw RequestException.Invalid(
                $"input '{tensor.Name}' {type.WireName()} of shape {Shapes.Format(shape)} takes {(count < 0 ? "more than 2^63" : (count * (decimal)type.Size()).ToString())} bytes; 'binary_data_size' is {size}");
        }
        if (type == DataType.Bool && bytes.ContainsAnyExcept((byte)0, (byte)1)) throw RequestException.Invalid($"input '{tensor.Name}' is BOOL: its bytes are 0 or 1");
        tensor.Length = bytes.Length;
        tensor.Offset = request.Buffer.Allocate(bytes.Length);
        bytes.CopyTo(request.Buffer.Span(tensor.Offset, bytes.Length));
    }

    private static void CheckStrings(ReadOnlySpan<byte> bytes, long expected, Tensor tensor)
    {
        var count = 0L;
        while (!bytes.IsEmpty)
        {
            if (bytes.Length < sizeof(uint) || BinaryPrimitives.ReadUInt32LittleEndian(bytes) is var length && length > bytes.Length - sizeof(uint))
            {
                throw RequestException.Invalid($"input '{tensor.Name}' is BYTES: element {count} is cut off; each is a uint32 length and that many bytes");
            }
            bytes = bytes[(sizeof(uint) + (int)length)..];
            count++;
        }
        if (count != expected) throw RequestException.Invalid($"input '{tensor.Name}' of shape {Shapes.Format(tensor.Shape)} takes {expected} elements; its binary data has {count}");
    }

    private static RequestException WrongCount(Tensor tensor, long count) => RequestException.Invalid(
        $"input '{tensor.Name}' of shape {Shapes.Format(tensor.Shape)} takes {(count < 0 ? "more than 2^63" : count)} values, more than the body can hold");
}
