using System.Text.Json;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Apps;

/// <summary>Apps with a cache, over HTTP.</summary>
public sealed class CacheTests
{
    private const string Ask = """{"input":[1,2]}""";
    private static readonly byte[] Model = OnnxBuilder.Identity(DataType.Fp32, -1, 2);

    [Fact]
    public async Task SecondAnswer_SaysThatItWasKeptAndCostsTheRequestAlone()
    {
        await using var server = await StartAsync("true");

        var first = await PredictAsync(server, """{"input":[1,2],"explain":true}""");
        var second = await PredictAsync(server, """{"input":[1,2],"explain":true}""");

        Assert.False(first.TryGetProperty("cached", out _));
        Assert.Equal("exact", second.GetProperty("cached").GetString());
        Assert.Equal(("computed", "exact"), (From(first), From(second)));
        Assert.Equal(Skiff.Planning.Prices.FunctionRequest, second.GetProperty("cost_usd").GetDouble(), 1e-12);
        Assert.True(first.GetProperty("cost_usd").GetDouble() > second.GetProperty("cost_usd").GetDouble());
        foreach (var same in new[] { "label", "confidence", "stage", "versions" }) Assert.Equal(first.GetProperty(same).GetRawText(), second.GetProperty(same).GetRawText());
        // Each answer is a decision of its own, and feedback is taken on both.
        Assert.NotEqual(first.GetProperty("id").GetString(), second.GetProperty("id").GetString());

        static string From(JsonElement answer) => answer.GetProperty("explanation").GetProperty("cache").GetProperty("from").GetString()!;
    }

    [Fact]
    public async Task RowsOfARequest_AreMarkedSingly()
    {
        await using var server = await StartAsync("true");
        await PredictAsync(server, Ask);

        var rows = (await PredictAsync(server, """{"inputs":[[1,2],[3,4],[3,4]]}""")).GetProperty("predictions");

        Assert.Equal(["exact", null, "joined"], rows.EnumerateArray().Select(row => row.TryGetProperty("cached", out var cached) ? cached.GetString() : null));
    }

    [Theory]
    [InlineData("\"cache\":false,", "64")]
    [InlineData("", "64")]
    [InlineData("\"cache\":true,", "0")]
    public async Task WithoutACache_EveryAnswerIsComputed(string cache, string megabytes)
    {
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_PREDICTION_CACHE_MB", megabytes));
        await server.PushAsync("m", Model);
        await server.PushAppAsync($$"""{"name":"a",{{cache}}"input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"cascade":[{"model":"m"}]}""");
        await PredictAsync(server, Ask);

        Assert.False((await PredictAsync(server, Ask)).TryGetProperty("cached", out _));
        var metrics = await server.Client.GetStringAsync("/metrics", TestContext.Current.CancellationToken);
        Assert.Contains("\nskiff_prediction_cache_bytes 0\n", metrics, StringComparison.Ordinal);
        Assert.DoesNotContain("skiff_prediction_cache_rows_total{", metrics, StringComparison.Ordinal);
    }

    [Fact]
    public async Task SwappedModel_IsAskedAnew()
    {
        await using var server = await StartAsync("true");
        await PredictAsync(server, Ask);
        await server.PushAsync("m", new OnnxBuilder().Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2).Node("Neg", ["x"], ["y"]).Build());
        await server.PostAsync("/v2/repository/models/m/load", "");

        var swapped = await PredictAsync(server, Ask);

        Assert.False(swapped.TryGetProperty("cached", out _));
        Assert.Equal((0, 2), (swapped.GetProperty("label").GetInt32(), swapped.GetProperty("versions").GetProperty("m").GetInt32()));
    }

    [Fact]
    public async Task MovedAlias_IsNoticedThoughEveryRequestHits()
    {
        await using var server = await StartAsync("true");
        await PredictAsync(server, Ask);
        await server.PushAsync("m", new OnnxBuilder().Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2).Node("Neg", ["x"], ["y"]).Build());

        await Eventually.HoldsAsync("version 2 answers", async () => (await PredictAsync(server, Ask)).GetProperty("label").GetInt32() == 0);
    }

    [Fact]
    public async Task Tenants_ShareNoAnswersAndSeeTheirOwnCounts()
    {
        var (acme, acmeEntry) = ApiKeys.Create("acme", Scopes.All);
        var (other, otherEntry) = ApiKeys.Create("other", Scopes.All);
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_API_KEYS", $"{acmeEntry},{otherEntry}"));
        foreach (var tenant in new[] { "acme", "other" })
        {
            await server.PushAsync("m", Model, tenant: tenant);
            await server.PushAppAsync(Document("true"), tenant);
        }
        await PredictAsync(server, Ask, acme);
        await PredictAsync(server, Ask, acme);

        Assert.False((await PredictAsync(server, Ask, other)).TryGetProperty("cached", out _));
        Assert.Contains("skiff_prediction_cache_rows_total{app=\"a\",from=\"exact\"} 1\n", await MetricsAsync(acme), StringComparison.Ordinal);
        Assert.Contains("skiff_prediction_cache_rows_total{app=\"a\",from=\"exact\"} 0\n", await MetricsAsync(other), StringComparison.Ordinal);

        async Task<string> MetricsAsync(string key) => (await HttpAnswer.GetAsync(server.Client, "/metrics", ("Authorization", $"Bearer {key}"))).AssertOk().Text;
    }

    [Fact]
    public async Task MemoryBound_IsKeptAndEvictionsCount()
    {
        await using var server = await StartAsync("true", ("SKIFF_PREDICTION_CACHE_MB", "1"));
        for (var batch = 0; batch < 5; batch++)
        {
            await PredictAsync(server, $$"""{"inputs":[{{string.Join(',', Enumerable.Range(0, 2000).Select(i => $"[{i},{batch}]"))}}]}""");
        }

        var metrics = await server.Client.GetStringAsync("/metrics", TestContext.Current.CancellationToken);

        Assert.InRange(Value("skiff_prediction_cache_bytes"), 1 << 19, 1 << 20);
        Assert.InRange(Value("skiff_prediction_cache_evictions_total{app=\"a\"}"), 5000, 9999);

        double Value(string name) => double.Parse(metrics.Split('\n').Single(line => line.StartsWith(name + " ", StringComparison.Ordinal))[(name.Length + 1)..], System.Globalization.CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task ApproximateAnswer_SaysSoAndHowFar()
    {
        await using var server = await StartAsync("""{"approximate":{"distance":0.5,"bits":2,"tables":8}}""");
        await PredictAsync(server, """{"input":[10,5]}""");

        var near = await PredictAsync(server, """{"input":[10.25,5],"explain":true}""");

        Assert.Equal("approximate", near.GetProperty("cached").GetString());
        Assert.Equal(0.25, near.GetProperty("explanation").GetProperty("cache").GetProperty("distance").GetDouble(), 1e-6);
        Assert.False((await PredictAsync(server, """{"input":[12,5]}""")).TryGetProperty("cached", out _));
    }

    private static async Task<SkiffServer> StartAsync(string cache, params (string, string)[] environment)
    {
        var server = await SkiffServer.StartAsync(environment: environment);
        await server.PushAsync("m", Model);
        await server.PushAppAsync(Document(cache));
        return server;
    }

    private static string Document(string cache) => $$"""{"name":"a","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"cache":{{cache}},"cascade":[{"model":"m"}]}""";

    private static async Task<JsonElement> PredictAsync(SkiffServer server, string body, string? key = null)
    {
        var (status, answer) = await server.PostAsync("/apps/a/predict", body, key);
        Assert.True(status == System.Net.HttpStatusCode.OK, $"{status} {answer}");
        return answer;
    }
}
