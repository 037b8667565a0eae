using System.Text;

namespace Skiff.Models;

/// <summary>
/// Walks a model and refuses what <see cref="ModelLimits"/> don't allow. The walk follows the schema, not the places where a tensor or a graph is expected:
/// wherever one stands it is judged, and no message is left unread for the runtime's parser to be surprised by. Each message is read a fixed number of times,
/// and stepping over a nested one costs nothing, so the time stays linear in the bytes.
/// </summary>
internal ref struct OnnxInspector(ReadOnlySpan<byte> model, ModelLimits limits)
{
    private readonly ReadOnlySpan<byte> _model = model;
    private readonly KeptMemory _memory = new();
    private readonly Dictionary<(string Domain, string Name), LocalFunction> _functions = [];
    private long _fields;
    private long _nodes;
    private long _elements;
    private int _deepest;

    public OnnxFile Inspect()
    {
        var (producer, producerVersion, irVersion, hasGraph) = ("", "", 0L, false);
        var (opsets, metadata) = (new Dictionary<string, long>(), new Dictionary<string, string>());
        ReadOnlySpan<byte> graph = default;

        // 1. What the file says about itself, and which functions it has: a node can only be judged when all of them are known.
        var reader = new MessageReader(_model, OnnxMessage.ModelProto);
        while (reader.Next())
        {
            switch (reader.Name)
            {
                case "ir_version":
                    irVersion = reader.Integer;
                    break;
                case "producer_name":
                    producer = _memory.Keep(reader.Bytes);
                    break;
                case "producer_version":
                    producerVersion = _memory.Keep(reader.Bytes);
                    break;
                case "opset_import":
                    AddOpset(reader.Bytes, opsets);
                    break;
                case "metadata_props":
                    AddMetadata(reader.Bytes, metadata);
                    break;
                case "functions":
                    AddFunction(reader.Bytes);
                    break;
                case "graph":
                    graph = reader.Bytes;
                    hasGraph = true;
                    break;
            }
        }
        if (irVersion < 1)
            throw new ModelRejectedException("The file is not an ONNX model: it has no ir_version of 1 or more.");
        if (!hasGraph)
            throw new ModelRejectedException("The model has no graph.");

        // 2. All that it contains; a function is read where it is first called, those that nothing calls at the end. The main graph is at depth 0.
        ReadContents(_model, OnnxMessage.ModelProto, default, depth: -1);
        foreach (var function in _functions.Values)
        {
            if (function.Cost is null)
                ReadFunction(function, default, depth: 0);
        }

        // 3. What it takes and gives.
        var (inputs, outputs) = OnnxSignature.Read(graph, limits, _memory);

        return new OnnxFile
        {
            Inputs = inputs,
            Outputs = outputs,
            Producer = $"{producer} {producerVersion}".Trim(),
            IrVersion = irVersion,
            Opsets = opsets,
            Metadata = metadata,
            Nodes = (int)_nodes,
            Elements = _elements,
        };
    }

    private readonly void AddOpset(ReadOnlySpan<byte> bytes, Dictionary<string, long> opsets)
    {
        var (domain, version) = ("", 0L);
        var reader = new MessageReader(bytes, OnnxMessage.OperatorSetIdProto);
        while (reader.Next())
        {
            if (reader.Name == "domain")
                domain = _memory.Keep(reader.Bytes);
            else
                version = reader.Integer;
        }
        if (!opsets.TryAdd(Canonical(domain), version))
            throw new ModelRejectedException($"The model imports the operators of {Quote.Of(domain)} twice.");
    }

    private readonly void AddMetadata(ReadOnlySpan<byte> bytes, Dictionary<string, string> metadata)
    {
        var (key, value) = ("", "");
        var reader = new MessageReader(bytes, OnnxMessage.StringStringEntryProto);
        while (reader.Next())
        {
            if (reader.Name == "key")
                key = _memory.Keep(reader.Bytes);
            else
                value = _memory.Keep(reader.Bytes);
        }
        if (!metadata.TryAdd(key, value))
            throw new ModelRejectedException($"The model's metadata has {Quote.Of(key)} twice.");
    }

    private readonly void AddFunction(ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<byte> name = default, domain = default;
        var reader = new MessageReader(bytes, OnnxMessage.FunctionProto);
        while (reader.Next())
        {
            if (reader.Name == "name")
                name = reader.Bytes;
            else if (reader.Name == "domain")
                domain = reader.Bytes;
        }
        if (!IsAllowed(domain))
            throw ForeignDomain($"Function {Quote.Of(name)} is in", domain);
        // Overloads would make one name mean several functions, and runtimes differ in whether they tell them apart.
        _memory.Charge(domain.Length + name.Length);
        _model.Overlaps(bytes, out var start);
        if (!_functions.TryAdd(FunctionKey(domain, name), new LocalFunction(start, bytes.Length)))
            throw new ModelRejectedException($"The model has two functions {Quote.Of(name)} in one domain; only one may have a name.");
    }

    /// <summary>Reads all fields of a message, and judges those that hold something to judge.</summary>
    private void ReadContents(ReadOnlySpan<byte> bytes, OnnxMessage message, scoped OnnxNode owner, int depth)
    {
        var reader = new MessageReader(bytes, message);
        while (reader.Next())
        {
            CountField();
            switch (reader.Of)
            {
                case OnnxMessage.None:
                case OnnxMessage.FunctionProto:
                    break;
                case OnnxMessage.NodeProto:
                    ReadNode(reader.Bytes, depth);
                    break;
                case OnnxMessage.GraphProto:
                // Types nest too: a sequence of sequences of … is as deep as the file makes it.
                case OnnxMessage.SequenceType or OnnxMessage.MapType or OnnxMessage.OptionalType:
                    Enter(depth + 1, owner);
                    ReadContents(reader.Bytes, reader.Of, owner, depth + 1);
                    break;
                case OnnxMessage.TensorProto:
                    ReadContents(reader.Bytes, reader.Of, owner, depth);
                    CountTensor(reader.Bytes, owner);
                    break;
                case OnnxMessage.SparseTensorProto:
                    ReadContents(reader.Bytes, reader.Of, owner, depth);
                    CountUnfolded(reader.Bytes, owner);
                    break;
                case OnnxMessage.OperatorSetIdProto:
                    CheckImport(reader.Bytes);
                    break;
                default:
                    ReadContents(reader.Bytes, reader.Of, owner, depth);
                    break;
            }
        }
    }

    private readonly void CheckImport(ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<byte> domain = default;
        var reader = new MessageReader(bytes, OnnxMessage.OperatorSetIdProto);
        while (reader.Next())
        {
            if (reader.Name == "domain")
                domain = reader.Bytes;
        }
        if (!IsAllowed(domain))
            throw ForeignDomain("The model imports", domain);
    }

    private void ReadNode(ReadOnlySpan<byte> bytes, int depth)
    {
        ReadOnlySpan<byte> name = default, opType = default, domain = default;
        var reader = new MessageReader(bytes, OnnxMessage.NodeProto);
        while (reader.Next())
        {
            switch (reader.Name)
            {
                case "name":
                    name = reader.Bytes;
                    break;
                case "op_type":
                    opType = reader.Bytes;
                    break;
                case "domain":
                    domain = reader.Bytes;
                    break;
            }
        }
        var node = new OnnxNode(name, opType);
        if (opType.SequenceEqual("EPContext"u8))
            throw new ModelRejectedException($"The {node.Text} would load a compiled binary; EPContext is not taken, whatever its domain.");
        if (!IsAllowed(domain))
            throw ForeignDomain($"The {node.Text} is of", domain);
        CountNodes(1, node);
        ReadContents(bytes, OnnxMessage.NodeProto, node, depth);
        // The runtime unfolds functions in place: a few that call each other twice would be billions of nodes.
        if (_functions.Count > 0 && _functions.TryGetValue(FunctionKey(domain, opType), out var function))
            Call(function, node, depth + 1);
    }

    private void Call(LocalFunction function, scoped OnnxNode caller, int depth)
    {
        if (function.Cost is not { } cost)
        {
            ReadFunction(function, caller, depth);
            return;
        }
        Enter(depth + cost.Depth, caller);
        CountNodes(cost.Nodes, caller);
        CountElements(cost.Elements, caller, []);
    }

    /// <summary>Reads a function's contents, once; what a further call adds is remembered.</summary>
    private void ReadFunction(LocalFunction function, scoped OnnxNode caller, int depth)
    {
        if (function.Open)
            throw new ModelRejectedException($"The function that {caller.Text} calls is part of itself.");
        Enter(depth, caller);
        var (nodes, elements, deepest) = (_nodes, _elements, _deepest);
        _deepest = depth;
        function.Open = true;
        ReadContents(_model.Slice(function.Start, function.Length), OnnxMessage.FunctionProto, default, depth);
        function.Cost = new FunctionCost(_nodes - nodes, _elements - elements, _deepest - depth);
        _deepest = Math.Max(_deepest, deepest);
    }

    private void CountTensor(ReadOnlySpan<byte> bytes, scoped OnnxNode owner)
    {
        var tensor = OnnxTensor.Read(bytes, owner);
        CountElements(tensor.Elements, owner, tensor.Name);
    }

    /// <summary>A sparse tensor may be small in the file and is unfolded by the runtime.</summary>
    private void CountUnfolded(ReadOnlySpan<byte> bytes, scoped OnnxNode owner)
    {
        var volume = new Volume();
        var reader = new MessageReader(bytes, OnnxMessage.SparseTensorProto);
        while (reader.Next())
        {
            if (reader.Name == "dims")
                volume.AddAll(reader.Bytes);
        }
        if (volume.Fault is { } fault)
            throw new ModelRejectedException($"A sparse tensor of {owner.Text} has {fault}.");
        CountElements(volume.Elements, owner, []);
    }

    private void CountField()
    {
        if (++_fields > limits.MaxFields)
            throw new ModelRejectedException($"The model has more than {limits.MaxFields} protobuf fields, the limit.");
    }

    private void CountNodes(long more, scoped OnnxNode node)
    {
        _nodes += more;
        if (_nodes > limits.MaxNodes)
            throw new ModelRejectedException($"The {node.Text} brings the model to {_nodes} nodes; the limit is {limits.MaxNodes}.");
    }

    private void CountElements(long more, scoped OnnxNode owner, scoped ReadOnlySpan<byte> tensor)
    {
        if (more > limits.MaxElements - _elements)
        {
            var what = tensor.IsEmpty ? $"What {owner.Text} holds" : $"Tensor {Quote.Of(tensor)} of {owner.Text}";
            throw new ModelRejectedException($"{what} brings the model to {(UInt128)_elements + (UInt128)more} elements; the limit is {limits.MaxElements}.");
        }
        _elements += more;
    }

    private void Enter(int depth, scoped OnnxNode node)
    {
        if (depth > limits.MaxDepth)
            throw new ModelRejectedException($"Graphs, functions or types are nested {depth} deep in {node.Text}; the limit is {limits.MaxDepth}.");
        _deepest = Math.Max(_deepest, depth);
    }

    private readonly bool IsAllowed(ReadOnlySpan<byte> domain) =>
        limits.OperatorDomains.Contains(domain.IsEmpty ? "" : Encoding.UTF8.GetString(domain));

    private readonly ModelRejectedException ForeignDomain(string what, ReadOnlySpan<byte> domain) =>
        new($"{what} the operator domain {Quote.Of(domain)}; allowed are {string.Join(", ", limits.OperatorDomains.Order().Select(Quote.Of))}.");

    private static (string Domain, string Name) FunctionKey(ReadOnlySpan<byte> domain, ReadOnlySpan<byte> name) =>
        (Canonical(Encoding.UTF8.GetString(domain)), Encoding.UTF8.GetString(name));

    private static string Canonical(string domain) => domain == "ai.onnx" ? "" : domain;

    /// <summary>A function of the file, and where its bytes are.</summary>
    private sealed class LocalFunction(int start, int length)
    {
        public int Start { get; } = start;

        public int Length { get; } = length;

        /// <summary>It is being read: a call to it now would be a circle.</summary>
        public bool Open { get; set; }

        public FunctionCost? Cost { get; set; }
    }

    /// <summary>What a call adds, functions within it included.</summary>
    private readonly record struct FunctionCost(long Nodes, long Elements, int Depth);
}
