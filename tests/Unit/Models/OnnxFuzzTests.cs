using Skiff.Models;
using Skiff.Support;

namespace Skiff.Unit.Models;

public sealed class OnnxFuzzTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void MutatedModel_IsAcceptedOrRefusedAndNothingElse(int seed)
    {
        var random = new Random(seed);
        byte[][] models = [OnnxBuilder.Identity(DataType.Fp32, -1, 3), WithEverything()];
        foreach (var model in models)
            OnnxFile.Inspect(model, ModelLimits.Default);
        for (var i = 0; i < 4000; i++)
        {
            var mutant = Mutate(models[i % models.Length], random);
            try
            {
                OnnxFile.Inspect(mutant, ModelLimits.Default);
            }
            catch (ModelRejectedException)
            {
                // One of the two allowed ends; any other exception fails the test.
            }
        }
    }

    [Fact]
    public void EveryTruncation_IsAcceptedOrRefusedAndNothingElse()
    {
        var model = WithEverything();
        for (var length = 0; length < model.Length; length++)
        {
            // A cut between two fields of the model leaves a shorter, well-formed one.
            var cut = Record.Exception(() => OnnxFile.Inspect(model.AsSpan(0, length), ModelLimits.Default));
            Assert.True(cut is null or ModelRejectedException, $"at {length}: {cut}");
        }
    }

    private static byte[] Mutate(byte[] model, Random random)
    {
        List<byte> bytes = [.. model];
        for (var edits = random.Next(1, 4); edits > 0; edits--)
        {
            var at = random.Next(bytes.Count);
            switch (random.Next(5))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes.Insert(at, (byte)random.Next(256));
                    break;
                case 3:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 9), bytes.Count - at - 1));
                    break;
                default:
                    bytes.InsertRange(at, bytes.GetRange(at, Math.Min(random.Next(1, 33), bytes.Count - at)));
                    break;
            }
        }
        return [.. bytes];
    }

    private static byte[] WithEverything()
    {
        var values = OnnxTensors.Floats("v", [1, 2], 2);
        var sparse = OnnxTensors.Sparse(values, OnnxTensors.Integers("i", [0, 3], 2), 4);
        var branch = new OnnxBuilder()
            .Initializer("b", [1, 2], 2)
            .Node("Identity", ["b"], ["o"])
            .Output("o", DataType.Fp32, 2);
        return new OnnxBuilder()
            .Producer("fuzz", "1")
            .Import("com.microsoft", 1)
            .Metadata("k", "v")
            .Function("com.microsoft", "F", OnnxBuilder.NodeOf("Relu", ["a"], ["b"]))
            .Training(branch.Graph)
            .Input("x", DataType.Fp32, -1, 2)
            .Input("s", DataType.Bytes, -1)
            .Initializer(values)
            .Initializer("n", [1L, -1L], 2)
            .Initializer(OnnxTensors.Strings("names", ["a", "b"], 2))
            .Initializer(OnnxTensors.Raw("h", 10, new byte[4], 2))
            .SparseInitializer(sparse)
            .Node("If", ["c"], ["i"], "", OnnxAttributes.Graph("then_branch", branch.Graph), OnnxAttributes.Graph("else_branch", branch.Graph))
            .Node("F", ["x"], ["f"], "com.microsoft")
            .Node("Constant", [], ["c"], "", OnnxAttributes.Sparse("sparse_value", sparse), OnnxAttributes.Integers("ints", 1, 2, 3))
            .Node("Gemm", ["x", "v"], ["y"], "", OnnxAttributes.Float("alpha", 1), OnnxAttributes.Integer("transB", 1), OnnxAttributes.Text("mode", "m"))
            .Output("y", DataType.Fp32, -1, 2)
            .Build();
    }
}
