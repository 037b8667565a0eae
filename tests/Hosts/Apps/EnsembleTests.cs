using System.Net;
using System.Text.Json;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Apps;

/// <summary>Apps with an ensemble, over HTTP. A member's scores are its input times a number: of two labels, +1 says what is in the input and -1 the opposite.</summary>
public sealed class EnsembleTests
{
    private const string Ask = """{"user":"ann","input":[0,2],"explain":true}""";

    [Fact]
    public async Task Members_AnswerTogetherAndAreExplained()
    {
        await using var server = await StartAsync("""{"members":["right","sure","wrong"]}""");

        var answer = await PredictAsync(server, Ask);

        Assert.Equal((1, "ensemble", false), (answer.GetProperty("label").GetInt32(), answer.GetProperty("stage").GetString(), answer.GetProperty("is_default").GetBoolean()));
        var (right, sure) = (1 / (1 + Math.Exp(-2)), 1 / (1 + Math.Exp(-6)));
        Assert.Equal((right + sure + 1 - right) / 3, answer.GetProperty("confidence").GetDouble(), 1e-5);
        Assert.Equal(["right", "sure", "wrong"], Members(answer).Select(member => member.GetProperty("model").GetString()));
        Assert.Equal([1, 1, 0], Members(answer).Select(member => member.GetProperty("label").GetInt32()));
        Assert.All(Members(answer), member => Assert.Equal(1 / 3.0, member.GetProperty("weight").GetDouble(), 1e-5));
        Assert.Equal(["app", "right", "sure", "wrong"], answer.GetProperty("versions").EnumerateObject().Select(version => version.Name).Order());
        Assert.False(answer.TryGetProperty("missing", out _));
        Assert.True(answer.GetProperty("cost_usd").GetDouble() > Skiff.Planning.Prices.FunctionRequest);
        var (_, described) = await server.GetAsync("/apps/a");
        Assert.Equal("""["right","sure","wrong"]""", described.GetProperty("ensemble").GetRawText());
    }

    [Fact]
    public async Task RowsOfARequest_AreAnsweredSingly()
    {
        await using var server = await StartAsync("""{"members":["right","sure"]}""");

        var rows = (await PredictAsync(server, """{"inputs":[[0,2],[3,0],[0,1]]}""")).GetProperty("predictions");

        Assert.Equal([1, 0, 1], rows.EnumerateArray().Select(row => row.GetProperty("label").GetInt32()));
    }

    [Fact]
    public async Task MemberThatCantBeAsked_IsMissingAndItsMeanStandsIn()
    {
        await using var server = await StartAsync("""{"members":["right","sure","wrong"]}""");
        await PredictAsync(server, Ask);
        await server.PostAsync("/v2/repository/models/wrong/unload", "");

        var answer = await PredictAsync(server, Ask);

        Assert.Equal("unavailable", answer.GetProperty("degraded").GetString());
        Assert.Equal("""["wrong"]""", answer.GetProperty("missing").GetRawText());
        Assert.Equal("unavailable", Members(answer)[2].GetProperty("missing").GetString());
        Assert.False(answer.GetProperty("versions").TryGetProperty("wrong", out _));
        // It said the same before, so its mean is what it would say.
        var (right, sure) = (1 / (1 + Math.Exp(-2)), 1 / (1 + Math.Exp(-6)));
        Assert.Equal((right + sure + 1 - right) / 3, answer.GetProperty("confidence").GetDouble(), 1e-5);
    }

    [Fact]
    public async Task NobodyThatCanBeAsked_IsAnError()
    {
        await using var server = await StartAsync("""{"members":["right","wrong"]}""");
        foreach (var model in new[] { "right", "wrong" })
        {
            await server.GetAsync($"/v2/models/{model}");
            await server.PostAsync($"/v2/repository/models/{model}/unload", "");
        }

        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await server.PostAsync("/apps/a/predict", Ask)).Status);
    }

    [Fact]
    public async Task AgreementBelowTheFloor_IsTheDefaultMarked()
    {
        // Two of three agree: a chance of .5. All three: 1.
        await using var server = await StartAsync("""{"members":["right","sure","wrong"],"combine":"majority","calibration":[0.333333,0,0.666667,0.5,1,1],"floor":0.6}""");

        var unsure = await PredictAsync(server, Ask);

        Assert.Equal((true, "unsure"), (unsure.GetProperty("is_default").GetBoolean(), unsure.GetProperty("degraded").GetString()));
        Assert.Equal(JsonValueKind.Null, unsure.GetProperty("label").ValueKind);
        Assert.Equal(0.5, unsure.GetProperty("confidence").GetDouble(), 1e-3);
        Assert.Equal(HttpStatusCode.Accepted, (await server.PostAsync("/apps/a/feedback", $$"""{"id":"{{unsure.GetProperty("id").GetString()}}","label":1}""")).Status);

        await server.PushAppAsync(Document("""{"members":["right","sure"],"calibration":[0.5,0.5,1,1],"floor":0.6}"""));
        await Eventually.HoldsAsync("two that agree answer", async () => !(await PredictAsync(server, Ask)).GetProperty("is_default").GetBoolean());
    }

    [Theory]
    [InlineData("user")]
    [InlineData("context")]
    public async Task FeedbackOnDecisions_ShiftsTheWeights_OfWhomItConcerns_AndOutlivesTheProcess(string per)
    {
        using var folder = new ScratchFolder();
        double shifted;
        await using (var server = await StartAsync($$$"""{"members":["right","sure","wrong"],"policy":{"kind":"exp4","per":"{{{per}}}"}}""", folder.Path))
        {
            for (var i = 0; i < 4; i++)
            {
                var before = await PredictAsync(server, Whose("ann"));
                var (status, _) = await server.PostAsync("/apps/a/feedback", $$"""{"id":"{{before.GetProperty("id").GetString()}}","label":1}""");
                Assert.Equal(HttpStatusCode.Accepted, status);
            }
            // One's own feedback is waited for, but not for longer than the deadline.
            await ProcessedAsync(server, 4);
            var after = await PredictAsync(server, Whose("ann"));
            shifted = Weight(after, 2);
            Assert.True(shifted < 0.2, $"{shifted}");
            Assert.Equal(1, Members(after).Sum(member => member.GetProperty("weight").GetDouble()), 1e-4);
            Assert.Equal(1 / 3.0, Weight(await PredictAsync(server, Whose("bob")), 2), 1e-4);
        }

        await using var again = await SkiffServer.StartAsync(folder.Path);
        Assert.Equal(shifted, Weight(await PredictAsync(again, Whose("ann")), 2));

        string Whose(string name) => $$"""{"{{per}}":"{{name}}","input":[0,2],"explain":true}""";
    }

    [Fact]
    public async Task SameFeedbackTwice_CountsOnce()
    {
        await using var server = await StartAsync("""{"members":["right","wrong"],"policy":{"kind":"exp4"}}""");
        var id = (await PredictAsync(server, Ask)).GetProperty("id").GetString();
        for (var i = 0; i < 3; i++) await server.PostAsync("/apps/a/feedback", $$"""{"id":"{{id}}","label":1}""");
        await ProcessedAsync(server, 3);
        var thrice = Weight(await PredictAsync(server, Ask), 1);

        await server.PostAsync("/apps/a/feedback", """{"user":"bob","input":[0,2],"label":1}""");
        await ProcessedAsync(server, 4);

        // Feedback that brings its input asks the members: the same as on a decision.
        Assert.Equal(Weight(await PredictAsync(server, Ask.Replace("ann", "bob")), 1), thrice, 3);
        Assert.True(thrice < 0.45, $"{thrice}");
    }

    [Theory]
    [InlineData("exp3")]
    [InlineData("epsilon_greedy")]
    [InlineData("thompson")]
    public async Task PolicyThatChooses_RunsOneMemberAndLearnsToLeaveTheWrongOne(string kind)
    {
        await using var server = await StartAsync($$$"""{"members":["right","wrong"],"policy":{"kind":"{{{kind}}}"}}""");
        var chosen = new List<string>();
        for (var i = 0; i < 40; i++)
        {
            var answer = await PredictAsync(server, Ask);
            var member = Assert.Single(Members(answer));
            chosen.Add(member.GetProperty("model").GetString()!);
            Assert.Equal(chosen[^1], answer.GetProperty("stage").GetString());
            Assert.Equal(["app", chosen[^1]], answer.GetProperty("versions").EnumerateObject().Select(version => version.Name));
            Assert.InRange(answer.GetProperty("explanation").GetProperty("propensity").GetDouble(), 1e-6, 1);
            await server.PostAsync("/apps/a/feedback", $$"""{"id":"{{answer.GetProperty("id").GetString()}}","label":1}""");
        }

        Assert.True(chosen.TakeLast(20).Count(name => name == "right") >= 12, string.Join(' ', chosen));
    }

    [Theory]
    [InlineData("user", 1)]
    [InlineData("context", 2)]
    public async Task HeadOnTop_LearnsBesideThePolicy(string per, int messages)
    {
        await using var server = await StartAsync(
            $$$"""{"members":["right","wrong"],"policy":{"kind":"exp4","per":"{{{per}}}"}}""", head: ""","head":{"features":"right","kind":"classes"}""");
        var ask = per == "user" ? Ask : Ask.Replace("\"user\"", "\"context\":\"mobile\",\"user\"");
        var before = await PredictAsync(server, ask);
        await server.PostAsync("/apps/a/feedback", $$"""{"id":"{{before.GetProperty("id").GetString()}}","label":1}""");
        await ProcessedAsync(server, messages);

        var after = await PredictAsync(server, ask);

        Assert.True(Weight(after, 0) > 0.5, after.GetRawText());
        Assert.True(Score(after) > Score(before) + 0.2, $"{before} {after}");
        Assert.Equal("right", after.GetProperty("stage").GetString());

        static double Score(JsonElement answer) => answer.GetProperty("explanation").GetProperty("scores")[1].GetDouble();
    }

    [Theory]
    [InlineData("""{"context":"mobile","input":[0,2]}""", "contexts")]
    [InlineData("""{"context":7,"input":[0,2]}""", "'context'")]
    public async Task ContextThatNobodyGoesBy_IsRefused(string body, string says)
    {
        await using var server = await StartAsync("""{"members":["right","wrong"],"policy":{"kind":"exp4"}}""");

        var (status, answer) = await server.PostAsync("/apps/a/predict", body);

        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(says, answer.GetProperty("error").GetString(), StringComparison.Ordinal);
    }

    private static async Task<SkiffServer> StartAsync(string ensemble, string? data = null, string head = "")
    {
        var server = await SkiffServer.StartAsync(data);
        foreach (var (name, factor) in new[] { ("right", 1f), ("sure", 3f), ("wrong", -1f) })
        {
            await server.PushAsync(name, new OnnxBuilder().Input("x", DataType.Fp32, -1, 2).Output("y", DataType.Fp32, -1, 2).Initializer("f", [factor], 1).Node("Mul", ["x", "f"], ["y"]).Build());
        }
        await server.PushAppAsync(Document(ensemble, head));
        return server;
    }

    // An objective that a busy machine keeps, too: nothing here is about being late.
    private static string Document(string ensemble, string head = "") =>
        $$"""{"name":"a","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],"objective_ms":20000,"ensemble":{{ensemble}}{{head}}}""";

    private static async Task<JsonElement> PredictAsync(SkiffServer server, string body)
    {
        var (status, answer) = await server.PostAsync("/apps/a/predict", body);
        Assert.True(status == HttpStatusCode.OK, $"{status} {answer}");
        return answer;
    }

    private static JsonElement[] Members(JsonElement answer) => [.. answer.GetProperty("explanation").GetProperty("members").EnumerateArray()];

    private static double Weight(JsonElement answer, int member) => Members(answer)[member].GetProperty("weight").GetDouble();

    private static Task ProcessedAsync(SkiffServer server, int count) => Eventually.HoldsAsync($"{count} feedbacks processed", async () =>
    {
        var lines = (await server.Client.GetStringAsync("/metrics")).Split('\n');
        return lines.Where(line => line.StartsWith("skiff_feedback_learnt_total ", StringComparison.Ordinal) || line.StartsWith("skiff_feedback_duplicate_total ", StringComparison.Ordinal)).Sum(line => long.Parse(line.Split(' ')[1])) >= count;
    });
}
