namespace Skiff.Support;

/// <summary>AttributeProto, one method a kind.</summary>
public static class OnnxAttributes
{
    public static ProtobufMessage Float(string name, float value) => Named(name, type: 1).Float(2, value);

    public static ProtobufMessage Integer(string name, long value) => Named(name, type: 2).Integer(3, value);

    public static ProtobufMessage Text(string name, string value) => Named(name, type: 3).Text(4, value);

    public static ProtobufMessage Tensor(string name, ProtobufMessage value) => Named(name, type: 4).Message(5, value);

    public static ProtobufMessage Graph(string name, ProtobufMessage value) => Named(name, type: 5).Message(6, value);

    public static ProtobufMessage Floats(string name, params float[] values) => Named(name, type: 6).Floats(7, values);

    public static ProtobufMessage Integers(string name, params long[] values) => Named(name, type: 7).Integers(8, values);

    public static ProtobufMessage Tensors(string name, ProtobufMessage value) => Named(name, type: 9).Message(10, value);

    public static ProtobufMessage Graphs(string name, ProtobufMessage value) => Named(name, type: 10).Message(11, value);

    public static ProtobufMessage Sparse(string name, ProtobufMessage value) => Named(name, type: 11).Message(22, value);

    public static ProtobufMessage Sparses(string name, ProtobufMessage value) => Named(name, type: 12).Message(23, value);

    private static ProtobufMessage Named(string name, int type) => new ProtobufMessage().Text(1, name).Integer(20, type);
}
