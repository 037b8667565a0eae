using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace Skiff.Models;

/// <summary>What a run produced, still in the runtime's memory: read it, then dispose it.</summary>
public sealed class ModelOutputs(IReadOnlyList<TensorSpec> specs, IDisposableReadOnlyCollection<OrtValue> values) : IDisposable
{
    public int Count => specs.Count;

    public TensorSpec Spec(int index) => specs[index];

    public long[] Shape(int index) => Value(index).GetTensorTypeAndShape().Shape;

    /// <summary>The elements, row-major and little-endian; not for <see cref="DataType.Bytes"/>.</summary>
    public ReadOnlySpan<byte> Bytes(int index) => Value(index).GetTensorMutableRawData();

    public ReadOnlySpan<float> Floats(int index) => MemoryMarshal.Cast<byte, float>(Bytes(index));

    /// <summary>One element of a <see cref="DataType.Bytes"/> output.</summary>
    public ReadOnlySpan<byte> String(int index, int element) => Value(index).GetStringElementAsSpan(element);

    public void Dispose() => values.Dispose();

    // The collection is a list; reading it as what it is declared to be would allocate an enumerator.
    private OrtValue Value(int index) => ((IReadOnlyList<OrtValue>)values)[index];
}
