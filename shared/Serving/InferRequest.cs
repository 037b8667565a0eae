using System.Text;
using Skiff.Batching;
using Skiff.Models;

namespace Skiff.Serving;

/// <summary>
/// An inference request in neutral form, whatever protocol it came by. One object serves request after request: lists, tensors and the buffer are kept,
/// so that a steady stream of similar requests allocates nothing here.
/// </summary>
public sealed class InferRequest
{
    private readonly List<Tensor> _inputs = [];
    private readonly List<RequestedOutput> _outputs = [];

    public string Model { get; set; } = "";
    public int? Version { get; set; }
    public string? Id { get; set; }

    /// <summary>How long the caller will wait, in µs; 0 = as long as it takes.</summary>
    public long TimeoutMicroseconds { get; set; }

    /// <summary>One of <see cref="Priorities"/>.</summary>
    public int Priority { get; set; } = Priorities.Normal;

    /// <summary>Whether outputs travel as binary unless one says otherwise.</summary>
    public bool BinaryOutputs { get; set; }

    /// <summary>Whether the body is nothing but the bytes of the model's only input: its type and shape come from the model.</summary>
    public bool IsRaw { get; set; }

    public TensorBuffer Buffer { get; private set; } = new();

    public int InputCount { get; private set; }

    public int OutputCount { get; private set; }

    public Tensor Input(int index) => _inputs[index];

    /// <summary>The outputs that were asked for; none means all of them.</summary>
    public RequestedOutput Output(int index) => _outputs[index];

    public Tensor AddInput()
    {
        if (InputCount == _inputs.Count) _inputs.Add(new Tensor());
        return _inputs[InputCount++];
    }

    public RequestedOutput AddOutput()
    {
        if (OutputCount == _outputs.Count) _outputs.Add(new RequestedOutput());
        return _outputs[OutputCount++];
    }

    public void Clear()
    {
        Model = "";
        Version = null;
        Id = null;
        TimeoutMicroseconds = 0;
        Priority = Priorities.Normal;
        BinaryOutputs = false;
        IsRaw = false;
        InputCount = 0;
        OutputCount = 0;
        if (Buffer.IsAbandoned) Buffer = new TensorBuffer();
        else Buffer.Clear();
    }

    /// <summary>The string of these bytes: the one that stands there already, if it is the same again.</summary>
    internal static string Reuse(string current, ReadOnlySpan<byte> utf8) => Ascii.Equals(utf8, current) ? current : Encoding.UTF8.GetString(utf8);
}

/// <summary>An output that the caller asked for by name.</summary>
public sealed class RequestedOutput
{
    public string Name { get; set; } = "";

    /// <summary>How it travels; null = as the request says.</summary>
    public bool? Binary { get; set; }
}
