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

    private static double Snips(string table, string policy) =>
        double.Parse(table.Split('\n').Single(line => line.StartsWith(policy, StringComparison.Ordinal)).Split(']')[1].Trim().Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>The same scores for every row.</summary>
    private static byte[] Answering(params float[] scores) => new OnnxBuilder()
        .Initializer("none", [0f, 0, 0, 0], 2, 2).Initializer("scores", scores, 2)
        .Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2)
        .Node("MatMul", ["x", "none"], ["zeros"]).Node("Add", ["zeros", "scores"], ["y"]).Build();
}
