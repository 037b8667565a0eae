namespace Skiff.Models;

/// <summary>What the main graph takes and gives: dense tensors of the types that the protocol serves, under names that are there and differ.</summary>
internal static class OnnxSignature
{
    public static (List<TensorSpec> Inputs, List<TensorSpec> Outputs) Read(ReadOnlySpan<byte> graph, ModelLimits limits, KeptMemory memory)
    {
        var filled = ReadInitializerNames(graph, memory);
        var (inputs, outputs) = (new List<TensorSpec>(), new List<TensorSpec>());
        var (inputNames, outputNames) = (new HashSet<string>(), new HashSet<string>());
        var reader = new MessageReader(graph, OnnxMessage.GraphProto);
        while (reader.Next())
        {
            if (reader.Name is not ("input" or "output"))
                continue;
            var name = ReadName(reader, memory);
            var isInput = reader.Name == "input";
            if (!(isInput ? inputNames : outputNames).Add(name))
                throw new ModelRejectedException($"The model has two {reader.Name}s named {Quote.Of(name)}.");
            // Before IR version 4 every initializer had to be an input too; a request doesn't give those.
            if (isInput && filled.Contains(name))
                continue;
            (isInput ? inputs : outputs).Add(ReadValue(reader, name, limits, memory));
        }
        if (outputs.Count == 0)
            throw new ModelRejectedException("The model's graph has no outputs.");
        return (inputs, outputs);
    }

    private static HashSet<string> ReadInitializerNames(ReadOnlySpan<byte> graph, KeptMemory memory)
    {
        var names = new HashSet<string>();
        var reader = new MessageReader(graph, OnnxMessage.GraphProto);
        while (reader.Next())
        {
            if (reader.Name == "initializer")
                names.Add(memory.Keep(Find(reader.Bytes, reader.Of, "name")));
            else if (reader.Name == "sparse_initializer")
                names.Add(memory.Keep(Find(Find(reader.Bytes, reader.Of, "values"), OnnxMessage.TensorProto, "name")));
        }
        return names;
    }

    private static string ReadName(scoped in MessageReader value, KeptMemory memory)
    {
        var name = memory.Keep(Find(value.Bytes, value.Of, "name"));
        // A NUL would cut the name short in the runtime's C interface.
        if (name.Length == 0 || name.Any(char.IsControl))
            throw new ModelRejectedException($"The model's {value.Name} {Quote.Of(name)} needs a name without control characters.");
        return name;
    }

    private static TensorSpec ReadValue(scoped in MessageReader value, string name, ModelLimits limits, KeptMemory memory)
    {
        var label = $"The model's {value.Name} {Quote.Of(name)}";
        var type = ReadTensorType(Find(value.Bytes, value.Of, "type"), label);
        var code = 0L;
        long[]? shape = null;
        var reader = new MessageReader(type, OnnxMessage.TensorType);
        while (reader.Next())
        {
            if (reader.Name == "elem_type")
                code = reader.Integer;
            else
                shape = ReadShape(reader.Bytes, label, limits, memory);
        }
        var element = ElementType.Find(code);
        if (element?.Served is not { } served)
            throw new ModelRejectedException($"{label} has the element type {element?.Name ?? $"{code}"}; served are {ElementType.Allowed}.");
        if (shape is null)
            throw new ModelRejectedException($"{label} has no shape; ONNX wants the rank of each input and output, with dim_param where a dimension varies.");
        return new TensorSpec(name, served, shape);
    }

    private static ReadOnlySpan<byte> ReadTensorType(ReadOnlySpan<byte> type, string label)
    {
        ReadOnlySpan<byte> tensor = default;
        var reader = new MessageReader(type, OnnxMessage.TypeProto);
        while (reader.Next())
        {
            if (reader.Name == "tensor_type")
                tensor = reader.Bytes;
            else if (reader.Name != "denotation")
                throw new ModelRejectedException($"{label} is a {reader.Name}; only dense tensors (tensor_type) are served.");
        }
        return tensor.IsEmpty ? throw new ModelRejectedException($"{label} has no type; dense tensors (tensor_type) are served.") : tensor;
    }

    private static long[] ReadShape(ReadOnlySpan<byte> bytes, string label, ModelLimits limits, KeptMemory memory)
    {
        var shape = new List<long>();
        var volume = new Volume();
        var reader = new MessageReader(bytes, OnnxMessage.TensorShapeProto);
        while (reader.Next())
        {
            memory.Charge(sizeof(long));
            shape.Add(ReadDimension(reader.Bytes, label));
            if (shape[^1] != -1)
                volume.Add(shape[^1]);
        }
        if (volume.Fault is { } fault)
            throw new ModelRejectedException($"{label} has {fault}.");
        if (volume.Elements > limits.MaxElements)
            throw new ModelRejectedException($"{label} has {volume.Elements} elements; the limit is {limits.MaxElements}.");
        return [.. shape];
    }

    private static long ReadDimension(ReadOnlySpan<byte> bytes, string label)
    {
        long? value = null;
        var named = false;
        var reader = new MessageReader(bytes, OnnxMessage.Dimension);
        while (reader.Next())
        {
            if (reader.Name == "dim_value")
                value = reader.Integer;
            else if (reader.Name == "dim_param")
                named = true;
        }
        if (named && value is not null)
            throw new ModelRejectedException($"{label} has a dimension with both dim_value and dim_param; only one may stand.");
        return value ?? -1;
    }

    /// <summary>A field that stands at most once; empty where it doesn't.</summary>
    private static ReadOnlySpan<byte> Find(ReadOnlySpan<byte> bytes, OnnxMessage message, string field)
    {
        ReadOnlySpan<byte> found = default;
        var reader = new MessageReader(bytes, message);
        while (reader.Next())
        {
            if (reader.Name == field)
                found = reader.Bytes;
        }
        return found;
    }
}
