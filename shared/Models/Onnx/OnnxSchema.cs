using static Skiff.Models.FieldKind;
using static Skiff.Models.OnnxMessage;

namespace Skiff.Models;

internal enum FieldKind
{
    Integer,

    /// <summary>A number of 32 bits, such as an enum's.</summary>
    Code,
    Float32,
    Float64,
    Bytes,

    /// <summary>A short string of UTF-8.</summary>
    Name,
    Message,
}

/// <summary>The messages of onnx-ml.proto under their own names; those that are nested in TypeProto end in Type.</summary>
internal enum OnnxMessage
{
    None,
    ModelProto,
    TrainingInfoProto,
    FunctionProto,
    GraphProto,
    NodeProto,
    AttributeProto,
    TensorProto,
    TensorSegment,
    SparseTensorProto,
    TensorAnnotation,
    StringStringEntryProto,
    OperatorSetIdProto,
    ValueInfoProto,
    TypeProto,
    TensorType,
    SequenceType,
    MapType,
    OptionalType,
    OpaqueType,
    TensorShapeProto,
    Dimension,
}

/// <summary>A field of a message; <paramref name="Of"/> is the message that it holds, None where it holds something else.</summary>
internal readonly record struct OnnxField(string Name, FieldKind Kind, bool Repeated, OnnxMessage Of);

/// <summary>
/// onnx-ml.proto as of ONNX 1.19, field by field. What isn't listed is skipped, as the runtime skips what it doesn't know: keep this at least as new as the
/// runtime's own copy. Prose (doc_string, values of metadata) and placement hints (configuration) are bytes, because nothing in them is judged.
/// </summary>
internal static class OnnxSchema
{
    public static OnnxField? Find(OnnxMessage message, int number) => message switch
    {
        ModelProto => number switch
        {
            1 => One("ir_version", Integer),
            2 => One("producer_name", Name),
            3 => One("producer_version", Name),
            4 => One("domain", Name),
            5 => One("model_version", Integer),
            6 => One("doc_string", Bytes),
            7 => One("graph", GraphProto),
            8 => Many("opset_import", OperatorSetIdProto),
            14 => Many("metadata_props", StringStringEntryProto),
            20 => Many("training_info", TrainingInfoProto),
            25 => Many("functions", FunctionProto),
            26 => Many("configuration", Bytes),
            _ => null,
        },
        TrainingInfoProto => number switch
        {
            1 => One("initialization", GraphProto),
            2 => One("algorithm", GraphProto),
            3 => Many("initialization_binding", StringStringEntryProto),
            4 => Many("update_binding", StringStringEntryProto),
            _ => null,
        },
        FunctionProto => number switch
        {
            1 => One("name", Name),
            4 => Many("input", Name),
            5 => Many("output", Name),
            6 => Many("attribute", Name),
            7 => Many("node", NodeProto),
            8 => One("doc_string", Bytes),
            9 => Many("opset_import", OperatorSetIdProto),
            10 => One("domain", Name),
            11 => Many("attribute_proto", AttributeProto),
            12 => Many("value_info", ValueInfoProto),
            13 => One("overload", Name),
            14 => Many("metadata_props", StringStringEntryProto),
            _ => null,
        },
        GraphProto => number switch
        {
            1 => Many("node", NodeProto),
            2 => One("name", Name),
            5 => Many("initializer", TensorProto),
            10 => One("doc_string", Bytes),
            11 => Many("input", ValueInfoProto),
            12 => Many("output", ValueInfoProto),
            13 => Many("value_info", ValueInfoProto),
            14 => Many("quantization_annotation", TensorAnnotation),
            15 => Many("sparse_initializer", SparseTensorProto),
            16 => Many("metadata_props", StringStringEntryProto),
            _ => null,
        },
        NodeProto => number switch
        {
            1 => Many("input", Name),
            2 => Many("output", Name),
            3 => One("name", Name),
            4 => One("op_type", Name),
            5 => Many("attribute", AttributeProto),
            6 => One("doc_string", Bytes),
            7 => One("domain", Name),
            8 => One("overload", Name),
            9 => Many("metadata_props", StringStringEntryProto),
            10 => Many("device_configurations", Bytes),
            _ => null,
        },
        AttributeProto => number switch
        {
            1 => One("name", Name),
            2 => One("f", Float32),
            3 => One("i", Integer),
            4 => One("s", Bytes),
            5 => One("t", TensorProto),
            6 => One("g", GraphProto),
            7 => Many("floats", Float32),
            8 => Many("ints", Integer),
            9 => Many("strings", Bytes),
            10 => Many("tensors", TensorProto),
            11 => Many("graphs", GraphProto),
            13 => One("doc_string", Bytes),
            14 => One("tp", TypeProto),
            15 => Many("type_protos", TypeProto),
            20 => One("type", Code),
            21 => One("ref_attr_name", Name),
            22 => One("sparse_tensor", SparseTensorProto),
            23 => Many("sparse_tensors", SparseTensorProto),
            _ => null,
        },
        TensorProto => number switch
        {
            1 => Many("dims", Integer),
            2 => One("data_type", Code),
            3 => One("segment", TensorSegment),
            4 => Many("float_data", Float32),
            5 => Many("int32_data", Integer), // not Code: values are counted, not read
            6 => Many("string_data", Bytes),
            7 => Many("int64_data", Integer),
            8 => One("name", Name),
            9 => One("raw_data", Bytes),
            10 => Many("double_data", Float64),
            11 => Many("uint64_data", Integer),
            12 => One("doc_string", Bytes),
            13 => Many("external_data", StringStringEntryProto),
            14 => One("data_location", Code),
            16 => Many("metadata_props", StringStringEntryProto),
            _ => null,
        },
        TensorSegment => number switch
        {
            1 => One("begin", Integer),
            2 => One("end", Integer),
            _ => null,
        },
        SparseTensorProto => number switch
        {
            1 => One("values", TensorProto),
            2 => One("indices", TensorProto),
            3 => Many("dims", Integer),
            _ => null,
        },
        TensorAnnotation => number switch
        {
            1 => One("tensor_name", Name),
            2 => Many("quant_parameter_tensor_names", StringStringEntryProto),
            _ => null,
        },
        StringStringEntryProto => number switch
        {
            1 => One("key", Name),
            2 => One("value", Bytes),
            _ => null,
        },
        OperatorSetIdProto => number switch
        {
            1 => One("domain", Name),
            2 => One("version", Integer),
            _ => null,
        },
        ValueInfoProto => number switch
        {
            1 => One("name", Name),
            2 => One("type", TypeProto),
            3 => One("doc_string", Bytes),
            4 => Many("metadata_props", StringStringEntryProto),
            _ => null,
        },
        TypeProto => number switch
        {
            1 => One("tensor_type", TensorType),
            4 => One("sequence_type", SequenceType),
            5 => One("map_type", MapType),
            6 => One("denotation", Name),
            7 => One("opaque_type", OpaqueType),
            8 => One("sparse_tensor_type", TensorType),
            9 => One("optional_type", OptionalType),
            _ => null,
        },
        TensorType => number switch
        {
            1 => One("elem_type", Code),
            2 => One("shape", TensorShapeProto),
            _ => null,
        },
        SequenceType or OptionalType => number switch
        {
            1 => One("elem_type", TypeProto),
            _ => null,
        },
        MapType => number switch
        {
            1 => One("key_type", Code),
            2 => One("value_type", TypeProto),
            _ => null,
        },
        OpaqueType => number switch
        {
            1 => One("domain", Name),
            2 => One("name", Name),
            _ => null,
        },
        TensorShapeProto => number switch
        {
            1 => Many("dim", Dimension),
            _ => null,
        },
        Dimension => number switch
        {
            1 => One("dim_value", Integer),
            2 => One("dim_param", Name),
            3 => One("denotation", Name),
            _ => null,
        },
        _ => null,
    };

    private static OnnxField? One(string name, FieldKind kind) => new OnnxField(name, kind, Repeated: false, None);

    private static OnnxField? One(string name, OnnxMessage of) => new OnnxField(name, Message, Repeated: false, of);

    private static OnnxField? Many(string name, FieldKind kind) => new OnnxField(name, kind, Repeated: true, None);

    private static OnnxField? Many(string name, OnnxMessage of) => new OnnxField(name, Message, Repeated: true, of);
}
