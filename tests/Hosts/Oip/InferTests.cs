using System.Text;
using System.Text.Json;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Oip;

/// <summary>Inference: what requests may look like and what their answers then look like.</summary>
public sealed class InferTests(InferTests.Fixture fixture) : IClassFixture<InferTests.Fixture>
{
    private const string Four = """{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}""";

    private const string Pair = """
        {"name":"a","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]},{"name":"b","shape":[2,2],"datatype":"INT64","data":[5,6,7,8]}
        """;

    private HttpClient Client => fixture.Server.Client;

    [Theory]
    [InlineData("matrix", "[2,4]", "[1,2,3,4,5,6,7,8]")]
    [InlineData("matrix", "[2,4]", "[[1,2,3,4],[5,6,7,8]]")]
    [InlineData("matrix", "[2,4]", " [ [ 1 , 2,3,\t4 ] ,\r\n[5,6,7,8] ] ")]
    [InlineData("image", "[2,1,2,2]", "[[[[1,2],[3,4]]],[[[5,6],[7,8]]]]")]
    [InlineData("image", "[2,1,2,2]", "[1,2,3,4,5,6,7,8]")]
    public async Task FlatOrNestedData_IsReadRowMajor(string model, string shape, string data)
    {
        var answer = await InferAsync(model, Body("x", shape, data));

        Assert.Equal("[1,2,3,4,5,6,7,8]", Data(answer));
        Assert.Equal(shape, answer.Output().GetProperty("shape").GetRawText());
    }

    [Theory]
    [InlineData("image", "[1,1,2,2]", "[[1,2,3,4]]")]
    [InlineData("image", "[1,1,2,2]", "[[1,2],[3,4]]")]
    [InlineData("image", "[1,1,2,2]", "[[[[[1],[2],[3],[4]]]]]")]
    [InlineData("vector", "[4]", "[[1,2,3,4]]")]
    [InlineData("vector", "[4]", "[[1,2],[3,4]]")]
    public async Task DataNestedToAnotherDepthThanTheShape_IsFlattened(string model, string shape, string data)
    {
        var answer = await InferAsync(model, Body("x", shape, data));

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task DataNestedToAnotherDepthWithTheWrongCount_IsRefused()
    {
        var answer = await InferAsync("image", Body("x", "[1,1,2,2]", "[[1,2,3]]"));

        answer.AssertRefused(400, "'x'", "[1,1,2,2]", "4 values", "3");
    }

    [Theory]
    [InlineData("""{"data":[1,2,3,4],"shape":[1,4],"datatype":"FP32","name":"x"}""")]
    [InlineData("""{"data":[[1,2,3,4]],"datatype":"FP32","name":"x","shape":[1,4]}""")]
    [InlineData("""{"shape":[1,4],"data":[1,2,3,4],"name":"x","datatype":"FP32"}""")]
    public async Task FieldsInAnyOrder_AreRead(string input)
    {
        var answer = await InferAsync("matrix", $$"""{"inputs":[{{input}}]}""");

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task OutputsBeforeInputs_AreRead()
    {
        var answer = await InferAsync("pair", $$"""{"outputs":[{"name":"d"}],"inputs":[{{Pair}}],"id":"7"}""");

        Assert.Equal(["d"], Names(answer));
    }

    [Fact]
    public async Task UnknownFields_AreIgnored()
    {
        var answer = await InferAsync("matrix",
            """{"x":null,"inputs":[{"name":"x","more":{"a":[1,{}]},"shape":[1,4],"datatype":"FP32","data":[1,2,3,4],"parameters":{"own":1}}],"parameters":{"own":"x","priority":1},"outputs":[{"name":"y","parameters":{"own":true},"z":0}]}""");

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task NamesWithEscapes_AreTheNamesTheyStandFor()
    {
        var answer = await InferAsync("matrix", """{"inp\u0075ts":[{"n\u0061me":"\u0078","shape":[1,4],"datatype":"\u0046P32","data":[1,2,3,4]}],"outputs":[{"name":"\u0079"}]}""");

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task TensorNamesThatNeedEscapes_WorkBothWays()
    {
        var answer = await InferAsync("quoted", """{"inputs":[{"name":"in \"ü\"","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[{"name":"out \\ 😀"}]}""");

        Assert.Equal("""out \ 😀""", answer.Output().GetProperty("name").GetString());
    }

    [Fact]
    public async Task EscapesInThePath_AreDecoded()
    {
        var answer = await HttpAnswer.PostAsync(Client, "/v2/models/%6Datri%78/infer", $$"""{"inputs":[{{Four}}]}""");

        Assert.Equal("matrix", answer.AssertOk().Json.GetProperty("model_name").GetString());
    }

    [Fact]
    public async Task SeveralInputs_GiveSeveralOutputsInTheModelsOrder()
    {
        var answer = await InferAsync("pair", $$"""{"inputs":[{{Pair}}]}""");

        Assert.Equal(["c", "d"], Names(answer));
        Assert.Equal("[1,2,3,4]", Data(answer));
        Assert.Equal("[5,6,7,8]", Data(answer, 1));
    }

    [Fact]
    public async Task InputsInAnotherOrderThanTheModels_AreBoundByName()
    {
        var answer = await InferAsync("pair", """
            {"inputs":[{"name":"b","shape":[1,2],"datatype":"INT64","data":[5,6]},{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}]}
            """);

        Assert.Equal("[1,2]", Data(answer));
        Assert.Equal("[5,6]", Data(answer, 1));
    }

    [Theory]
    [InlineData("""[{"name":"d"},{"name":"c"}]""", "d", "c")]
    [InlineData("""[{"name":"d"}]""", "d")]
    [InlineData("""[]""", "c", "d")]
    public async Task RequestedOutputs_ComeInTheOrderAskedFor(string outputs, params string[] expected)
    {
        var answer = await InferAsync("pair", $$"""{"inputs":[{{Pair}}],"outputs":{{outputs}}}""");

        Assert.Equal(expected, Names(answer));
    }

    [Theory]
    [InlineData("42")]
    [InlineData("")]
    [InlineData("""quote \" back \\ slash / é 世 😀 \n""")]
    public async Task Id_IsEchoed(string id)
    {
        var answer = await InferAsync("matrix", $$"""{"id":"{{id}}","inputs":[{{Four}}]}""");

        Assert.Equal(JsonDocument.Parse($"\"{id}\"").RootElement.GetString(), answer.AssertOk().Json.GetProperty("id").GetString());
    }

    [Fact]
    public async Task NoId_NoneInTheAnswer()
    {
        await InferAsync("matrix", $$"""{"id":"before","inputs":[{{Four}}]}""");

        var answer = await InferAsync("matrix", $$"""{"inputs":[{{Four}}]}""");

        Assert.False(answer.AssertOk().Json.TryGetProperty("id", out _));
    }

    [Theory]
    [InlineData("", "2", "-1")]
    [InlineData("/versions/1", "1", "1")]
    [InlineData("/versions/2", "2", "-1")]
    public async Task Version_ChoosesWhatAnswers(string versions, string version, string value)
    {
        var answer = await HttpAnswer.PostAsync(Client, $"/v2/models/two-versions{versions}/infer", Body("x", "[1]", "[1]"));

        Assert.Equal(version, answer.AssertOk().Json.GetProperty("model_version").GetString());
        Assert.Equal($"[{value}]", Data(answer));
    }

    [Fact]
    public async Task Timeout_IsAccepted()
    {
        var answer = await InferAsync("matrix", $$$"""{"inputs":[{{{Four}}}],"parameters":{"timeout":60000000,"priority":1}}""");

        answer.AssertOk();
    }

    [Fact]
    public async Task TimeoutThatHasPassed_SaysSo()
    {
        var answer = await InferAsync("matrix", $$$"""{"inputs":[{{{Four}}}],"parameters":{"timeout":1}}""");

        answer.AssertRefused(504, "timeout", "1 µs");
    }

    [Fact]
    public async Task Classification_IsNotSupported()
    {
        var answer = await InferAsync("matrix", $$$"""{"inputs":[{{{Four}}}],"outputs":[{"name":"y","parameters":{"classification":3}}]}""");

        answer.AssertRefused(501, "classification");
    }

    [Theory]
    [InlineData("matrix", "[0,4]", "FP32", "[]")]
    [InlineData("vector", "[0]", "FP32", "[]")]
    [InlineData("strings", "[0]", "BYTES", "[]")]
    public async Task ZeroRows_GiveZeroRows(string model, string shape, string type, string data)
    {
        var answer = await InferAsync(model, $$"""{"inputs":[{"name":"x","shape":{{shape}},"datatype":"{{type}}","data":{{data}}}]}""");

        Assert.Equal(shape, answer.Output().GetProperty("shape").GetRawText());
        Assert.Equal("[]", Data(answer));
    }

    [Theory]
    [InlineData("matrix", "[0,4]", "FP32")]
    [InlineData("strings", "[0]", "BYTES")]
    public async Task ZeroRowsInBinary_GiveZeroBytes(string model, string shape, string type)
    {
        var answer = await HttpAnswer.PostBinaryAsync(Client, $"/v2/models/{model}/infer",
            $$$"""{"inputs":[{"name":"x","shape":{{{shape}}},"datatype":"{{{type}}}","parameters":{"binary_data_size":0}}],"parameters":{"binary_data_output":true}}""", []);

        Assert.Equal(0, answer.Output().GetProperty("parameters").GetProperty("binary_data_size").GetInt32());
        Assert.Empty(answer.Binary);
    }

    [Fact]
    public async Task BinaryAndJsonInputs_MixInOneRequest()
    {
        var answer = await HttpAnswer.PostBinaryAsync(Client, "/v2/models/pair/infer", """
            {"inputs":[{"name":"b","shape":[1,2],"datatype":"INT64","parameters":{"binary_data_size":16}},{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}]}
            """, Elements.Of(5L, 6L));

        Assert.Equal("[1,2]", Data(answer));
        Assert.Equal("[5,6]", Data(answer, 1));
    }

    [Fact]
    public async Task SeveralBinaryInputs_AreReadInTheRequestsOrder()
    {
        var answer = await HttpAnswer.PostBinaryAsync(Client, "/v2/models/pair/infer", """
            {"inputs":[{"name":"b","shape":[1,2],"datatype":"INT64","parameters":{"binary_data_size":16}},{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}
            """, [.. Elements.Of(5L, 6L), .. Elements.Of(1f, 2f)]);

        Assert.Equal("[1,2]", Data(answer));
        Assert.Equal("[5,6]", Data(answer, 1));
    }

    [Fact]
    public async Task BinaryOutputs_FollowTheJsonInTheOrderAskedFor()
    {
        var answer = await InferAsync("pair", $$$"""{"inputs":[{{{Pair}}}],"outputs":[{"name":"d"},{"name":"c"}],"parameters":{"binary_data_output":true}}""");

        Assert.Equal(["d", "c"], Names(answer));
        Assert.Equal("application/octet-stream", answer.ContentType);
        Assert.Equal([.. Elements.Of(5L, 6L, 7L, 8L), .. Elements.Of(1f, 2f, 3f, 4f)], answer.Binary);
    }

    [Fact]
    public async Task AnOutputsBinaryData_OverridesTheRequestsYes()
    {
        var answer = await InferAsync("pair",
            $$$"""{"inputs":[{{{Pair}}}],"outputs":[{"name":"c","parameters":{"binary_data":false}},{"name":"d"}],"parameters":{"binary_data_output":true}}""");

        Assert.Equal("[1,2,3,4]", Data(answer));
        Assert.Equal(Elements.Of(5L, 6L, 7L, 8L), answer.Binary);
    }

    [Fact]
    public async Task AnOutputsBinaryData_OverridesTheRequestsNo()
    {
        var answer = await InferAsync("pair",
            $$$"""{"inputs":[{{{Pair}}}],"outputs":[{"name":"c","parameters":{"binary_data":true}},{"name":"d"}],"parameters":{"binary_data_output":false}}""");

        Assert.Equal("[5,6,7,8]", Data(answer, 1));
        Assert.Equal(Elements.Of(1f, 2f, 3f, 4f), answer.Binary);
    }

    [Fact]
    public async Task RawBody_FillsTheFreeDimension()
    {
        var values = Elements.Of(1f, 2f, 3f, 4f, 5f, 6f, 7f, 8f);

        var answer = await RawAsync("matrix", values);

        Assert.Equal("[2,4]", answer.Output().GetProperty("shape").GetRawText());
        Assert.Equal(values, answer.Binary);
    }

    [Fact]
    public async Task RawBody_FillsAFixedShape()
    {
        var values = Elements.Of(1f, 2f, 3f, 4f);

        var answer = await RawAsync("fixed", values);

        Assert.Equal("[2,2]", answer.Output().GetProperty("shape").GetRawText());
        Assert.Equal(values, answer.Binary);
    }

    [Fact]
    public async Task RawBodyForBytes_IsOneElement()
    {
        var answer = await RawAsync("strings", "any bytes at all, \u00E9 too"u8.ToArray());

        Assert.Equal("[1]", answer.Output().GetProperty("shape").GetRawText());
        Assert.Equal(Elements.Strings("any bytes at all, é too"), answer.Binary);
    }

    [Theory]
    [InlineData("matrix", 15, "multiple of 16 bytes")]
    [InlineData("fixed", 12, "16 bytes")]
    [InlineData("pair", 16, "exactly one input")]
    [InlineData("free", 16, "free dimensions")]
    public async Task RawBodyThatDoesNotFit_IsRefused(string model, int length, string reason)
    {
        var answer = await RawAsync(model, new byte[length]);

        answer.AssertRefused(400, reason);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(1000)]
    public async Task ChunkedJson_IsRead(int size)
    {
        var body = Encoding.UTF8.GetBytes($$"""{"inputs":[{{Four}}]}""");

        var answer = await HttpAnswer.SendAsync(Client, HttpMethod.Post, "/v2/models/matrix/infer", new PiecesContent(body, size));

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task ChunkedBinary_IsRead()
    {
        var json = """{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}"""u8.ToArray();

        var answer = await HttpAnswer.SendAsync(Client, HttpMethod.Post, "/v2/models/matrix/infer",
            new PiecesContent([.. json, .. Elements.Of(1f, 2f, 3f, 4f)]), (HttpAnswer.HeaderLength, $"{json.Length}"));

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task BodyOfSeveralMegabytes_IsRead()
    {
        var row = string.Join(',', Enumerable.Range(0, 400_000).Select(i => i * 0.25f));

        var answer = await InferAsync("vector", Body("x", "[400000]", $"[{row}]"));

        Assert.Equal(99999.75f, answer.Output().GetProperty("data")[399_999].GetSingle());
    }

    public static TheoryData<float> NotFinite => [float.NaN, float.PositiveInfinity, float.NegativeInfinity];

    [Theory, MemberData(nameof(NotFinite))]
    public async Task NotFiniteInBinary_PassesInBinary(float value)
    {
        var answer = await OneFloatAsync("vector", value, binaryOutput: true);

        answer.AssertOk();
        Assert.Equal(Elements.Of(value), answer.Binary);
    }

    [Theory, MemberData(nameof(NotFinite))]
    public async Task NotFiniteInJsonOut_IsRefusedWithTheWayOut(float value)
    {
        var answer = await OneFloatAsync("vector", value, binaryOutput: false);

        answer.AssertRefused(400, "'y'", "NaN or infinity", "\"binary_data\":true");
    }

    [Fact]
    public async Task ModelThatMakesInfinity_IsRefusedAsJson()
    {
        var answer = await InferAsync("reciprocal", Body("x", "[1]", "[0]"));

        answer.AssertRefused(400, "'y'", "NaN or infinity", "\"binary_data\":true");
    }

    [Fact]
    public async Task AfterARefusal_TheNextAnswerIsWhole()
    {
        await OneFloatAsync("vector", float.NaN, binaryOutput: false);

        var answer = await InferAsync("matrix", $$"""{"inputs":[{{Four}}]}""");

        Assert.Equal("[1,2,3,4]", Data(answer));
    }

    [Fact]
    public async Task ManyAtOnce_EachGetItsOwnAnswer()
    {
        var answers = await Task.WhenAll(Enumerable.Range(0, 64).Select(i => InferAsync("matrix", $$"""{"id":"{{i}}","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[{{i}},0,0,0]}]}""")));

        Assert.All(answers.Index(), pair =>
        {
            Assert.Equal($"{pair.Index}", pair.Item.AssertOk().Json.GetProperty("id").GetString());
            Assert.Equal($"[{pair.Index},0,0,0]", Data(pair.Item));
        });
    }

    private Task<HttpAnswer> InferAsync(string model, string json) => HttpAnswer.PostAsync(Client, $"/v2/models/{model}/infer", json);

    private Task<HttpAnswer> RawAsync(string model, byte[] body) => HttpAnswer.PostAsync(Client, $"/v2/models/{model}/infer", body, (HttpAnswer.HeaderLength, "0"));

    private Task<HttpAnswer> OneFloatAsync(string model, float value, bool binaryOutput) => HttpAnswer.PostBinaryAsync(Client, $"/v2/models/{model}/infer",
        $$$"""{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}],"parameters":{"binary_data_output":{{{(binaryOutput ? "true" : "false")}}}}}""", Elements.Of(value));

    private static string Body(string input, string shape, string data) => $$"""{"inputs":[{"name":"{{input}}","shape":{{shape}},"datatype":"FP32","data":{{data}}}]}""";

    private static string Data(HttpAnswer answer, int output = 0) => answer.Output(output).GetProperty("data").GetRawText();

    private static IEnumerable<string?> Names(HttpAnswer answer) => answer.AssertOk().Json.GetProperty("outputs").EnumerateArray().Select(output => output.GetProperty("name").GetString());

    public sealed class Fixture : ServerFixture
    {
        protected override async Task PublishAsync()
        {
            await Server.PushAsync("vector", OnnxBuilder.Identity(DataType.Fp32, -1));
            await Server.PushAsync("matrix", OnnxBuilder.Identity(DataType.Fp32, -1, 4));
            await Server.PushAsync("image", OnnxBuilder.Identity(DataType.Fp32, -1, 1, 2, 2));
            await Server.PushAsync("fixed", OnnxBuilder.Identity(DataType.Fp32, 2, 2));
            await Server.PushAsync("free", OnnxBuilder.Identity(DataType.Fp32, -1, -1));
            await Server.PushAsync("strings", OnnxBuilder.Identity(DataType.Bytes, -1));
            await Server.PushAsync("reciprocal", Elementwise("Reciprocal"));
            await Server.PushAsync("two-versions", OnnxBuilder.Identity(DataType.Fp32, -1));
            await Server.PushAsync("two-versions", Elementwise("Neg"));
            await Server.PushAsync("pair", new OnnxBuilder()
                .Input("a", DataType.Fp32, -1, 2).Input("b", DataType.Int64, -1, 2)
                .Output("c", DataType.Fp32, -1, 2).Output("d", DataType.Int64, -1, 2)
                .Node("Identity", ["a"], ["c"]).Node("Identity", ["b"], ["d"])
                .Build());
            await Server.PushAsync("quoted", new OnnxBuilder()
                .Input("in \"ü\"", DataType.Fp32, -1)
                .Output("out \\ 😀", DataType.Fp32, -1)
                .Node("Identity", ["in \"ü\""], ["out \\ 😀"])
                .Build());
        }

        private static byte[] Elementwise(string operation) => new OnnxBuilder()
            .Input("x", DataType.Fp32, -1)
            .Output("y", DataType.Fp32, -1)
            .Node(operation, ["x"], ["y"])
            .Build();
    }
}
