using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace Skiff.Models;

/// <summary>What a run produced, or a request's rows of it, still in the runtime's memory: read it, then dispose it.</summary>
public sealed class ModelOutputs : IDisposable
{
    private readonly IReadOnlyList<TensorSpec> _specs;
    private readonly Run _run;
    private int _first;
    private int _rows = -1; // of _total; -1 for all, whatever they are
    private int _total;
    private int _disposed;

    public ModelOutputs(IReadOnlyList<TensorSpec> specs, IDisposableReadOnlyCollection<OrtValue> values)
        : this(specs, new Run(values))
    {
    }

    private ModelOutputs(IReadOnlyList<TensorSpec> specs, Run run) => (_specs, _run) = (specs, run);

    public int Count => _specs.Count;

    /// <summary>How long the run took; of one that was shared, the part of these rows.</summary>
    public TimeSpan RunTime { get; internal set; }

    public TensorSpec Spec(int index) => _specs[index];

    public long[] Shape(int index)
    {
        if (_rows < 0) return Value(index).GetTensorTypeAndShape().Shape;
        long[] shape = [.. _run.Memory[index].Shape];
        shape[0] = _rows;
        return shape;
    }

    /// <summary>The elements, row-major and little-endian; not for <see cref="DataType.Bytes"/>.</summary>
    public ReadOnlySpan<byte> Bytes(int index)
    {
        if (_rows < 0) return Value(index).GetTensorMutableRawData();
        var bytes = _run.Memory[index].Bytes;
        var row = bytes.Length / _total;
        return bytes.Slice(_first * row, _rows * row);
    }

    public ReadOnlySpan<float> Floats(int index) => MemoryMarshal.Cast<byte, float>(Bytes(index));

    /// <summary>One element of a <see cref="DataType.Bytes"/> output.</summary>
    public ReadOnlySpan<byte> String(int index, int element) => Value(index).GetStringElementAsSpan(element);

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0) _run.Leave();
    }

    /// <summary>Whether every output has this many rows.</summary>
    internal bool HasRows(int rows)
    {
        for (var i = 0; i < Count; i++)
        {
            if (Value(i).GetTensorTypeAndShape().Shape is not [var first, ..] || first != rows) return false;
        }
        return true;
    }

    /// <summary>Makes views of a run, this one among them; the run is freed when all are disposed.</summary>
    internal ModelOutputs[] Split(int views)
    {
        _run.Join(views - 1);
        // Asked once for all: the runtime's answer takes longer than a small model's row.
        _run.Memory = [.. Enumerable.Range(0, Count).Select(index => new Memory(Value(index)))];
        var all = new ModelOutputs[views];
        all[0] = this;
        for (var i = 1; i < views; i++) all[i] = new ModelOutputs(_specs, _run);
        return all;
    }

    /// <summary>Becomes a view of rows; there are no strings in such a run.</summary>
    internal void Take(int first, int rows, int total) => (_first, _rows, _total) = (first, rows, total);

    // The collection is a list; reading it as what it is declared to be would allocate an enumerator.
    private OrtValue Value(int index) => ((IReadOnlyList<OrtValue>)_run.Values)[index];

    private sealed class Run(IDisposableReadOnlyCollection<OrtValue> values)
    {
        private int _users = 1;

        public IDisposableReadOnlyCollection<OrtValue> Values => values;

        /// <summary>Of each output; for views.</summary>
        public Memory[] Memory { get; set; } = [];

        public void Join(int users) => Interlocked.Add(ref _users, users);

        public void Leave()
        {
            if (Interlocked.Decrement(ref _users) == 0) values.Dispose();
        }
    }

    /// <summary>Where an output lies, for as long as its value lives.</summary>
    private readonly unsafe struct Memory
    {
        private readonly byte* _start;
        private readonly int _length;

        public Memory(OrtValue value)
        {
            var bytes = value.GetTensorMutableRawData();
            // The runtime's memory: nothing moves it.
            _start = (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(bytes));
            _length = bytes.Length;
            Shape = value.GetTensorTypeAndShape().Shape;
        }

        public long[] Shape { get; }

        public ReadOnlySpan<byte> Bytes => new(_start, _length);
    }
}
