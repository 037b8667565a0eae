namespace Skiff.Models;

/// <summary>How much a model file may ask of the host that loads it.</summary>
public sealed record ModelLimits
{
    public static ModelLimits Default { get; } = new();

    /// <summary>Bytes of the file.</summary>
    public long MaxBytes { get; init; } = 1L << 30;

    /// <summary>Nodes, those of nested graphs included and those of a function counted at each call.</summary>
    public int MaxNodes { get; init; } = 100_000;

    /// <summary>Elements of all tensors that the file declares together; a sparse tensor counts as what it unfolds to.</summary>
    public long MaxElements { get; init; } = 1L << 29;

    /// <summary>Fields of the file's messages: two bytes of an empty one become an object of some fifty in the runtime's parser.</summary>
    public int MaxFields { get; init; } = 1 << 24;

    /// <summary>Graphs within graphs and functions within functions, below the main graph.</summary>
    public int MaxDepth { get; init; } = 16;

    /// <summary>Operator sets that nodes may come from; <c>""</c> and <c>ai.onnx</c> are two names of ONNX's own.</summary>
    public IReadOnlySet<string> OperatorDomains { get; init; } = new HashSet<string> { "", "ai.onnx", "ai.onnx.ml", "com.microsoft" };
}
