using Skiff.Models;

namespace Skiff.Support;

/// <summary>
/// Makes ONNX models for tests: ir_version 8 and opset 17 unless told otherwise. <see cref="Model"/> and <see cref="Graph"/> are open, so that a test can
/// write into them what no method here would.
/// </summary>
public sealed class OnnxBuilder
{
    /// <summary>ModelProto without its graph and its own operators, which <see cref="Build"/> adds.</summary>
    public ProtobufMessage Model { get; } = new();

    public ProtobufMessage Graph { get; } = new ProtobufMessage().Text(2, "graph");

    public long IrVersion { get; init; } = 8;

    public long Opset { get; init; } = 17;

    /// <summary>A model that gives back what it is given: input <c>x</c>, output <c>y</c>.</summary>
    public static byte[] Identity(DataType type, params long[] shape) => new OnnxBuilder()
        .Input("x", type, shape)
        .Output("y", type, shape)
        .Node("Identity", ["x"], ["y"])
        .Build();

    /// <summary>A ValueInfoProto of any type code; a dimension of -1 gets a name.</summary>
    public static ProtobufMessage Value(string name, int code, params long[] shape) => new ProtobufMessage()
        .Text(1, name)
        .Message(2, type => type.Message(1, tensor => tensor.Integer(1, code).Message(2, dims =>
        {
            for (var i = 0; i < shape.Length; i++)
            {
                var axis = i;
                dims.Message(1, dim => _ = shape[axis] == -1 ? dim.Text(2, $"dim{axis}") : dim.Integer(1, shape[axis]));
            }
        })));

    /// <summary>A NodeProto named after its first output.</summary>
    public static ProtobufMessage NodeOf(string opType, string[] inputs, string[] outputs, string domain = "", params ProtobufMessage[] attributes)
    {
        var node = new ProtobufMessage().Texts(1, inputs).Texts(2, outputs).Text(3, outputs.FirstOrDefault("")).Text(4, opType);
        foreach (var attribute in attributes)
            node.Message(5, attribute);
        return domain == "" ? node : node.Text(7, domain);
    }

    public OnnxBuilder Input(string name, DataType type, params long[] shape) => InGraph(11, Value(name, type.Code(), shape));

    public OnnxBuilder Output(string name, DataType type, params long[] shape) => InGraph(12, Value(name, type.Code(), shape));

    public OnnxBuilder Initializer(string name, float[] values, params long[] dims) => Initializer(OnnxTensors.Floats(name, values, dims));

    public OnnxBuilder Initializer(string name, long[] values, params long[] dims) => Initializer(OnnxTensors.Integers(name, values, dims));

    public OnnxBuilder Initializer(ProtobufMessage tensor) => InGraph(5, tensor);

    public OnnxBuilder SparseInitializer(ProtobufMessage sparse) => InGraph(15, sparse);

    public OnnxBuilder Node(string opType, string[] inputs, string[] outputs, string domain = "", params ProtobufMessage[] attributes) =>
        InGraph(1, NodeOf(opType, inputs, outputs, domain, attributes));

    public OnnxBuilder Import(string domain, long version) => InModel(8, new ProtobufMessage().Text(1, domain).Integer(2, version));

    public OnnxBuilder Metadata(string key, string value) => InModel(14, new ProtobufMessage().Text(1, key).Text(2, value));

    public OnnxBuilder Producer(string name, string version)
    {
        Model.Text(2, name).Text(3, version);
        return this;
    }

    /// <summary>Training steps, of which <paramref name="algorithm"/> is one more graph.</summary>
    public OnnxBuilder Training(ProtobufMessage algorithm) => InModel(20, new ProtobufMessage().Message(2, algorithm));

    /// <summary>A function of this model, from <c>a</c> to <c>b</c>.</summary>
    public OnnxBuilder Function(string domain, string name, params ProtobufMessage[] nodes)
    {
        var function = new ProtobufMessage().Text(1, name).Text(4, "a").Text(5, "b").Text(10, domain)
            .Message(9, import => import.Integer(2, Opset));
        foreach (var node in nodes)
            function.Message(7, node);
        return InModel(25, function);
    }

    public byte[] Build() => new ProtobufMessage()
        .Integer(1, IrVersion)
        .Raw(Model.ToArray())
        .Message(7, Graph)
        .Message(8, import => import.Integer(2, Opset))
        .ToArray();

    private OnnxBuilder InGraph(int field, ProtobufMessage message)
    {
        Graph.Message(field, message);
        return this;
    }

    private OnnxBuilder InModel(int field, ProtobufMessage message)
    {
        Model.Message(field, message);
        return this;
    }
}
