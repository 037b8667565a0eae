namespace Skiff.Models;

/// <summary>A node as messages name it; the default is no node, which is the main graph.</summary>
internal readonly ref struct OnnxNode(ReadOnlySpan<byte> name, ReadOnlySpan<byte> opType)
{
    private readonly ReadOnlySpan<byte> _name = name;
    private readonly ReadOnlySpan<byte> _opType = opType;

    /// <summary>For example <c>node 'fc1' (op_type 'Gemm')</c>.</summary>
    public string Text => _opType.IsEmpty ? "the main graph" : $"node {Quote.Of(_name)} (op_type {Quote.Of(_opType)})";
}
