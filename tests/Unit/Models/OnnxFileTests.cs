using Microsoft.ML.OnnxRuntime;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Unit.Models;

/// <summary>What is read from a model that is fine; <see cref="OnnxRefusalTests"/> has those that are not.</summary>
public sealed class OnnxFileTests
{
    public static TheoryData<DataType> Types => [.. Enum.GetValues<DataType>()];

    [Fact]
    public void WellFormedModel_IsDescribed()
    {
        var file = OnnxFile.Inspect(
            new OnnxBuilder()
                .Producer("tests", "1.2")
                .Import("ai.onnx.ml", 3)
                .Metadata("labels", "a,b")
                .Input("x", DataType.Fp32, -1, 2)
                .Initializer("w", [1, 2, 3, 4, 5, 6], 2, 3)
                .Node("MatMul", ["x", "w"], ["y"])
                .Output("y", DataType.Fp32, -1, 3)
                .Build(),
            ModelLimits.Default);

        var input = Assert.Single(file.Inputs);
        Assert.Equal(("x", DataType.Fp32), (input.Name, input.Type));
        Assert.Equal([-1, 2], input.Shape);
        Assert.Equal([-1, 3], Assert.Single(file.Outputs).Shape);
        Assert.Equal(("tests 1.2", 8L, 1, 6L), (file.Producer, file.IrVersion, file.Nodes, file.Elements));
        Assert.Equal(17, file.Opsets[""]);
        Assert.Equal(3, file.Opsets["ai.onnx.ml"]);
        Assert.Equal("a,b", file.Metadata["labels"]);
    }

    // ORT's CPU provider has Identity for every type that is served, FP16, BF16 and strings included.
    [Theory]
    [MemberData(nameof(Types))]
    public void IdentityOfEachType_IsAcceptedAndLoads(DataType type)
    {
        var model = OnnxBuilder.Identity(type, -1, 3);

        var input = Assert.Single(OnnxFile.Inspect(model, ModelLimits.Default).Inputs);
        Assert.Equal(type, input.Type);
        Assert.Equal([-1, 3], input.Shape);

        using var session = new InferenceSession(model);
        Assert.Equal("x", Assert.Single(session.InputMetadata).Key);
    }

    [Fact]
    public void InputThatAnInitializerFills_IsNoInput()
    {
        var file = OnnxFile.Inspect(
            new OnnxBuilder()
                .Input("x", DataType.Fp32, 1)
                .Input("w", DataType.Fp32, 1)
                .Initializer("w", [1f], 1)
                .Node("Add", ["x", "w"], ["y"])
                .Output("y", DataType.Fp32, 1)
                .Build(),
            ModelLimits.Default);

        Assert.Equal("x", Assert.Single(file.Inputs).Name);
    }

    [Fact]
    public void DimensionWithoutValueOrName_IsDynamic()
    {
        var model = new OnnxBuilder();
        model.Graph.Message(12, value => value.Text(1, "y").Message(2, type => type.Message(1, tensor => tensor
            .Integer(1, 1).Message(2, shape => shape.Message(1, _ => { }).Message(1, dim => dim.Integer(1, -1))))));

        Assert.Equal([-1, -1], Assert.Single(OnnxFile.Inspect(model.Build(), ModelLimits.Default).Outputs).Shape);
    }

    [Fact]
    public void FunctionCalledTwice_IsCountedTwice()
    {
        var file = OnnxFile.Inspect(
            new OnnxBuilder()
                .Function("com.microsoft", "Twice", OnnxBuilder.NodeOf("Add", ["a", "a"], ["b"]))
                .Input("x", DataType.Fp32, 1)
                .Node("Twice", ["x"], ["t"], "com.microsoft")
                .Node("Twice", ["t"], ["y"], "com.microsoft")
                .Output("y", DataType.Fp32, 1)
                .Build(),
            ModelLimits.Default);

        Assert.Equal(4, file.Nodes);
    }

    [Fact]
    public void UnknownField_IsSkipped()
    {
        var model = new OnnxBuilder().Output("y", DataType.Fp32, 1);
        model.Model.Integer(90, 1).Text(91, "later").Float(1000, 1);

        Assert.Single(OnnxFile.Inspect(model.Build(), ModelLimits.Default).Outputs);
    }

    // Type code, dims, the field that holds the data, and the bytes or entries that it needs.
    [Theory]
    [InlineData(1, 3, OnnxTensors.RawData, 12)]
    [InlineData(10, 3, OnnxTensors.RawData, 6)]
    [InlineData(16, 3, OnnxTensors.RawData, 6)]
    [InlineData(9, 3, OnnxTensors.RawData, 3)]
    [InlineData(22, 3, OnnxTensors.RawData, 2)]
    [InlineData(25, 5, OnnxTensors.RawData, 2)]
    [InlineData(15, 2, OnnxTensors.RawData, 32)]
    [InlineData(10, 3, OnnxTensors.Int32Data, 3)]
    [InlineData(16, 3, OnnxTensors.Int32Data, 3)]
    [InlineData(9, 3, OnnxTensors.Int32Data, 3)]
    [InlineData(17, 3, OnnxTensors.Int32Data, 3)]
    [InlineData(21, 3, OnnxTensors.Int32Data, 2)]
    [InlineData(12, 3, OnnxTensors.UInt64Data, 3)]
    [InlineData(7, 0, OnnxTensors.Int64Data, 0)]
    [InlineData(8, 3, OnnxTensors.StringData, 3)]
    public void TensorData_FitsOrIsRefused(int code, long elements, int field, int needed)
    {
        Assert.Equal(elements, OnnxFile.Inspect(WithData(needed), ModelLimits.Default).Elements);
        Assert.Throws<ModelRejectedException>(() => OnnxFile.Inspect(WithData(needed + 1), ModelLimits.Default));
        if (needed > 0)
            Assert.Throws<ModelRejectedException>(() => OnnxFile.Inspect(WithData(needed - 1), ModelLimits.Default));

        byte[] WithData(int count)
        {
            var tensor = OnnxTensors.Empty("w", code, elements);
            if (field == OnnxTensors.StringData)
                tensor.Texts(field, Enumerable.Repeat("text", count));
            else if (field == OnnxTensors.RawData)
                tensor.Bytes(field, new byte[count]);
            else
                tensor.Integers(field, new long[count]);
            return new OnnxBuilder().Initializer(tensor).Output("y", DataType.Fp32, 1).Build();
        }
    }

    [Fact]
    public void ComplexTensor_TakesTwoFloatsAnElement()
    {
        var model = new OnnxBuilder().Initializer(OnnxTensors.Empty("w", 14, 2).Floats(OnnxTensors.FloatData, 1, 2, 3, 4)).Output("y", DataType.Fp32, 1);

        Assert.Equal(2, OnnxFile.Inspect(model.Build(), ModelLimits.Default).Elements);
    }

    [Fact]
    public void UnpackedNumbers_CountLikePackedOnes()
    {
        var tensor = new ProtobufMessage().Integer(1, 1).Integer(1, 3).Integer(2, 1).Float(4, 1).Float(4, 2).Floats(4, 3);
        var model = new OnnxBuilder().Initializer(tensor).Output("y", DataType.Fp32, 1);

        Assert.Equal(3, OnnxFile.Inspect(model.Build(), ModelLimits.Default).Elements);
    }
}
