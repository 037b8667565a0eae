using System.Text.Json;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Apps;

/// <summary>The app's objective as the deadline of its requests, over HTTP; here one that has always passed before anything is begun.</summary>
public sealed class ObjectiveTests
{
    private const string Labels = "\"labels\":[\"a\",\"b\"],\"default\":{\"label\":1}";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(Labels + ",\"cascade\":[{\"model\":\"m\"}]")]
    [InlineData(Labels + ",\"ensemble\":{\"members\":[\"m\",\"n\"]}")]
    [InlineData("\"default\":{\"output\":7},\"head\":{\"features\":\"m\",\"kind\":\"regression\"}")]
    public async Task Passed_AnswersTheDefaultAndSaysWhy(string app)
    {
        await using var server = await StartAsync(app, objectiveMs: 1e-6);

        // An app that never meets its objective is held to it all the same, after its first answers.
        var late = await AnswersAsync(server).FirstAsync(answer => answer.TryGetProperty("degraded", out _), Cancellation);

        Assert.Equal("deadline", late.GetProperty("degraded").GetString());
        Assert.True(late.GetProperty("is_default").GetBoolean());
    }

    [Theory]
    [InlineData(Labels + ",\"cascade\":[{\"model\":\"m\"}]")]
    [InlineData(Labels + ",\"ensemble\":{\"members\":[\"m\",\"n\"]}")]
    [InlineData("\"default\":{\"output\":7},\"head\":{\"features\":\"m\",\"kind\":\"regression\"}")]
    public async Task FirstAnswerOfAProcess_TakesTheTimeItTakes(string app)
    {
        await using var server = await StartAsync(app, objectiveMs: 1e-6);

        var first = await PredictAsync(server);

        Assert.False(first.TryGetProperty("degraded", out _), first.GetRawText());
        Assert.False(first.GetProperty("is_default").GetBoolean());
    }

    [Fact]
    public async Task ModelsThatAreNotLoaded_AreWaitedFor()
    {
        await using var server = await StartAsync(Labels + ",\"cascade\":[{\"model\":\"m\",\"gate\":{\"on\":\"max_softmax\",\"at\":0.9}},{\"model\":\"n\"}]", objectiveMs: 1e-6);
        await foreach (var answer in AnswersAsync(server, "[9,0]").Take(20)) Assert.False(answer.TryGetProperty("degraded", out _), answer.GetRawText());

        var handedOn = await PredictAsync(server, "[1,1]");

        Assert.Equal("n", handedOn.GetProperty("stage").GetString());
        Assert.False(handedOn.TryGetProperty("degraded", out _), handedOn.GetRawText());
        Assert.Equal("deadline", (await PredictAsync(server, "[1,1]")).GetProperty("degraded").GetString());
    }

    [Fact]
    public async Task ModelThatCantBeLoaded_IsNotWaitedForAgain()
    {
        await using var server = await StartAsync(Labels + ",\"cascade\":[{\"model\":\"m\",\"gate\":{\"on\":\"max_softmax\",\"at\":0.9}},{\"model\":\"n\"}]", objectiveMs: 1e-6);
        await server.GetAsync("/v2/models/n");
        await server.PostAsync("/v2/repository/models/n/unload", "");

        var reasons = await AnswersAsync(server, "[1,1]").Select(answer => answer.GetProperty("degraded").GetString()).Take(20).ToListAsync(Cancellation);

        Assert.Equal("unavailable", reasons[0]);
        Assert.Equal("deadline", reasons[^1]);
    }

    private static async Task<JsonElement> PredictAsync(SkiffServer server, string input = "[0,2]")
    {
        var (_, answer) = await server.PostAsync("/apps/a/predict", $$"""{"input":{{input}}}""");
        return answer;
    }

    private static async IAsyncEnumerable<JsonElement> AnswersAsync(SkiffServer server, string input = "[0,2]")
    {
        while (true) yield return await PredictAsync(server, input);
    }

    private static async Task<SkiffServer> StartAsync(string fields, double objectiveMs)
    {
        var server = await SkiffServer.StartAsync();
        var model = new OnnxBuilder().Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2).Node("Identity", ["x"], ["y"]).Build();
        foreach (var name in new[] { "m", "n" }) await server.PushAsync(name, model);
        await server.PushAppAsync(FormattableString.Invariant($$"""{"name":"a","objective_ms":{{objectiveMs}},"input":{"name":"x","type":"FP32","shape":[2]},{{fields}}}"""));
        return server;
    }
}
