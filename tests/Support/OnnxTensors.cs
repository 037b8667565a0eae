using Skiff.Models;

namespace Skiff.Support;

/// <summary>TensorProto and SparseTensorProto, well-formed or not.</summary>
public static class OnnxTensors
{
    public const int
        FloatData = 4, Int32Data = 5, StringData = 6, Int64Data = 7, RawData = 9, DoubleData = 10, UInt64Data = 11;

    /// <summary>ONNX's number of a type.</summary>
    public static int Code(this DataType type) => type switch
    {
        DataType.Fp32 => 1,
        DataType.UInt8 => 2,
        DataType.Int8 => 3,
        DataType.UInt16 => 4,
        DataType.Int16 => 5,
        DataType.Int32 => 6,
        DataType.Int64 => 7,
        DataType.Bytes => 8,
        DataType.Bool => 9,
        DataType.Fp16 => 10,
        DataType.Fp64 => 11,
        DataType.UInt32 => 12,
        DataType.UInt64 => 13,
        DataType.Bf16 => 16,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, null),
    };

    /// <summary>A tensor without data: what is missing is for the caller to add.</summary>
    public static ProtobufMessage Empty(string name, int code, params long[] dims) =>
        new ProtobufMessage().Integers(1, dims).Integer(2, code).Text(8, name);

    public static ProtobufMessage Floats(string name, float[] values, params long[] dims) =>
        Empty(name, DataType.Fp32.Code(), dims).Floats(FloatData, values);

    public static ProtobufMessage Integers(string name, long[] values, params long[] dims) =>
        Empty(name, DataType.Int64.Code(), dims).Integers(Int64Data, values);

    public static ProtobufMessage Strings(string name, string[] values, params long[] dims) =>
        Empty(name, DataType.Bytes.Code(), dims).Texts(StringData, values);

    public static ProtobufMessage Raw(string name, int code, byte[] data, params long[] dims) =>
        Empty(name, code, dims).Bytes(RawData, data);

    /// <summary>A tensor whose data is in another file.</summary>
    public static ProtobufMessage External(string name, string location = "/etc/passwd") =>
        Empty(name, DataType.Fp32.Code(), 1)
            .Message(13, entry => entry.Text(1, "location").Text(2, location))
            .Integer(14, 1);

    public static ProtobufMessage Sparse(ProtobufMessage values, ProtobufMessage indices, params long[] dims) =>
        new ProtobufMessage().Message(1, values).Message(2, indices).Integers(3, dims);
}
