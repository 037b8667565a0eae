using System.Text.Json;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Oip;

/// <summary>What the protocol says about servers and models, and its repository extension.</summary>
public sealed class RepositoryTests(RepositoryTests.Fixture fixture) : IClassFixture<RepositoryTests.Fixture>
{
    private const string TwoRows = """{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[1,2,3,4,5,6,7,8]}]}""";

    private HttpClient Client => fixture.Server.Client;

    [Theory]
    [InlineData("/v2/health/live")]
    [InlineData("/v2/health/ready")]
    [InlineData("/healthz")]
    public async Task Health_IsOk(string path)
    {
        var answer = await HttpAnswer.GetAsync(Client, path);

        Assert.Equal(200, answer.Status);
    }

    [Fact]
    public async Task ServerMetadata_NamesTheServerAndItsExtensions()
    {
        var server = (await HttpAnswer.GetAsync(Client, "/v2")).AssertOk().Json;

        Assert.Equal("skiff", server.GetProperty("name").GetString());
        Assert.NotEmpty(server.GetProperty("version").GetString()!);
        Assert.Equal(["binary_tensor_data", "model_repository", "model_configuration", "statistics"], server.GetProperty("extensions").EnumerateArray().Select(name => name.GetString()));
    }

    [Fact]
    public async Task ModelMetadata_DescribesInputsAndOutputs()
    {
        var model = (await HttpAnswer.GetAsync(Client, "/v2/models/described")).AssertOk().Json;

        Assert.Equal("""{"name":"described","versions":["1"],"platform":"onnxruntime_onnx","inputs":[{"name":"a","datatype":"FP32","shape":[-1,2]},{"name":"b","datatype":"BYTES","shape":[3]}],"outputs":[{"name":"c","datatype":"FP32","shape":[-1,2]},{"name":"d","datatype":"BYTES","shape":[3]}]}""",
            JsonSerializer.Serialize(model));
    }

    [Fact]
    public async Task Config_DescribesInputsAndOutputs()
    {
        var config = (await HttpAnswer.GetAsync(Client, "/v2/models/described/config")).AssertOk().Json;

        Assert.Equal("described", config.GetProperty("name").GetString());
        Assert.Equal("""[{"name":"a","data_type":"TYPE_FP32","dims":[-1,2]},{"name":"b","data_type":"TYPE_STRING","dims":[3]}]""", JsonSerializer.Serialize(config.GetProperty("input")));
        Assert.Equal("""[{"name":"c","data_type":"TYPE_FP32","dims":[-1,2]},{"name":"d","data_type":"TYPE_STRING","dims":[3]}]""", JsonSerializer.Serialize(config.GetProperty("output")));
        Assert.Equal("tests", config.GetProperty("parameters").GetProperty("metadata.author").GetString());
    }

    [Theory]
    [InlineData("", "2")]
    [InlineData("/versions/1", "1")]
    [InlineData("/versions/2", "2")]
    public async Task MetadataOfAVersion_IsThatVersions(string versions, string expected)
    {
        var model = (await HttpAnswer.GetAsync(Client, $"/v2/models/twice{versions}")).AssertOk().Json;

        Assert.Contains(expected, model.GetProperty("versions").EnumerateArray().Select(version => version.GetString()));
    }

    [Theory]
    [InlineData("/v2/models/described/ready")]
    [InlineData("/v2/models/twice/versions/1/ready")]
    public async Task ModelInTheStore_IsReady(string path)
    {
        var answer = await HttpAnswer.GetAsync(Client, path);

        Assert.Equal(200, answer.Status);
    }

    [Theory]
    [InlineData("")]
    [InlineData("/ready")]
    [InlineData("/config")]
    [InlineData("/stats")]
    public async Task UnknownModel_IsNotFound(string of)
    {
        var answer = await HttpAnswer.GetAsync(Client, $"/v2/models/nobody{of}");

        answer.AssertRefused(404, "'nobody'", "/v2/repository/index");
    }

    [Theory]
    [InlineData("")]
    [InlineData("/ready")]
    [InlineData("/config")]
    [InlineData("/stats")]
    public async Task UnknownVersion_IsNotFoundAndSaysWhichThereAre(string of)
    {
        var answer = await HttpAnswer.GetAsync(Client, $"/v2/models/twice/versions/3{of}");

        answer.AssertRefused(404, "version 3", "1, 2");
    }

    [Fact]
    public async Task Stats_CountRowsAndRequests()
    {
        for (var i = 0; i < 3; i++) (await InferAsync("counted")).AssertOk();

        var stats = await StatsUntilAsync("counted", success: 3);

        Assert.Equal(6, stats.GetProperty("inference_count").GetInt32());
        Assert.Equal(3, stats.GetProperty("execution_count").GetInt32());
        Assert.All(["success", "compute_input", "compute_infer", "compute_output"], name =>
        {
            Assert.Equal(3, stats.GetProperty("inference_stats").GetProperty(name).GetProperty("count").GetInt32());
            Assert.True(stats.GetProperty("inference_stats").GetProperty(name).GetProperty("ns").GetInt64() > 0, name);
        });
        var batches = stats.GetProperty("batches");
        Assert.Equal(3, batches.GetProperty("rows").EnumerateArray().Single(rows => rows.GetProperty("up_to").GetInt32() == 2).GetProperty("count").GetInt32());
        Assert.Equal(3, batches.GetProperty("closed").EnumerateObject().Sum(reason => reason.Value.GetInt32()));
    }

    [Fact]
    public async Task Stats_CountFailures()
    {
        (await HttpAnswer.PostAsync(Client, "/v2/models/failing/infer", """{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}""")).AssertRefused(400);

        var stats = (await HttpAnswer.GetAsync(Client, "/v2/models/failing/stats")).AssertOk().Json.GetProperty("model_stats")[0];

        Assert.Equal(1, stats.GetProperty("inference_stats").GetProperty("fail").GetProperty("count").GetInt32());
    }

    [Fact]
    public async Task Stats_CountAnswersThatJsonCanNotCarryAsFailures()
    {
        (await HttpAnswer.PostAsync(Client, "/v2/models/infinite/infer", """{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[0]}]}""")).AssertRefused(400);

        var stats = (await HttpAnswer.GetAsync(Client, "/v2/models/infinite/stats")).AssertOk().Json.GetProperty("model_stats")[0];

        Assert.Equal(1, stats.GetProperty("inference_stats").GetProperty("fail").GetProperty("count").GetInt32());
    }

    [Fact]
    public async Task StatsOfAll_ListModelsThatHaveServed()
    {
        await InferAsync("listed");

        var stats = (await HttpAnswer.GetAsync(Client, "/v2/models/stats")).AssertOk().Json.GetProperty("model_stats");

        Assert.Contains("listed", stats.EnumerateArray().Select(model => model.GetProperty("name").GetString()));
    }

    [Fact]
    public async Task Index_ListsEveryVersion()
    {
        var index = await IndexAsync("");

        Assert.Equal(["1", "2"], index.Where(line => line.GetProperty("name").GetString() == "twice").Select(line => line.GetProperty("version").GetString()));
    }

    [Fact]
    public async Task IndexOfReady_ListsOnlyWhatIsLoaded()
    {
        await InferAsync("loaded");

        var index = await IndexAsync("""{"ready":true}""");

        Assert.Contains("loaded", index.Select(line => line.GetProperty("name").GetString()));
        Assert.DoesNotContain("cold", index.Select(line => line.GetProperty("name").GetString()));
        Assert.All(index, line => Assert.Equal("READY", line.GetProperty("state").GetString()));
    }

    [Fact]
    public async Task IndexOfNotOnlyReady_ListsWhatIsColdToo()
    {
        var index = await IndexAsync("""{"ready":false,"other":1}""");

        var cold = Assert.Single(index, line => line.GetProperty("name").GetString() == "cold");
        Assert.Equal("UNAVAILABLE", cold.GetProperty("state").GetString());
        Assert.NotEmpty(cold.GetProperty("reason").GetString()!);
    }

    [Fact]
    public async Task Unloaded_IsUnavailableUntilLoaded()
    {
        (await InferAsync("unloaded")).AssertOk();
        (await PostAsync("unloaded/unload")).AssertOk();

        var refused = await InferAsync("unloaded");
        refused.AssertRefused(503, "'unloaded'", "/v2/repository/models/unloaded/load");
        Assert.NotNull(refused.Header("Retry-After"));

        (await PostAsync("unloaded/load")).AssertOk();
        (await InferAsync("unloaded")).AssertOk();
    }

    [Fact]
    public async Task Unloaded_IsNotReadyAndTheIndexSaysSo()
    {
        (await PostAsync("put-away/unload", "{}")).AssertOk();

        (await HttpAnswer.GetAsync(Client, "/v2/models/put-away/ready")).AssertRefused(503, "'put-away'");
        var line = Assert.Single(await IndexAsync(""), line => line.GetProperty("name").GetString() == "put-away");
        Assert.Equal("unloaded", line.GetProperty("reason").GetString());
    }

    [Fact]
    public async Task Load_MakesReady()
    {
        (await PostAsync("warmed/load", "{}")).AssertOk();

        Assert.Contains("warmed", (await IndexAsync("""{"ready":true}""")).Select(line => line.GetProperty("name").GetString()));
    }

    [Theory]
    [InlineData("""{"parameters":{"config":"{\"backend\":\"python\"}"}}""", "'config'")]
    [InlineData("""{"parameters":{"file:1/model.onnx":"AAAA"}}""", "'file:1/model.onnx'")]
    [InlineData("""{"parameters":{"url":"http://example.com/model.onnx"}}""", "'url'")]
    [InlineData("""{"parameters":{"path":"/etc/passwd"}}""", "'path'")]
    [InlineData("""{"parameters":[1]}""", "'parameters'")]
    public async Task LoadWithParameters_IsRefused(string body, string named)
    {
        var answer = await PostAsync("described/load", body);

        answer.AssertRefused(400, named);
    }

    [Theory]
    [InlineData("load")]
    [InlineData("unload")]
    public async Task RepositoryRequestForAnUnknownModel_IsNotFound(string action)
    {
        var answer = await PostAsync($"nobody/{action}");

        answer.AssertRefused(404, "'nobody'", "/v2/repository/index");
    }

    [Theory]
    [InlineData("/v2/repository/index", """{"ready":1}""", "'ready'")]
    [InlineData("/v2/repository/index", """[]""", "an object")]
    [InlineData("/v2/repository/models/described/load", """{""", "malformed JSON")]
    [InlineData("/v2/repository/models/described/unload", """{} x""", "malformed JSON")]
    public async Task RepositoryRequestWithABadBody_IsRefused(string path, string body, string reason)
    {
        var answer = await HttpAnswer.PostAsync(Client, path, body);

        answer.AssertRefused(400, reason);
    }

    private Task<HttpAnswer> InferAsync(string model) => HttpAnswer.PostAsync(Client, $"/v2/models/{model}/infer", TwoRows);

    private Task<HttpAnswer> PostAsync(string action, string body = "") => HttpAnswer.PostAsync(Client, $"/v2/repository/models/{action}", body);

    private async Task<JsonElement[]> IndexAsync(string body) => [.. (await HttpAnswer.PostAsync(Client, "/v2/repository/index", body)).AssertOk().Json.EnumerateArray()];

    /// <summary>A success is counted once its answer has been sent, so that the caller may be back before the count.</summary>
    private async Task<JsonElement> StatsUntilAsync(string model, int success)
    {
        var stats = default(JsonElement);
        await Eventually.HoldsAsync($"{success} successes are counted", async () =>
        {
            stats = (await HttpAnswer.GetAsync(Client, $"/v2/models/{model}/stats")).AssertOk().Json.GetProperty("model_stats")[0];
            return stats.GetProperty("inference_stats").GetProperty("success").GetProperty("count").GetInt32() >= success;
        });
        return stats;
    }

    public sealed class Fixture : ServerFixture
    {
        protected override async Task PublishAsync()
        {
            var identity = OnnxBuilder.Identity(DataType.Fp32, -1, 4);
            foreach (var name in new[] { "counted", "failing", "listed", "loaded", "cold", "unloaded", "put-away", "warmed", "twice", "twice" }) await Server.PushAsync(name, identity);
            await Server.PushAsync("infinite", new OnnxBuilder().Input("x", DataType.Fp32, -1).Output("y", DataType.Fp32, -1).Node("Reciprocal", ["x"], ["y"]).Build());
            await Server.PushAsync("described", new OnnxBuilder()
                .Input("a", DataType.Fp32, -1, 2).Input("b", DataType.Bytes, 3)
                .Output("c", DataType.Fp32, -1, 2).Output("d", DataType.Bytes, 3)
                .Node("Identity", ["a"], ["c"]).Node("Identity", ["b"], ["d"])
                .Metadata("author", "tests")
                .Build());
        }
    }
}
