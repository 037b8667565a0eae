using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Skiff.Batching;
using Skiff.Models;

namespace Skiff.Serving;

/// <summary>What a model answered; dispose it when it is written.</summary>
public readonly struct InferResult(ModelLease lease, ModelOutputs outputs) : IDisposable
{
    public ModelLease Lease { get; } = lease;
    public ModelOutputs Outputs { get; } = outputs;

    public void Dispose()
    {
        Outputs.Dispose();
        Lease.Dispose();
    }
}

/// <summary>Runs one model for one request, after checking that the request's tensors are those of the model.</summary>
public sealed class Inference(ModelHost models, TimeProvider time)
{
    /// <param name="arrived">When the request arrived, a timestamp of the same <see cref="TimeProvider"/>: its timeout counts from there.</param>
    /// <exception cref="RequestException">The model can't be had, or the tensors aren't what it takes.</exception>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<InferResult> InferAsync(string tenant, InferRequest request, long arrived, CancellationToken cancellation)
    {
        var lease = await models.AcquireAsync(tenant, request.Model, request.Version, cancellation);
        try
        {
            var started = time.GetTimestamp();
            if (request.TimeoutMicroseconds > 0 && time.GetElapsedTime(arrived, started).TotalMicroseconds > request.TimeoutMicroseconds)
            {
                throw new RequestException(Refusal.DeadlineExceeded, $"the timeout of {request.TimeoutMicroseconds} µs passed before the model ran");
            }
            if (request.IsRaw) DescribeRaw(lease, request);
            var specs = lease.Session.Inputs;
            var inputs = new Tensor[specs.Count];
            Bind(request, specs, inputs);
            CheckOutputs(request, lease.Session.Outputs);
            var terms = new Terms(Deadline.Of(arrived, null, null, request.TimeoutMicroseconds, time), request.Priority);
            return new InferResult(lease, await lease.RunAsync(request.Buffer, inputs, terms, null, cancellation));
        }
        catch (ModelFailedException e)
        {
            lease.Statistics.Failed(time.GetTimestamp() - arrived);
            var name = lease.Manifest.Name;
            lease.Dispose();
            // Shapes and types were checked, so what is left are values or sizes that don't fit each other: an index out of range, two rows of different length.
            throw RequestException.Invalid($"model '{name}' could not be run on these inputs: {e.Message}");
        }
        catch
        {
            lease.Statistics.Failed(time.GetTimestamp() - arrived);
            lease.Dispose();
            throw;
        }
    }

    /// <summary>Puts the request's inputs into the order of the model's.</summary>
    private static void Bind(InferRequest request, IReadOnlyList<TensorSpec> specs, Tensor[] inputs)
    {
        for (var i = 0; i < request.InputCount; i++)
        {
            var tensor = request.Input(i);
            var index = IndexOf(specs, tensor.Name);
            if (index < 0) throw RequestException.Invalid($"the model has no input '{tensor.Name}'; it takes {List(specs)}");
            if (inputs[index] is not null) throw RequestException.Invalid($"input '{tensor.Name}' stands twice in the request");
            var spec = specs[index];
            if (tensor.Type != spec.Type)
            {
                throw RequestException.Invalid($"input '{tensor.Name}' is {tensor.Type.WireName()}; the model takes {spec.Type.WireName()}");
            }
            if (!spec.Takes(tensor.Shape))
            {
                throw RequestException.Invalid($"input '{tensor.Name}' has shape {Shapes.Format(tensor.Shape)}; the model takes {Shapes.Format(spec.Shape)} (-1 is free)");
            }
            inputs[index] = tensor;
        }
        for (var i = 0; i < inputs.Length; i++)
        {
            if (inputs[i] is null) throw RequestException.Invalid($"input '{specs[i].Name}' is missing; the model takes {List(specs)}");
        }
    }

    private static void CheckOutputs(InferRequest request, IReadOnlyList<TensorSpec> specs)
    {
        for (var i = 0; i < request.OutputCount; i++)
        {
            var name = request.Output(i).Name;
            if (IndexOf(specs, name) < 0) throw RequestException.Invalid($"the model has no output '{name}'; it gives {List(specs)}");
            for (var j = 0; j < i; j++)
            {
                if (request.Output(j).Name == name) throw RequestException.Invalid($"output '{name}' is asked for twice");
            }
        }
    }

    /// <summary>Gives the only tensor of a raw request the name, type and shape that the model declares; the one free dimension, if any, follows from the length.</summary>
    private static void DescribeRaw(ModelLease lease, InferRequest request)
    {
        var specs = lease.Session.Inputs;
        if (specs.Count != 1) throw RequestException.Invalid($"a raw body needs a model with exactly one input; this one takes {List(specs)}");
        var spec = specs[0];
        var tensor = request.Input(0);
        tensor.Name = spec.Name;
        tensor.Type = spec.Type;
        if (spec.Type == DataType.Bytes)
        {
            DescribeRawString(spec, request, tensor);
            return;
        }
        var free = spec.Shape.Count(dimension => dimension < 0);
        var fixedCount = Shapes.Count([.. spec.Shape.Where(dimension => dimension >= 0)]);
        var rowBytes = fixedCount * spec.Type.Size();
        if (free > 1) throw RequestException.Invalid($"a raw body can't say how long the free dimensions of input {spec} are: send its shape");
        var fits = free == 0 ? tensor.Length == rowBytes : rowBytes > 0 && tensor.Length % rowBytes == 0;
        if (!fits)
        {
            throw RequestException.Invalid($"a raw body of {tensor.Length} bytes does not fill input {spec}: it takes {(free == 0 ? "" : "a multiple of ")}{rowBytes} bytes");
        }
        if (spec.Type == DataType.Bool && request.Buffer.Span(tensor.Offset, tensor.Length).ContainsAnyExcept((byte)0, (byte)1))
        {
            throw RequestException.Invalid($"input {spec} is BOOL: its bytes are 0 or 1");
        }
        tensor.Shape = [.. spec.Shape.Select(dimension => dimension >= 0 ? dimension : tensor.Length / rowBytes)];
    }

    /// <summary>For BYTES the whole body is one element.</summary>
    private static void DescribeRawString(TensorSpec spec, InferRequest request, Tensor tensor)
    {
        tensor.Shape = [.. spec.Shape.Select(dimension => dimension < 0 ? 1 : dimension)];
        if (Shapes.Count(tensor.Shape) != 1) throw RequestException.Invalid($"a raw body is one BYTES element and input {spec} takes more");
        var offset = request.Buffer.Allocate(sizeof(uint) + tensor.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(request.Buffer.Span(offset, sizeof(uint)), (uint)tensor.Length);
        request.Buffer.Span(tensor.Offset, tensor.Length).CopyTo(request.Buffer.Span(offset + sizeof(uint), tensor.Length));
        tensor.Offset = offset;
        tensor.Length += sizeof(uint);
    }

    internal static int IndexOf(IReadOnlyList<TensorSpec> specs, string name)
    {
        for (var i = 0; i < specs.Count; i++)
        {
            if (specs[i].Name == name) return i;
        }
        return -1;
    }

    private static string List(IReadOnlyList<TensorSpec> specs) => string.Join(", ", specs);
}
