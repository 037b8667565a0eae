using System.Runtime.InteropServices;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Unit.Models;

/// <summary>A model as several sessions of the runtime.</summary>
public sealed class ModelSessionTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task Instances_AnswerAlike_HoweverManyRunAtOnce(int instances)
    {
        var model = OnnxBuilder.Identity(DataType.Fp32, -1, 2);
        var session = ModelSession.Load(model, OnnxFile.Inspect(model, ModelLimits.Default), instances: instances);
        session.Warm(1, 4);

        await Task.WhenAll(Enumerable.Range(0, 4 * instances).Select(caller => Task.Run(
            () =>
            {
                var buffer = new TensorBuffer();
                for (var i = 0; i < 200; i++)
                {
                    buffer.Clear();
                    var input = new Tensor { Name = session.Inputs[0].Name, Type = DataType.Fp32, Shape = [1, 2], Length = 2 * sizeof(float) };
                    input.Offset = buffer.Allocate(input.Length);
                    float[] values = [caller, 1000 * caller + i];
                    MemoryMarshal.AsBytes<float>(values).CopyTo(buffer.Span(input.Offset, input.Length)); // what is allocated is not cleared
                    using var outputs = session.Run(buffer, [input]);
                    Assert.Equal(values, outputs.Floats(0).ToArray());
                }
            },
            TestContext.Current.CancellationToken)));
        session.Leave();
    }
}
