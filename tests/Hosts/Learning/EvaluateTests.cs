using System.Net;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>Other policies judged on what was logged.</summary>
public sealed class EvaluateTests
{
    private const string Document = """
        {"name":"pair","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],
         "ensemble":{"members":["first","second"],"policy":{"kind":"epsilon_greedy","per":"user","epsilon":0.5}}}
        """;

    [Fact]
    public async Task MembersAreJudgedOnDecisionsWithFeedback_AndNothingWithoutAny()
    {
        using var folder = new ScratchFolder();
        await using var server = await SkiffServer.StartAsync(folder.Path);
        await server.PushAsync("first", Answering(0.9f, 0.1f));
        await server.PushAsync("second", Answering(0.1f, 0.9f));
        await server.PushAppAsync(Document);
        Assert.Contains("nothing to judge by", (await SkiffProcess.RunAsync("evaluate", "pair", "--data", folder.Path)).Error);

        // The first member is right in three of four.
        for (var i = 0; i < 400; i++)
        {
            var (_, answer) = await server.PostAsync("/apps/pair/predict", """{"user":"u","input":[1,1]}""");
            var (status, _) = await server.PostAsync("/apps/pair/feedback", $$"""{"id":"{{answer.GetProperty("id")}}","label":"{{(i % 4 == 3 ? "b" : "a")}}"}""");
            Assert.Equal(HttpStatusCode.Accepted, status);
        }
        await Eventually.HoldsAsync("all is learnt", async () => await new EchoApp(server.Client).MetricAsync("skiff_feedback_learnt_total") == 400);
        var evaluated = await SkiffProcess.RunAsync("evaluate", "pair", "--data", folder.Path);

        Assert.StartsWith("400 decisions with feedback", evaluated.Output);
        Assert.InRange(Snips(evaluated.Output, "first"), 0.65, 0.85);
        Assert.InRange(Snips(evaluated.Output, "second"), 0.15, 0.35);
        Assert.InRange(Snips(evaluated.Output, "all evenly"), 0.4, 0.6);
    }

    [Fact]
    public async Task RankedEvents_AreJudgedByWhatWasChosenAmongWhat()
    {
        using var folder = new ScratchFolder();
        await using var server = await SkiffServer.StartAsync(folder.Path);
        await server.PushAppAsync("""{"name":"news","rank":{"policy":{"kind":"epsilon_greedy","epsilon":1},"shards":1,"reward_wait":"PT5S"}}""");
        // "a" pays in three of four, "b" in one of four, and there is "c" only now and then.
        for (var i = 0; i < 400; i++)
        {
            var (_, answer) = await server.PostAsync("/apps/news/rank", $$"""{"candidates":[{"id":"a"},{"id":"b"}{{(i % 8 == 0 ? ",{\"id\":\"c\"}" : "")}}]}""");
            var pays = answer.GetProperty("chosen").GetString() == "a" ? i % 4 != 3 : i % 4 == 3;
            await server.PostAsync("/apps/news/feedback", $$"""{"id":"{{answer.GetProperty("id")}}","value":{{(pays ? 1 : 0)}}}""");
        }
        await Eventually.HoldsAsync("all is learnt", async () => (await server.GetAsync("/apps/news")).Body.GetProperty("rank").GetProperty("learnt").GetInt32() == 400);

        // The last of them waits a moment longer.
        CommandResult evaluated = null!;
        await Eventually.HoldsAsync("all are over", async () => (evaluated = await SkiffProcess.RunAsync("evaluate", "news", "--data", folder.Path)).Output.StartsWith("400 decisions", StringComparison.Ordinal));

        Assert.StartsWith("400 decisions with feedback; mean reward", evaluated.Output);
        Assert.InRange(Snips(evaluated.Output, "a "), 0.65, 0.85);
        Assert.InRange(Snips(evaluated.Output, "b "), 0.15, 0.35);
        Assert.InRange(Snips(evaluated.Output, "all evenly"), 0.4, 0.6);
        // It puts "a" first, always.
        Assert.InRange(Snips(evaluated.Output, "the caller's first"), 0.65, 0.85);
        Assert.Matches(@"\nc +\d+ can't be judged: .*at least 30", evaluated.Output);
        Assert.Equal(2, (await SkiffProcess.RunAsync("evaluate", "news", "--always", "a", "--data", folder.Path)).Output.Split('\n').Count(line => line.Contains('[') || line.StartsWith("policy", StringComparison.Ordinal)));
        Assert.Contains("was never chosen", (await SkiffProcess.RunAsync("evaluate", "news", "--always", "z", "--data", folder.Path)).Error);
        Assert.Contains("1 of 1 shards reproduced, relative difference up to 0.0e0", (await SkiffProcess.RunAsync("replay", "news", "--data", folder.Path)).Output);
    }

    [Theory]
    [InlineData("""{"name":"pupil","rank":{"mode":"apprentice"}}""", "is an apprentice")]
    [InlineData("""{"name":"pupil","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"cascade":[{"model":"first"}]}""", "no policy that chooses")]
    [InlineData("""{"name":"pupil","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"ensemble":{"members":["first","second"],"policy":{"kind":"exp4","per":"user"}}}""", "none is chosen")]
    public async Task AppThatTriesNothing_IsNotJudged_AndSaysWhy(string document, string reason)
    {
        using var folder = new ScratchFolder();
        await using (var server = await SkiffServer.StartAsync(folder.Path))
        {
            await server.PushAsync("first", Answering(0.9f, 0.1f));
            await server.PushAsync("second", Answering(0.1f, 0.9f));
            await server.PushAppAsync(document);
        }
        var evaluated = await SkiffProcess.RunAsync("evaluate", "pupil", "--data", folder.Path);

        Assert.NotEqual(0, evaluated.ExitCode);
        Assert.Contains(reason, evaluated.Error);
    }

    private static double Snips(string table, string policy) =>
        double.Parse(table.Split('\n').Single(line => line.StartsWith(policy, StringComparison.Ordinal)).Split(']')[1].Trim().Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>The same scores for every row.</summary>
    private static byte[] Answering(params float[] scores) => new OnnxBuilder()
        .Initializer("none", [0f, 0, 0, 0], 2, 2).Initializer("scores", scores, 2)
        .Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2)
        .Node("MatMul", ["x", "none"], ["zeros"]).Node("Add", ["zeros", "scores"], ["y"]).Build();
}
