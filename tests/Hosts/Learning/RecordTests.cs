using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
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
    public async Task ErasedUser_IsNoLongerInTheFiles_AndOthersLearnOn()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        for (var i = 0; i < 3; i++)
        {
            await app.FeedbackAsync(Feedback("ann-of-this-test", $"ann-f{i}"));
            await app.FeedbackAsync(Feedback("ben", $"ben-f{i}"));
        }
        foreach (var user in (string[])["ann-of-this-test", "ben"]) Assert.Equal(EchoApp.ScoreAfter(3), await app.ScoreAsync(user), Precision);
        Assert.All((string[])["queue.db", "state.db"], name => Assert.Contains("ann-f2", Bytes(name)));

        Assert.Equal(HttpStatusCode.NoContent, await EraseAsync(server, "ann-of-this-test"));

        Assert.All((string[])["queue.db", "state.db"], name => Assert.DoesNotContain("ann-", Bytes(name)));
        Assert.All((string[])["queue.db", "state.db"], name => Assert.Contains("ben-f2", Bytes(name)));
        await app.FeedbackAsync(Feedback("ben", "ben-f3"));
        Assert.Equal(EchoApp.ScoreAfter(4), await app.ScoreAsync("ben"), Precision);

        // A character a byte.
        string Bytes(string name) => string.Concat(new[] { name, name + "-wal" }.Select(file => Path.Combine(server.Data, file)).Where(File.Exists).Select(file =>
        {
            using var reader = new StreamReader(new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete), Encoding.Latin1);
            return reader.ReadToEnd();
        }));
    }

    [Theory]
    [InlineData("a/b")]
    [InlineData("a%2Fb")]
    [InlineData("a%2fb")]
    [InlineData("a%252Fb")]
    [InlineData("100%")]
    [InlineData("50%41")]
    [InlineData("a b+c?d#e;f")]
    [InlineData("...")]
    [InlineData("/")]
    [InlineData("../ben")]
    [InlineData("é😀\\")]
    public async Task EveryName_IsFoundByItsOneAddress(string user)
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        string[] others = [.. new[] { "a/b", "a%2Fb", "a%2fb", "a%252Fb", "ben" }.Where(other => other != user)];
        foreach (var each in (string[])[user, .. others]) await app.FeedbackAsync(JsonSerializer.Serialize(new { user = each, input = new[] { 1, 0, 0 }, label = "yes" }));

        Assert.Equal(user, (await server.GetAsync($"/apps/echo/users/{Uri.EscapeDataString(user)}")).Body.GetProperty("user").GetString());
        Assert.Equal(HttpStatusCode.NoContent, await EraseAsync(server, Uri.EscapeDataString(user)));

        Assert.Equal(HttpStatusCode.NotFound, (await server.GetAsync($"/apps/echo/users/{Uri.EscapeDataString(user)}?more=/x")).Status);
        foreach (var other in others) Assert.Equal(other, (await server.GetAsync($"/apps/echo/users/{Uri.EscapeDataString(other)}")).Body.GetProperty("user").GetString());
    }

    [Theory]
    [InlineData("a/b")]
    [InlineData("a%2Fb")]
    public async Task EveryFeedbackInQuarantine_IsReleasedByItsOneAddress(string id)
    {
        await using var server = await StartAsync();
        await server.Server.Engine.Learner.QuarantineAsync(Message("u1", "a/b"), "too far from what was seen", Cancellation);
        await server.Server.Engine.Learner.QuarantineAsync(Message("u1", "a%2Fb"), "too far from what was seen", Cancellation);

        var (status, released) = await server.PostAsync($"/apps/echo/quarantine/{Uri.EscapeDataString(id)}/release", "");

        Assert.Equal((HttpStatusCode.OK, id), (status, released.GetProperty("feedback_id").GetString()));
    }

    [Theory]
    [InlineData("/apps/echo/users/ann/ben/..")]
    [InlineData("/apps/echo/users/a%2Fb/a%252Fb/..")]
    [InlineData("/apps/echo/users/ann/.")]
    public async Task PathWithDotsAtItsEnd_IsNobodys(string path)
    {
        await using var server = await StartAsync();
        using var client = new TcpClient();
        await client.ConnectAsync(server.Client.BaseAddress!.Host, server.Client.BaseAddress.Port, Cancellation);
        // As it stands: HttpClient would take the dots out.
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), Cancellation);
        using var reader = new StreamReader(client.GetStream());
        var answer = await reader.ReadToEndAsync(Cancellation);

        Assert.StartsWith("HTTP/1.1 400", answer);
        Assert.Contains("plain form", answer);
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
