using System.Buffers.Binary;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Session = Microsoft.ML.OnnxRuntime.InferenceSession;

namespace Skiff.Models;

/// <summary>The runtime refused a model or failed to run it; the message is the runtime's own, without the places in its source code.</summary>
public sealed partial class ModelFailedException(string message, Exception? inner = null) : Exception(InSourceCode().Replace(message, ""), inner)
{
    // "[ErrorCode:RuntimeException] … Status Message: /onnxruntime_src/…/ops.h:540 void onnxruntime::X::Append(ptrdiff_t) axis == 1 was false. 2 by 3"
    [System.Text.RegularExpressions.GeneratedRegex(@"^\[ErrorCode:\w+\] |/\S+\.(h|cc|cpp|cu):\d+ (.*? was false\. ?)?")]
    private static partial System.Text.RegularExpressions.Regex InSourceCode();
}

/// <summary>
/// A loaded model: a session of the ONNX Runtime, counted by its users, so that it can be replaced or evicted under load and its native memory is freed
/// when the last of them has left. Runs may overlap. On a GPU it may be several sessions of the runtime, each with weights and a stream of its own: the runs of one session wait for each other there.
/// </summary>
public sealed class ModelSession
{
    /// <summary>Of all inputs together: what a request's body may be at most.</summary>
    private const long MostWarmBytes = 1 << 30;

    private readonly Session[] _sessions;
    private readonly int[] _running;
    private readonly RunOptions _runOptions = new() { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
    private readonly string[] _inputNames;
    private readonly string[] _outputNames;
    private int _users = 1;
    private int _turn;

    private ModelSession(Session[] sessions, TensorSpec[] inputs, TensorSpec[] outputs)
    {
        (_sessions, _running) = (sessions, new int[sessions.Length]);
        Inputs = inputs;
        Outputs = outputs;
        _inputNames = [.. inputs.Select(input => input.Name)];
        _outputNames = [.. outputs.Select(output => output.Name)];
    }

    public IReadOnlyList<TensorSpec> Inputs { get; }

    public IReadOnlyList<TensorSpec> Outputs { get; }

    /// <summary>Loads a model from its bytes (never from a path) after <see cref="OnnxFile.Inspect"/> let it pass.</summary>
    /// <param name="instances">Sessions of the runtime, each of which holds all of the model.</param>
    /// <exception cref="ModelFailedException">The runtime refuses it.</exception>
    public static ModelSession Load(byte[] model, OnnxFile inspected, ExecutionProvider provider = ExecutionProvider.Cpu, int instances = 1)
    {
        var sessions = new List<Session>(instances);
        try
        {
            using var options = new Microsoft.ML.OnnxRuntime.SessionOptions
            {
                // One thread a run: functions have few cores and many requests, and a spinning pool costs both.
                IntraOpNumThreads = 1,
                InterOpNumThreads = 1,
                GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL,
                // What goes wrong is thrown; the runtime's own log would repeat it with values out of the inputs.
                LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
            };
            ExecutionProviders.Append(options, provider);
            for (var i = 0; i < instances; i++) sessions.Add(new Session(model, options));
            return new ModelSession([.. sessions], [.. inspected.Inputs], [.. inspected.Outputs]);
        }
        catch (OnnxRuntimeException e)
        {
            // The first may have found memory that the second didn't.
            foreach (var session in sessions) session.Dispose();
            throw new ModelFailedException(e.Message, e);
        }
    }

    /// <summary>Joins the users, unless the last one has already left.</summary>
    public bool TryEnter()
    {
        var users = Volatile.Read(ref _users);
        while (users > 0)
        {
            var seen = Interlocked.CompareExchange(ref _users, users + 1, users);
            if (seen == users) return true;
            users = seen;
        }
        return false;
    }

    /// <summary>Leaves; the last to leave frees the native memory. The loader counts as one user until it lets go.</summary>
    public void Leave()
    {
        if (Interlocked.Decrement(ref _users) != 0) return;
        foreach (var session in _sessions) session.Dispose();
        _runOptions.Dispose();
        NativeMemoryTrim.Run();
    }

    /// <summary>
    /// Runs the model once. Inputs must be all of <see cref="Inputs"/>, in order, of their types and shapes; they are read in place.
    /// </summary>
    /// <exception cref="ModelFailedException">The runtime failed, for example on shapes that don't fit each other.</exception>
    public ModelOutputs Run(TensorBuffer buffer, ReadOnlySpan<Tensor> inputs)
    {
        var instance = Enter();
        try
        {
            return Run(_sessions[instance], buffer, inputs);
        }
        finally
        {
            Interlocked.Decrement(ref _running[instance]);
        }
    }

    /// <returns>An instance that nobody uses; where all are used, the next in turn.</returns>
    private int Enter()
    {
        for (var i = 0; i < _running.Length; i++)
        {
            if (Interlocked.CompareExchange(ref _running[i], 1, 0) == 0) return i;
        }
        var next = (int)((uint)Interlocked.Increment(ref _turn) % (uint)_running.Length);
        Interlocked.Increment(ref _running[next]);
        return next;
    }

    private ModelOutputs Run(Session session, TensorBuffer buffer, ReadOnlySpan<Tensor> inputs)
    {
        var values = new OrtValue[inputs.Length];
        var memory = buffer.Memory;
        try
        {
            for (var i = 0; i < inputs.Length; i++) values[i] = ToOrtValue(buffer, inputs[i]);
            return new ModelOutputs(Outputs, session.Run(_runOptions, _inputNames, values, _outputNames));
        }
        catch (OnnxRuntimeException e)
        {
            throw new ModelFailedException(e.Message, e);
        }
        finally
        {
            foreach (var value in values) value?.Dispose();
            // The runtime reads the memory by its address, which keeps nothing alive.
            GC.KeepAlive(memory);
        }
    }

    /// <summary>Runs the model on zeros, each free dimension 1: what a first request would pay, paid before it comes.</summary>
    /// <param name="rows">How many of them in a run, one run after the other: a provider prepares for each size that it meets. Models whose first dimensions aren't rows take one.</param>
    /// <exception cref="ModelFailedException">The model can't run.</exception>
    public void Warm(params ReadOnlySpan<int> rows)
    {
        WarmOne(1);
        if (!Inputs.All(input => input.Type != DataType.Bytes && input.Shape is [-1, ..])) return;
        foreach (var count in rows)
        {
            if (count > 1) WarmOne(count);
        }
    }

    private void WarmOne(int rows)
    {
        var buffer = new TensorBuffer();
        var inputs = new Tensor[Inputs.Count];
        for (var i = 0; i < inputs.Length; i++)
        {
            var spec = Inputs[i];
            var tensor = new Tensor { Name = spec.Name, Type = spec.Type, Shape = [.. spec.Shape.Select(dimension => Math.Max(dimension, 1))] };
            if (rows > 1) tensor.Shape[0] = rows;
            // An empty string is its length, four zero bytes, so zeros serve for every type.
            var size = spec.Type == DataType.Bytes ? sizeof(uint) : spec.Type.Size();
            var bytes = Shapes.Count(tensor.Shape) * size;
            if (bytes > MostWarmBytes - buffer.Used) throw new ModelFailedException($"input {spec} brings the inputs to {bytes + buffer.Used} bytes; at most {MostWarmBytes} can be given");
            tensor.Length = (int)bytes;
            tensor.Offset = buffer.Allocate(tensor.Length);
            buffer.Span(tensor.Offset, tensor.Length).Clear();
            inputs[i] = tensor;
        }
        foreach (var session in _sessions) Run(session, buffer, inputs).Dispose();
    }

    private static OrtValue ToOrtValue(TensorBuffer buffer, Tensor tensor)
    {
        if (tensor.Type != DataType.Bytes)
        {
            return OrtValue.CreateTensorValueWithData(
                OrtMemoryInfo.DefaultInstance, ElementType(tensor.Type), tensor.Shape, buffer.Address(tensor.Offset), tensor.Length);
        }
        var strings = OrtValue.CreateTensorWithEmptyStrings(OrtAllocator.DefaultInstance, tensor.Shape);
        var rest = (ReadOnlySpan<byte>)buffer.Span(tensor.Offset, tensor.Length);
        for (var i = 0; !rest.IsEmpty; i++)
        {
            var length = (int)BinaryPrimitives.ReadUInt32LittleEndian(rest);
            strings.StringTensorSetElementAt(rest.Slice(sizeof(uint), length), i);
            rest = rest[(sizeof(uint) + length)..];
        }
        return strings;
    }

    private static TensorElementType ElementType(DataType type) => type switch
    {
        DataType.Bool => TensorElementType.Bool,
        DataType.UInt8 => TensorElementType.UInt8,
        DataType.UInt16 => TensorElementType.UInt16,
        DataType.UInt32 => TensorElementType.UInt32,
        DataType.UInt64 => TensorElementType.UInt64,
        DataType.Int8 => TensorElementType.Int8,
        DataType.Int16 => TensorElementType.Int16,
        DataType.Int32 => TensorElementType.Int32,
        DataType.Int64 => TensorElementType.Int64,
        DataType.Fp16 => TensorElementType.Float16,
        DataType.Fp32 => TensorElementType.Float,
        DataType.Fp64 => TensorElementType.Double,
        DataType.Bf16 => TensorElementType.BFloat16,
        DataType.Bytes => TensorElementType.String,
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };
}
