using System.Text;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Unit.Models;

/// <summary>One test a reason for which <see cref="OnnxFile.Inspect"/> refuses a model; the message is checked for what it has to name.</summary>
public sealed class OnnxRefusalTests
{
    private const int Float = 1;

    public static TheoryData<string> PlacesForTensors =>
        ["initializer", "t", "tensors", "sparse values", "sparse indices", "sparse_tensor", "sparse_tensors", "g", "graphs", "function", "function default", "training"];

    // What the file is.

    [Fact]
    public void EmptyFile_IsRefused() => Refused([], "is empty");

    [Theory]
    [InlineData("{\"model\": 1}", "JSON")]
    [InlineData("<html>", "HTML")]
    [InlineData("version https://git-lfs.github.com/spec/v1", "Git LFS pointer")]
    [InlineData("PK\u0003\u0004rest", "ZIP")]
    [InlineData("GGUF....", "GGUF")]
    [InlineData("....ORTM....", ".ort")]
    [InlineData("....TFL3....", "TensorFlow Lite")]
    public void ForeignFormat_IsRefusedByName(string content, string named) => Refused(Encoding.ASCII.GetBytes(content), named);

    [Theory]
    [InlineData(new byte[] { 0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A }, "PNG")]
    [InlineData(new byte[] { 0x89, 0x48, 0x44, 0x46 }, "HDF5")]
    [InlineData(new byte[] { 0x1F, 0x8B, 0x08 }, "gzip")]
    public void ForeignBinary_IsRefusedByName(byte[] content, string named) => Refused(content, named);

    [Fact]
    public void ModelThatTheRuntimeWouldTakeForItsOwnFormat_IsRefused()
    {
        var model = new ProtobufMessage().Integer(1, 8).Text(2, "ORTM").Raw(Valid().Build()[2..]).ToArray();

        Assert.Equal("ORTM", Encoding.ASCII.GetString(model, 4, 4));
        Refused(model, ".ort");
    }

    [Fact]
    public void TruncatedModel_IsRefused() => Refused(Valid().Build()[..^3], "truncated");

    [Fact]
    public void ModelThatEndsInsideANumber_IsRefused() => Refused([0x08, 0x80], "truncated");

    [Fact]
    public void ModelWithoutIrVersion_IsRefused() => Refused(new ProtobufMessage().Message(7, Valid().Graph).ToArray(), "ir_version");

    [Fact]
    public void ModelWithoutGraph_IsRefused() => Refused(new ProtobufMessage().Integer(1, 8).ToArray(), "no graph");

    [Fact]
    public void GraphWithoutOutputs_IsRefused() => Refused(new OnnxBuilder().Input("x", DataType.Fp32, 1).Build(), "no outputs");

    // How it is encoded.

    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(6)]
    [InlineData(7)]
    public void GroupOrUnknownWireType_IsRefused(int wire)
    {
        var model = Valid();
        model.Graph.Tag(90, wire);

        Refused(model.Build(), $"wire type {wire}");
    }

    [Theory]
    [InlineData(new byte[] { 0x88, 0x00, 0x08 }, "varint")] // a field number with a needless second byte
    [InlineData(new byte[] { 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02 }, "varint")] // 65 bits
    [InlineData(new byte[] { 0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01 }, "varint")] // 11 bytes
    [InlineData(new byte[] { 0x00, 0x08 }, "field number")]
    [InlineData(new byte[] { 0x80, 0x80, 0x80, 0x80, 0x10, 0x08 }, "field number")] // 33 bits
    public void MalformedNumber_IsRefused(byte[] bytes, string named) => Refused(bytes, named);

    [Fact]
    public void PackedNumberThatIsOverlong_IsRefused() =>
        Refused(Valid().Initializer(OnnxTensors.Empty("w", 7, 1).Bytes(OnnxTensors.Int64Data, [0x81, 0x00])).Build(), "varint");

    [Fact]
    public void KnownFieldOfWrongWireType_IsRefused()
    {
        var model = Valid();
        model.Graph.Integer(1, 5);

        Refused(model.Build(), "GraphProto.node is encoded as Varint");
    }

    [Fact]
    public void PackedListOfBrokenLength_IsRefused() =>
        Refused(Valid().Initializer(OnnxTensors.Empty("w", Float, 1).Bytes(OnnxTensors.FloatData, new byte[5])).Build(), "no multiple of 4");

    [Fact]
    public void SecondGraph_IsRefused()
    {
        var model = Valid();
        model.Model.Message(7, Valid().Graph);

        Refused(model.Build(), "two of graph");
    }

    [Fact]
    public void SecondDataLocation_IsRefused() =>
        Refused(Valid().Initializer(OnnxTensors.Floats("w", [1], 1).Integer(14, 1).Integer(14, 0)).Build(), "two of data_location");

    [Fact]
    public void CodeThatParsersCutToThirtyTwoBits_IsRefused() =>
        Refused(Valid().Initializer(OnnxTensors.Floats("w", [1], 1).Integer(14, (1L << 32) + 1)).Build(), "32 bits");

    [Fact]
    public void DimensionWithValueAndName_IsRefused()
    {
        var model = new OnnxBuilder();
        model.Graph.Message(12, value => value.Text(1, "y").Message(2, type => type.Message(1, tensor => tensor
            .Integer(1, Float).Message(2, shape => shape.Message(1, dim => dim.Integer(1, 3).Text(2, "n"))))));

        Refused(model.Build(), "'y'", "dim_param");
    }

    [Fact]
    public void NameThatIsNotUtf8_IsRefused()
    {
        var model = Valid();
        model.Graph.Message(1, node => node.Bytes(3, [0xC3, 0x28]));

        Refused(model.Build(), "NodeProto.name", "UTF-8");
    }

    [Fact]
    public void NameOfUnreasonableLength_IsRefused() =>
        Refused(Valid().Node(new string('N', 1 << 17), [], []).Build(), "NodeProto.op_type", "65536");

    // Limits.

    [Fact]
    public void TooManyBytes_AreRefused() => Refused(Valid().Build(), new ModelLimits { MaxBytes = 10 }, "bytes", "10");

    [Fact]
    public void TooManyNodes_AreRefused() =>
        Refused(Valid().Node("Relu", ["x"], ["r1"]).Node("Relu", ["x"], ["r2"]).Build(), new ModelLimits { MaxNodes = 2 }, "'r2'", "'Relu'", "3", "2");

    [Fact]
    public void TooManyFields_AreRefused()
    {
        var model = Valid();
        for (var i = 0; i < 1000; i++)
            model.Graph.Bytes(13, []);

        Refused(model.Build(), new ModelLimits { MaxFields = 1000 }, "fields", "1000");
    }

    [Fact]
    public void NodesOfNestedGraphs_Count() =>
        Refused(Valid().Node("If", ["c"], ["i"], "", OnnxAttributes.Graph("then_branch", Valid().Graph)).Build(), new ModelLimits { MaxNodes = 2 }, "nodes");

    [Fact]
    public void FunctionsThatUnfoldToTooManyNodes_AreRefused()
    {
        var model = Valid();
        for (var i = 0; i < 14; i++)
            model.Function("com.microsoft", $"F{i}", Call($"F{i + 1}"), Call($"F{i + 1}"), Call($"F{i + 1}"));
        model.Function("com.microsoft", "F14", OnnxBuilder.NodeOf("Relu", ["a"], ["b"]));

        Refused(model.Node("F0", ["x"], ["f"], "com.microsoft").Build(), "nodes", "100000");
    }

    [Fact]
    public void FunctionThatCallsItself_IsRefused() =>
        Refused(Valid().Function("com.microsoft", "F", Call("G")).Function("com.microsoft", "G", Call("F")).Build(), "part of itself");

    [Fact]
    public void FunctionsOfOneName_AreRefused() =>
        Refused(Valid().Function("", "F", Call("Relu")).Function("ai.onnx", "F", Call("Relu")).Build(), "two functions", "'F'");

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ChainOfFunctionsTooDeep_IsRefusedInAnyOrder(bool leafFirst)
    {
        var model = Valid().Function("com.microsoft", "F17", Call("Relu"));
        for (var i = 16; i >= 0; i--)
            model.Function("com.microsoft", $"F{i}", Call($"F{i + 1}"));
        var order = Enumerable.Range(0, 18).OrderBy(i => leafFirst ? -i : i);
        foreach (var i in order)
            model.Node($"F{i}", ["x"], [$"f{i}"], "com.microsoft");

        Refused(model.Build(), "deep", "16");
    }

    [Fact]
    public void TooManyElements_AreRefused() =>
        Refused(Valid().Initializer("w", new float[3], 3).Initializer("v", new float[3], 3).Build(), new ModelLimits { MaxElements = 5 }, "'v'", "6", "5");

    [Fact]
    public void SparseTensorThatUnfoldsToTooMany_IsRefused()
    {
        var sparse = OnnxTensors.Sparse(OnnxTensors.Floats("w", [1], 1), OnnxTensors.Integers("", [0], 1), 1 << 20, 1 << 20);

        Refused(Valid().SparseInitializer(sparse).Build(), "elements");
    }

    [Fact]
    public void OutputOfTooManyElements_IsRefused() => Refused(new OnnxBuilder().Output("y", DataType.Fp32, 1 << 20, 1 << 20).Build(), "'y'", "elements");

    [Fact]
    public void GraphsNestedAsDeepAsAllowed_AreAccepted() => OnnxFile.Inspect(Nested(16).Build(), ModelLimits.Default);

    [Fact]
    public void GraphsNestedTooDeep_AreRefused() => Refused(Nested(17).Build(), "17 deep", "16", "'If'");

    [Fact]
    public void TypesNestedTooDeep_AreRefused()
    {
        var type = new ProtobufMessage();
        for (var i = 0; i < 1000; i++)
            type = new ProtobufMessage().Message(4, new ProtobufMessage().Message(1, type));
        var model = Valid();
        model.Graph.Message(13, new ProtobufMessage().Text(1, "v").Message(2, type));

        Refused(model.Build(), "deep", "16");
    }

    [Fact]
    public void MetadataThatTakesTooMuchMemory_IsRefused() => Refused(Valid().Metadata("k", new string('v', 65 << 20)).Build(), "metadata", "64 MiB");

    // Tensors.

    [Theory]
    [MemberData(nameof(PlacesForTensors))]
    public void ExternalData_IsRefusedWhereverItHides(string place) => Refused(With(OnnxTensors.External("hidden"), place), "'hidden'", "external");

    [Theory]
    [MemberData(nameof(PlacesForTensors))]
    public void TensorInEachPlace_IsAccepted(string place) => OnnxFile.Inspect(With(OnnxTensors.Integers("plain", [0], 1), place), ModelLimits.Default);

    [Fact]
    public void ExternalLocationWithoutEntries_IsRefused() => Refused(With(OnnxTensors.Floats("w", [1], 1).Integer(14, 1), "initializer"), "'w'", "external");

    [Fact]
    public void ExternalEntriesWithoutLocation_AreRefused() =>
        Refused(With(OnnxTensors.Floats("w", [1], 1).Message(13, entry => entry.Text(1, "location")), "initializer"), "'w'", "external");

    [Fact]
    public void UnknownDataLocation_IsRefused() => Refused(With(OnnxTensors.Floats("w", [1], 1).Integer(14, 2), "initializer"), "'w'", "data_location 2");

    [Fact]
    public void SegmentOfATensor_IsRefused() => Refused(With(OnnxTensors.Floats("w", [1], 1).Message(3, _ => { }), "initializer"), "'w'", "segment");

    [Fact]
    public void TensorOfANode_IsNamedWithItsNode() => Refused(With(OnnxTensors.External("hidden"), "t"), "'hidden'", "'out'", "'Constant'");

    [Fact]
    public void NegativeDimension_IsRefused() => Refused(With(OnnxTensors.Floats("w", [1], -1), "initializer"), "'w'", "-1");

    [Fact]
    public void DimensionsThatOverflow_AreRefused() =>
        Refused(With(OnnxTensors.Floats("w", [1], 1L << 32, 1L << 32), "initializer"), "'w'", "64 bits");

    [Fact]
    public void NegativeDimensionOfASparseTensor_IsRefused() =>
        Refused(Valid().SparseInitializer(OnnxTensors.Sparse(OnnxTensors.Floats("w", [1], 1), OnnxTensors.Integers("", [0], 1), -5)).Build(), "sparse", "-5");

    [Fact]
    public void TooFewValues_AreRefused() => Refused(With(OnnxTensors.Floats("w", [1, 2], 3), "initializer"), "'w'", "3", "2", "float_data");

    [Fact]
    public void TensorWithoutData_IsRefused() => Refused(With(OnnxTensors.Empty("w", Float, 3), "initializer"), "'w'", "3", "0");

    [Fact]
    public void ValuesInTheWrongField_AreRefused() =>
        Refused(With(OnnxTensors.Empty("w", Float, 1).Integers(OnnxTensors.Int64Data, 1), "initializer"), "'w'", "int64_data", "float_data");

    [Fact]
    public void ValuesInTwoFields_AreRefused() =>
        Refused(With(OnnxTensors.Floats("w", [1], 1).Bytes(OnnxTensors.RawData, new byte[4]), "initializer"), "'w'", "both");

    [Fact]
    public void StringsAsRawData_AreRefused() => Refused(With(OnnxTensors.Raw("w", 8, new byte[3], 3), "initializer"), "'w'", "string_data");

    [Theory]
    [InlineData(0)]
    [InlineData(99)]
    [InlineData(-1)]
    public void UnknownElementType_IsRefused(int code) => Refused(With(OnnxTensors.Raw("w", code, [], 0), "initializer"), "'w'", $"{code}");

    // Operators.

    [Fact]
    public void ImportOfForeignDomain_IsRefused() => Refused(Valid().Import("evil.example", 1).Build(), "'evil.example'", "'com.microsoft'");

    [Fact]
    public void NodeOfForeignDomain_IsRefused() =>
        Refused(Valid().Node("Run", ["x"], ["r"], "evil.example").Build(), "'r'", "'Run'", "'evil.example'", "'ai.onnx.ml'");

    [Fact]
    public void FunctionOfForeignDomain_IsRefused() => Refused(Valid().Function("local", "F", Call("Relu")).Build(), "'F'", "'local'");

    [Fact]
    public void ImportOfForeignDomainByAFunction_IsRefused()
    {
        var model = Valid();
        model.Model.Message(25, function => function.Text(1, "F").Message(9, import => import.Text(1, "evil.example")));

        Refused(model.Build(), "'evil.example'");
    }

    [Fact]
    public void NodeOfForeignDomainInANestedGraph_IsRefused()
    {
        var branch = new OnnxBuilder().Node("Run", [], ["r"], "evil.example");

        Refused(Valid().Node("If", ["c"], ["i"], "", OnnxAttributes.Graph("then_branch", branch.Graph)).Build(), "'evil.example'");
    }

    [Theory]
    [InlineData("")]
    [InlineData("com.microsoft")]
    public void EpContext_IsRefusedInAnyDomain(string domain) => Refused(Valid().Node("EPContext", ["x"], ["e"], domain).Build(), "EPContext", "'e'");

    // Inputs and outputs.

    [Theory]
    [InlineData(4, "sequence_type")]
    [InlineData(5, "map_type")]
    [InlineData(7, "opaque_type")]
    [InlineData(8, "sparse_tensor_type")]
    [InlineData(9, "optional_type")]
    public void ValueThatIsNoTensor_IsRefused(int field, string named)
    {
        var model = Valid();
        model.Graph.Message(11, value => value.Text(1, "s").Message(2, type => type.Message(field, _ => { })));

        Refused(model.Build(), "input 's'", named);
    }

    [Theory]
    [InlineData(0, "0")]
    [InlineData(14, "COMPLEX64")]
    [InlineData(17, "FLOAT8E4M3FN")]
    [InlineData(22, "INT4")]
    public void ValueOfUnservedType_IsRefused(int code, string named)
    {
        var model = Valid();
        model.Graph.Message(11, OnnxBuilder.Value("q", code, 1));

        Refused(model.Build(), "input 'q'", named, "FLOAT16");
    }

    [Fact]
    public void ValueWithoutType_IsRefused()
    {
        var model = Valid();
        model.Graph.Message(12, value => value.Text(1, "z"));

        Refused(model.Build(), "output 'z'", "no type");
    }

    [Fact]
    public void ValueWithoutShape_IsRefused()
    {
        var model = Valid();
        model.Graph.Message(12, value => value.Text(1, "z").Message(2, type => type.Message(1, tensor => tensor.Integer(1, Float))));

        Refused(model.Build(), "output 'z'", "no shape");
    }

    [Fact]
    public void NegativeDimensionOfAnInput_IsRefused() => Refused(Valid().Input("n", DataType.Fp32, -2).Build(), "input 'n'", "-2");

    [Theory]
    [InlineData("")]
    [InlineData("a\0b")]
    public void ValueWithoutProperName_IsRefused(string name) => Refused(Valid().Input(name, DataType.Fp32, 1).Build(), "input", "name");

    [Fact]
    public void ValuesOfOneName_AreRefused() => Refused(Valid().Input("x", DataType.Fp32, 1).Build(), "two inputs", "'x'");

    [Fact]
    public void ImportTwice_IsRefused() => Refused(Valid().Import("ai.onnx", 13).Build(), "twice");

    [Fact]
    public void MetadataTwice_IsRefused() => Refused(Valid().Metadata("k", "1").Metadata("k", "2").Build(), "'k'", "twice");

    [Fact]
    public void NameThatWouldStartALogLine_IsShownWithoutIt()
    {
        var error = Refused(Valid().Node("Run\nforged", ["x"], ["r"], "evil.example").Build(), "Run?forged");

        Assert.DoesNotContain('\n', error.Message);
    }

    private static OnnxBuilder Valid() => new OnnxBuilder()
        .Input("x", DataType.Fp32, -1, 2)
        .Node("Identity", ["x"], ["y"])
        .Output("y", DataType.Fp32, -1, 2);

    private static ProtobufMessage Call(string function) =>
        OnnxBuilder.NodeOf(function, ["a"], ["b"], function == "Relu" ? "" : "com.microsoft");

    private static OnnxBuilder Nested(int depth)
    {
        var model = Valid();
        for (var i = 0; i < depth; i++)
            model = Valid().Node("If", ["c"], [$"i{i}"], "", OnnxAttributes.Graph("then_branch", model.Graph));
        return model;
    }

    /// <summary>A valid model with a tensor in one of the places where the format lets one stand.</summary>
    private static byte[] With(ProtobufMessage tensor, string place)
    {
        var plain = OnnxTensors.Integers("plain", [0], 1);
        var branch = new OnnxBuilder().Initializer(tensor).Graph;
        var model = Valid();
        var built = place switch
        {
            "initializer" => model.Initializer(tensor),
            "sparse values" => model.SparseInitializer(OnnxTensors.Sparse(tensor, plain, 1)),
            "sparse indices" => model.SparseInitializer(OnnxTensors.Sparse(plain, tensor, 1)),
            "t" => Constant(OnnxAttributes.Tensor("value", tensor)),
            "tensors" => Constant(OnnxAttributes.Tensors("values", tensor)),
            "sparse_tensor" => Constant(OnnxAttributes.Sparse("sparse_value", OnnxTensors.Sparse(tensor, plain, 1))),
            "sparse_tensors" => Constant(OnnxAttributes.Sparses("sparse_values", OnnxTensors.Sparse(plain, tensor, 1))),
            "g" => Constant(OnnxAttributes.Graph("body", branch)),
            "graphs" => Constant(OnnxAttributes.Graphs("bodies", branch)),
            "function" => model.Function("", "F", OnnxBuilder.NodeOf("Constant", [], ["b"], "", OnnxAttributes.Tensor("value", tensor))),
            "function default" => WithDefault(),
            "training" => model.Training(branch),
            _ => throw new ArgumentOutOfRangeException(nameof(place), place, null),
        };
        return built.Build();

        OnnxBuilder Constant(ProtobufMessage attribute) => model.Node("Constant", [], ["out"], "", attribute);

        OnnxBuilder WithDefault()
        {
            model.Model.Message(25, function => function.Text(1, "F").Message(11, OnnxAttributes.Tensor("value", tensor)));
            return model;
        }
    }

    private static ModelRejectedException Refused(byte[] model, params ReadOnlySpan<string> named) => Refused(model, ModelLimits.Default, named);

    private static ModelRejectedException Refused(byte[] model, ModelLimits limits, params ReadOnlySpan<string> named)
    {
        var error = Assert.Throws<ModelRejectedException>(() => OnnxFile.Inspect(model, limits));
        foreach (var part in named)
            Assert.Contains(part, error.Message);
        return error;
    }
}
