using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Skiff.Models;

namespace Skiff.Serving;

/// <summary>Writes the Open Inference Protocol's REST response: numbers go from the runtime's memory straight into the text, or into the binary part behind it.</summary>
internal static class OipResponseWriter
{
    /// <summary>Of all tensors of an answer together, as bytes in memory; as text they are some three times as many. An input of few bytes can have an output of many.</summary>
    private const long MostBytes = 64 << 20;

    /// <returns>Length of the JSON when binary data follows it, otherwise null.</returns>
    public static int? Write(InferRequest request, InferResult result, Utf8JsonWriter json, IBufferWriter<byte> body)
    {
        var outputs = result.Outputs;
        var manifest = result.Lease.Manifest;
        var count = request.OutputCount == 0 ? outputs.Count : request.OutputCount;
        Span<int> chosen = count <= 64 ? stackalloc int[count] : new int[count];
        var hasBinary = false;
        CheckSize(request, result);

        json.WriteStartObject();
        json.WriteString("model_name"u8, manifest.Name);
        json.WriteString("model_version"u8, Numbers.Text(manifest.Version));
        if (request.Id is { } id) json.WriteString("id"u8, id);
        json.WriteStartArray("outputs"u8);
        for (var i = 0; i < chosen.Length; i++)
        {
            var asked = request.OutputCount == 0 ? null : request.Output(i);
            var index = chosen[i] = asked is null ? i : Inference.IndexOf(result.Lease.Session.Outputs, asked.Name);
            var binary = asked?.Binary ?? request.BinaryOutputs;
            hasBinary |= binary;
            WriteOutput(json, outputs, index, binary);
            if (!binary) chosen[i] = -1;
        }
        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        if (!hasBinary) return null;

        var length = (int)json.BytesCommitted;
        foreach (var index in chosen)
        {
            if (index >= 0) WriteBinary(body, outputs, index);
        }
        return length;
    }

    private static void CheckSize(InferRequest request, InferResult result)
    {
        var bytes = 0L;
        for (var i = 0; i < (request.OutputCount == 0 ? result.Outputs.Count : request.OutputCount); i++)
        {
            var index = request.OutputCount == 0 ? i : Inference.IndexOf(result.Lease.Session.Outputs, request.Output(i).Name);
            bytes += Shapes.Count(result.Outputs.Shape(index)) * Math.Max(result.Outputs.Spec(index).Type.Size(), 1);
        }
        if (bytes > MostBytes) throw new RequestException(Refusal.TooLarge, $"the answer would hold {bytes} bytes of tensors; it takes at most {MostBytes}: send fewer rows, or ask for fewer outputs");
    }

    private static void WriteOutput(Utf8JsonWriter json, ModelOutputs outputs, int index, bool binary)
    {
        var spec = outputs.Spec(index);
        var shape = outputs.Shape(index);
        json.WriteStartObject();
        json.WriteString("name"u8, spec.Name);
        json.WriteString("datatype"u8, spec.Type.WireName());
        json.WriteStartArray("shape"u8);
        foreach (var dimension in shape) json.WriteNumberValue(dimension);
        json.WriteEndArray();
        if (binary)
        {
            json.WriteStartObject("parameters"u8);
            json.WriteNumber("binary_data_size"u8, BinarySize(outputs, index, Shapes.Count(shape)));
            json.WriteEndObject();
        }
        else
        {
            json.WriteStartArray("data"u8);
            WriteValues(json, outputs, index, (int)Shapes.Count(shape));
            json.WriteEndArray();
        }
        json.WriteEndObject();
    }

    private static long BinarySize(ModelOutputs outputs, int index, long count)
    {
        if (outputs.Spec(index).Type != DataType.Bytes) return outputs.Bytes(index).Length;
        var size = count * sizeof(uint);
        for (var i = 0; i < count; i++) size += outputs.String(index, i).Length;
        return size;
    }

    private static void WriteBinary(IBufferWriter<byte> body, ModelOutputs outputs, int index)
    {
        if (outputs.Spec(index).Type != DataType.Bytes)
        {
            body.Write(outputs.Bytes(index));
            return;
        }
        var count = Shapes.Count(outputs.Shape(index));
        for (var i = 0; i < count; i++)
        {
            var element = outputs.String(index, i);
            BinaryPrimitives.WriteUInt32LittleEndian(body.GetSpan(sizeof(uint)), (uint)element.Length);
            body.Advance(sizeof(uint));
            body.Write(element);
        }
    }

    private static void WriteValues(Utf8JsonWriter json, ModelOutputs outputs, int index, int count)
    {
        var spec = outputs.Spec(index);
        switch (spec.Type)
        {
            case DataType.Bytes:
                for (var i = 0; i < count; i++) WriteString(json, outputs.String(index, i), spec.Name);
                break;
            case DataType.Bool:
                foreach (var value in outputs.Bytes(index)) json.WriteBooleanValue(value != 0);
                break;
            case DataType.UInt8:
                foreach (var value in outputs.Bytes(index)) json.WriteNumberValue(value);
                break;
            case DataType.UInt16:
                foreach (var value in Read<ushort>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.UInt32:
                foreach (var value in Read<uint>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.UInt64:
                foreach (var value in Read<ulong>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.Int8:
                foreach (var value in Read<sbyte>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.Int16:
                foreach (var value in Read<short>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.Int32:
                foreach (var value in Read<int>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.Int64:
                foreach (var value in Read<long>(outputs, index)) json.WriteNumberValue(value);
                break;
            case DataType.Fp16:
                foreach (var value in Read<Half>(outputs, index)) json.WriteNumberValue(Half.IsFinite(value) ? (float)value : throw NotFinite(spec.Name));
                break;
            case DataType.Fp32:
                foreach (var value in Read<float>(outputs, index)) json.WriteNumberValue(float.IsFinite(value) ? value : throw NotFinite(spec.Name));
                break;
            case DataType.Fp64:
                foreach (var value in Read<double>(outputs, index)) json.WriteNumberValue(double.IsFinite(value) ? value : throw NotFinite(spec.Name));
                break;
            case DataType.Bf16:
                throw RequestException.Invalid($"output '{spec.Name}' is BF16, which travels in binary only: ask for it with \"parameters\":{{\"binary_data\":true}}");
        }
    }

    private static ReadOnlySpan<T> Read<T>(ModelOutputs outputs, int index)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(outputs.Bytes(index));

    private static void WriteString(Utf8JsonWriter json, ReadOnlySpan<byte> value, string output)
    {
        // BYTES may be anything; JSON strings are text.
        if (!System.Text.Unicode.Utf8.IsValid(value))
        {
            throw RequestException.Invalid($"output '{output}' holds bytes that are not UTF-8 text: ask for it with \"parameters\":{{\"binary_data\":true}}");
        }
        json.WriteStringValue(value);
    }

    private static RequestException NotFinite(string output) => RequestException.Invalid(
        $"output '{output}' holds NaN or infinity, which JSON can't carry: ask for it with \"parameters\":{{\"binary_data\":true}}");
}
