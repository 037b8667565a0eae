using System.Net;
using System.Runtime.InteropServices;
using Skiff.Feedback;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>Quarantine, export and erasure, from outside.</summary>
public sealed class RecordTests
{
    private const double Precision = 2e-6;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task FeedbackThatCantBeLearnt_WaitsInQuarantine_UntilItIsReleased()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        await app.FeedbackAsync(Feedback("u1", "f1"));
        // Learnable, but held back, as a guard would.
        await server.Server.Engine.Learner.QuarantineAsync(Message("u1", "f2"), "too far from what was seen", Cancellation);
        // As from an app that has changed its shape.
        await server.Server.Engine.Learner.LearnAsync([Message("u1", "f3") with { Features = new byte[8] }], Cancellation);
        await Eventually.HoldsAsync("both are in quarantine", async () => await app.MetricAsync("skiff_feedback_quarantined_total") == 2);
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("u1"), Precision);

        var (_, list) = await server.GetAsync("/apps/echo/quarantine");
        Assert.Equal(2, list.GetProperty("count").GetInt32());
        Assert.Equal(["f2 too far from what was seen", "f3 features of another length"],
            list.GetProperty("quarantine").EnumerateArray().Select(item => $"{item.GetProperty("feedback_id")} {item.GetProperty("reason")}").Order());

        var (status, released) = await server.PostAsync("/apps/echo/quarantine/f2/release", "");
        Assert.True(status == HttpStatusCode.OK && released.GetProperty("learnt").GetBoolean(), released.ToString());
        Assert.Equal(EchoApp.ScoreAfter(2), await app.ScoreAsync("u1"), Precision);
        (_, released) = await server.PostAsync("/apps/echo/quarantine/f3/release", "");
        Assert.Equal((false, "features of another length"), (released.GetProperty("learnt").GetBoolean(), released.GetProperty("reason").GetString()));
        Assert.Equal(HttpStatusCode.NotFound, (await server.PostAsync("/apps/echo/quarantine/f2/release", "")).Status);
        Assert.Equal(1, (await server.GetAsync("/apps/echo/quarantine")).Body.GetProperty("count").GetInt32());

        // It was accepted once, and counts once.
        await app.FeedbackAsync(Feedback("u1", "f2"));
        Assert.Equal(EchoApp.ScoreAfter(2), await app.ScoreAsync("u1"), Precision);
    }

    [Fact]
    public async Task MoreThanACallerMaySay_WaitsInQuarantine()
    {
        await using var server = await SkiffServer.StartAsync();
        await EchoApp.PublishAsync(server.Server.Engine.Store, """{"per_caller_hour":2}""");
        var app = new EchoApp(server.Client);
        foreach (var user in (string[])["ann", "ben", "cy"]) await app.FeedbackAsync(Feedback(user, $"f-{user}"));
        await Eventually.HoldsAsync("one is in quarantine", async () => await app.MetricAsync("skiff_feedback_quarantined_total") == 1);

        var held = Assert.Single((await server.GetAsync("/apps/echo/quarantine")).Body.GetProperty("quarantine").EnumerateArray());
        Assert.Equal("more than 2 an hour from this caller", held.GetProperty("reason").GetString());
        var user3 = held.GetProperty("user").GetString()!;
        Assert.Equal(0, await app.ScoreAsync(user3), Precision);
        Assert.True((await server.PostAsync($"/apps/echo/quarantine/f-{user3}/release", "")).Body.GetProperty("learnt").GetBoolean());
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync(user3), Precision);
    }

    [Fact]
    public async Task QuarantineCommands_ListShowAndRelease()
    {
        using var folder = new ScratchFolder();
        await using (var server = await StartAsync(folder.Path))
        {
            await server.Server.Engine.Learner.QuarantineAsync(Message("u1", "f1"), "suspicious", Cancellation);
            await server.Server.Engine.Learner.LearnAsync([FeedbackMessage.Read("{\"tenant\":\"default\"}"u8)], Cancellation);
        }

        var list = await SkiffProcess.RunAsync("quarantine", "list", "echo", "--data", folder.Path);
        Assert.Matches(@"f1 +suspicious\n1 in quarantine", list.Output);
        Assert.Matches(@"not feedback: .*\n1 in quarantine", (await SkiffProcess.RunAsync("quarantine", "list", "--data", folder.Path)).Output);
        Assert.Contains("\"features\": [", (await SkiffProcess.RunAsync("quarantine", "show", "echo", "--id", "f1", "--data", folder.Path)).Output);

        Assert.Contains("--id or --reason", (await SkiffProcess.RunAsync("quarantine", "release", "echo", "--data", folder.Path)).Error);
        Assert.Equal("1 of 1 learnt\n", (await SkiffProcess.RunAsync("quarantine", "release", "echo", "--reason", "susp", "--data", folder.Path)).Output);

        await using var restarted = await SkiffServer.StartAsync(folder.Path);
        Assert.Equal(EchoApp.ScoreAfter(1), await new EchoApp(restarted.Client).ScoreAsync("u1"), Precision);
    }

    [Fact]
    public async Task ErasedUser_BeginsAnew_AndFeedbackFromBeforeIsDropped()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        for (var i = 0; i < 3; i++) await app.FeedbackAsync(Feedback("ann/1", $"f{i}"));
        await app.FeedbackAsync(Feedback("ben", "g1"));
        var export = (await server.GetAsync("/apps/echo/users/ann%2F1")).Body;
        Assert.Equal(3, export.GetProperty("head").GetProperty("updates").GetInt32());
        Assert.Equal(["f0", "f1", "f2"], export.GetProperty("feedback").EnumerateArray().Select(item => item.GetProperty("feedback_id").GetString()));
        Assert.Equal(4, export.GetProperty("feedback")[0].GetProperty("features").GetArrayLength());

        var onItsWay = Message("ann/1", "f9");
        var (sealedBefore, _, _) = await app.PredictAsync("ann/1");
        Assert.Equal(HttpStatusCode.NoContent, await EraseAsync(server, "ann%2F1"));
        // What the queue still brings: new, and seen before.
        await server.Server.Engine.Learner.LearnAsync([onItsWay, onItsWay with { FeedbackId = "f0" }], Cancellation);

        Assert.Equal(0, await app.ScoreAsync("ann/1"), Precision);
        Assert.Equal(HttpStatusCode.NotFound, (await server.GetAsync("/apps/echo/users/ann%2F1")).Status);
        Assert.Equal(2, await app.MetricAsync("skiff_feedback_erased_total"));
        // A decision from before is known, and what it says of the user is not learnt.
        await app.FeedbackAsync($$"""{"id":"{{sealedBefore}}","label":"yes"}""");
        await Eventually.HoldsAsync("it is counted", async () => await app.MetricAsync("skiff_feedback_erased_total") == 3);
        Assert.Equal(0, await app.ScoreAsync("ann/1"), Precision);
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("ben"), Precision);

        await app.FeedbackAsync(Feedback("ann/1", "f0"));
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("ann/1"), Precision);
        Assert.Equal(HttpStatusCode.NoContent, await EraseAsync(server, "nobody"));
    }

    [Fact]
    public async Task FeedbackAfterADecisionsTime_IsKeptAndCounted_AndNotLearnt()
    {
        const string secret = "a secret that only this test knows";
        await using var server = await SkiffServer.StartAsync(null, samples: false, ("SKIFF_SECRET", secret));
        await EchoApp.PublishAsync(server.Server.Engine.Store);
        var app = new EchoApp(server.Client);
        var id = new DecisionSeal([secret], TimeProvider.System).Seal(new Decision
        {
            Tenant = "default", App = "echo", AppVersion = 1, User = "u1", Label = 0, FeaturesVersion = 1, Features = [1, 0, 0, 1], Expires = DateTimeOffset.UtcNow.AddDays(-1),
        });

        await app.FeedbackAsync($$"""{"id":"{{id}}","label":"yes"}""");

        await Eventually.HoldsAsync("it is counted", async () => await app.MetricAsync("skiff_feedback_late_total") == 1);
        var kept = (await server.GetAsync("/apps/echo/users/u1")).Body.GetProperty("feedback")[0];
        Assert.True(kept.GetProperty("late").GetBoolean() && !kept.GetProperty("learnt").GetBoolean(), kept.ToString());
        Assert.Equal(0, await app.ScoreAsync("u1"), Precision);
    }

    private static async Task<HttpStatusCode> EraseAsync(SkiffServer server, string user)
    {
        using var request = new HttpRequestMessage(HttpMethod.Delete, $"/apps/echo/users/{user}");
        return (await server.SendAsync(request)).Status;
    }

    private static async Task<SkiffServer> StartAsync(string? data = null)
    {
        var server = await SkiffServer.StartAsync(data);
        await EchoApp.PublishAsync(server.Server.Engine.Store);
        return server;
    }

    private static FeedbackMessage Message(string user, string id) => new()
    {
        Tenant = "default", App = "echo", User = user, FeedbackId = id, Label = 0, FeaturesVersion = 1,
        Features = MemoryMarshal.AsBytes<float>([1, 0, 0, 1]).ToArray(), At = DateTimeOffset.UtcNow,
    };

    private static string Feedback(string user, string id) => $$"""{"user":"{{user}}","input":{{EchoApp.Input}},"label":"yes","feedback_id":"{{id}}"}""";
}
