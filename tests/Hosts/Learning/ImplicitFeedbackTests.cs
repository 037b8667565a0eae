using System.Net;
using System.Text.Json;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>Silence as feedback, from outside: a server, its clock, and nobody who says anything.</summary>
public sealed class ImplicitFeedbackTests
{
    private const double Precision = 2e-6;

    [Fact]
    public async Task Silence_IsLearntAndWhatIsSaidAfterItIsKept()
    {
        await using var server = await StartAsync(0.2);
        var app = new EchoApp(server.Client);
        var (id, score, _) = await app.PredictAsync("ann");
        Assert.Equal(0, score, Precision);
        await Eventually.HoldsAsync("silence has counted", async () => await app.MetricAsync("skiff_feedback_implicit_total") == 1);

        Assert.Equal($"late:{id}", await app.FeedbackAsync($$"""{"id":"{{id}}","label":"no"}"""));
        Assert.Equal($"late:{id}", await app.FeedbackAsync($$"""{"id":"{{id}}","label":"no"}"""));
        await Eventually.HoldsAsync("the second of them is known", async () => await app.MetricAsync("skiff_feedback_duplicate_total") == 1);
        Assert.Equal(1, await app.MetricAsync("skiff_feedback_late_total"));
        var feedback = (await FeedbackOfAsync(server, "ann")).ToDictionary(one => one.GetProperty("feedback_id").GetString()!);
        Assert.Equal((2, true, 0), (feedback.Count, feedback[id].GetProperty("implicit").GetBoolean(), feedback[id].GetProperty("label").GetInt32()));
        Assert.Equal((true, false), (feedback[$"late:{id}"].GetProperty("late").GetBoolean(), feedback[$"late:{id}"].GetProperty("learnt").GetBoolean()));
        // That was her only example; looking again is a decision too, but its time has only begun.
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("ann"), Precision);
    }

    [Fact]
    public async Task WordInTime_IsAllThatCounts()
    {
        await using var server = await StartAsync(2);
        var app = new EchoApp(server.Client);
        var (id, _, _) = await app.PredictAsync("ann");
        Assert.Equal(id, await app.FeedbackAsync($$"""{"id":"{{id}}","label":"no"}"""));
        await app.PredictAsync("ben");
        await Eventually.HoldsAsync("the one after her was silent", async () => await app.MetricAsync("skiff_feedback_implicit_total") == 1);

        var said = Assert.Single(await FeedbackOfAsync(server, "ann"));
        Assert.Equal((1, false, true), (said.GetProperty("label").GetInt32(), said.TryGetProperty("implicit", out _), said.GetProperty("learnt").GetBoolean()));
        Assert.Equal(0, await app.MetricAsync("skiff_feedback_duplicate_total"));
    }

    [Fact]
    public async Task TimeThatRanOutWhileNobodyRan_CountsAfterwards()
    {
        using var folder = new ScratchFolder();
        string id;
        await using (var server = await StartAsync(0.2, folder.Path)) (id, _, _) = await new EchoApp(server.Client).PredictAsync("ann");
        await using var again = await SkiffServer.StartAsync(folder.Path);
        await Eventually.HoldsAsync("silence has counted", async () => await new EchoApp(again.Client).MetricAsync("skiff_feedback_implicit_total") == 1);

        Assert.Equal(id, Assert.Single(await FeedbackOfAsync(again, "ann")).GetProperty("feedback_id").GetString());
    }

    [Fact]
    public async Task SilenceOfNobodyInParticular_SaysNothing()
    {
        await using var server = await StartAsync(0.2);
        var app = new EchoApp(server.Client);
        var (_, answer) = await server.PostAsync("/apps/echo/predict", $$"""{"input":{{EchoApp.Input}}}""");
        var id = answer.GetProperty("id").GetString();
        await app.PredictAsync("ann");
        await Eventually.HoldsAsync("the one after it has counted", async () => await app.MetricAsync("skiff_feedback_implicit_total") == 1);

        // Nor is there anything that feedback could be late for, or meet under its id.
        Assert.Equal("f1", await app.FeedbackAsync($$"""{"id":"{{id}}","label":"no","feedback_id":"f1"}"""));
        Assert.Equal(0, await app.MetricAsync("skiff_feedback_late_total"));
    }

    [Fact]
    public async Task FeedbackIdOfOnesOwn_IsRefusedWhereSilenceCounts()
    {
        await using var server = await StartAsync(100);
        var (id, _, _) = await new EchoApp(server.Client).PredictAsync("ann");

        (await HttpAnswer.PostAsync(server.Client, "/apps/echo/feedback", $$"""{"id":"{{id}}","label":"no","feedback_id":"mine"}""")).AssertRefused(400, "leave it out");
    }

    [Fact]
    public async Task EachRowOfABatch_IsWaitedFor()
    {
        await using var server = await StartAsync(0.2);
        var app = new EchoApp(server.Client);
        await server.PostAsync("/apps/echo/predict", $$"""{"user":"ann","inputs":[{{EchoApp.Input}},{{EchoApp.Input}},{{EchoApp.Input}}]}""");
        await Eventually.HoldsAsync("silence has counted thrice", async () => await app.MetricAsync("skiff_feedback_implicit_total") == 3);

        Assert.Equal(EchoApp.ScoreAfter(3), await app.ScoreAsync("ann"), Precision);
    }

    [Fact]
    public async Task SilenceOnWhatAReplicaAnswered_CountsToo()
    {
        using var folder = new ScratchFolder();
        await using (var publishing = await StartAsync(0.2, folder.Path))
        {
        }
        await using var server = await SkiffProcess.ServeAsync(folder.Path, "--no-samples", "--replicas", "1");
        var app = new EchoApp(server.Client);
        await app.PredictAsync("ann");

        await Eventually.HoldsAsync("her score has moved", async () => await app.ScoreAsync("ann") > 0.5);
    }

    private static async Task<SkiffServer> StartAsync(double seconds, string? data = null)
    {
        var server = await SkiffServer.StartAsync(data);
        await EchoApp.PublishAsync(server.Server.Engine.Store, more: string.Create(System.Globalization.CultureInfo.InvariantCulture, $$$""","feedback":{"implicit":{"after_s":{{{seconds}}},"label":0}}"""));
        return server;
    }

    private static async Task<IReadOnlyList<JsonElement>> FeedbackOfAsync(SkiffServer server, string user)
    {
        var (status, body) = await server.GetAsync($"/apps/echo/users/{user}");
        Assert.Equal(HttpStatusCode.OK, status);
        return [.. body.GetProperty("feedback").EnumerateArray()];
    }
}
