using System.Net;
using System.Text;
using System.Text.Json;
using Skiff.Apps;
using Skiff.Embedded;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>The log of accepted feedback, and heads that are made of it again.</summary>
public sealed class ReplayTests : IDisposable
{
    private const double Precision = 1e-5;

    /// <summary>Three feedbacks an hour, and inputs are kept.</summary>
    private const string Document = """
        {"name":"echo","input":{"name":"x","type":"FP32","shape":[3]},"labels":["yes","no"],"keep_inputs":true,
         "head":{"features":"echo_body","kind":"classes","prior_strength":1,"detect_changes":true,"guards":{"norm_clip":3,"residual_gate":5,"per_user_hour":3}}}
        """;

    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task HeadsAreReproduced_AndMovedToNewFeatures_WithQuarantineAndErasureApplied()
    {
        await using (var server = await StartAsync())
        {
            var app = new EchoApp(server.Client);
            foreach (var user in (string[])["ann", "ben", "cy"])
            {
                for (var i = 0; i < 5; i++) await app.FeedbackAsync($$"""{"user":"{{user}}","input":{{EchoApp.Input}},"label":"yes","feedback_id":"{{user}}{{i}}"}""");
            }
            await Eventually.HoldsAsync("two of each are in quarantine", async () => await app.MetricAsync("skiff_feedback_quarantined_total") == 6);
            Assert.True((await server.PostAsync("/apps/echo/quarantine/ann3/release", "")).Body.GetProperty("learnt").GetBoolean());
        }
        Assert.Contains("3 of 3 heads reproduced, relative difference up to 0.0e0", (await ReplayAsync()).Output);

        // Days later it is in the log; a month later, only there.
        Assert.Single(await CompactAsync(TimeSpan.FromDays(2)));
        // What somebody has left there is no day.
        await File.WriteAllTextAsync(Path.Combine(_folder.Path, "models", "default", "logs", "echo", "x.jsonl"), "{}", TestContext.Current.CancellationToken);
        Assert.Empty(await CompactAsync(TimeSpan.FromDays(40)));
        Assert.Contains("3 of 3 heads reproduced", (await ReplayAsync()).Output);
        await using (var server = await SkiffServer.StartAsync(_folder.Path))
        {
            using var erase = new HttpRequestMessage(HttpMethod.Delete, "/apps/echo/users/ben");
            Assert.Equal(HttpStatusCode.NoContent, (await server.SendAsync(erase)).Status);
            await server.PushAsync("echo_body", Doubled());
        }

        var moved = await ReplayAsync("--theta", "2");

        Assert.Contains("2 of 2 heads reproduced", moved.Output);
        Assert.Contains("2 heads are on version 2 now", moved.Output);
        Assert.Contains("5 entries of erased users", moved.Output);
        await using (var server = await SkiffServer.StartAsync(_folder.Path))
        {
            var app = new EchoApp(server.Client);
            // φ = [2, 0, 0, 1]: |φ|² = 5. Ann's four and Cy's three; one and two stay in quarantine.
            await HasAsync(app, "ann", 20 / 21.0);
            await HasAsync(app, "cy", 15 / 16.0);
            Assert.Equal(0, (await app.PredictAsync("ben")).Score);
        }
        Assert.Contains("2 of 2 heads reproduced", (await ReplayAsync()).Output);
    }

    [Fact]
    public async Task ChangedSettings_AreRefusedAndTakenWhereThatIsWanted()
    {
        await using (var server = await StartAsync())
        {
            var app = new EchoApp(server.Client);
            foreach (var user in (string[])["ann", "ben"]) await app.FeedbackAsync($$"""{"user":"{{user}}","input":{{EchoApp.Input}},"label":"yes"}""");
            Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("ann"), Precision);
            await server.PushAppAsync(Document.Replace("\"prior_strength\":1", "\"prior_strength\":3"));
        }

        Assert.Contains("0 of 2 heads reproduced", (await ReplayAsync()).Output);
        var refused = await ReplayAsync("--theta", "1");
        Assert.NotEqual(0, refused.ExitCode);
        Assert.Contains("nothing was changed", refused.Error);
        var rebuilt = await ReplayAsync("--rebuild");
        Assert.Equal((0, true), (rebuilt.ExitCode, rebuilt.Output.Contains("2 heads are what their feedback gives now", StringComparison.Ordinal)));
        Assert.Contains("2 of 2 heads reproduced", (await ReplayAsync()).Output);

        // |φ|² = 2 beside a prior of 3.
        await using var again = await SkiffServer.StartAsync(_folder.Path);
        Assert.Equal(2 / 5.0, await new EchoApp(again.Client).ScoreAsync("ann"), Precision);
    }

    [Fact]
    public async Task DamagedLog_IsSaid()
    {
        await using (var server = await StartAsync()) await new EchoApp(server.Client).FeedbackAsync($$"""{"user":"ann","input":{{EchoApp.Input}},"label":"yes"}""");
        var day = Assert.Single(await CompactAsync(TimeSpan.FromDays(2)));
        var segment = Path.Combine(_folder.Path, "models", "default", "logs", "echo", day + ".jsonl");
        var lines = await File.ReadAllLinesAsync(segment, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(segment, lines[0] + "\n", TestContext.Current.CancellationToken);

        var replay = await ReplayAsync();

        Assert.NotEqual(0, replay.ExitCode);
        Assert.Contains($"{day}.jsonl", replay.Error);
    }

    private static async Task HasAsync(EchoApp app, string user, double expected)
    {
        var (_, score, version) = await app.PredictAsync(user);
        Assert.Equal(expected, score, Precision);
        Assert.Equal(2, version);
    }

    [Fact]
    public async Task ExportOfAUser_HasWhatIsInTheLogAlone_AndAfterErasureNothing()
    {
        await using (var server = await StartAsync())
        {
            var app = new EchoApp(server.Client);
            for (var i = 0; i < 3; i++) await app.FeedbackAsync($$"""{"user":"ann","input":{{EchoApp.Input}},"label":"yes","feedback_id":"a{{i}}"}""");
            await app.FeedbackAsync($$"""{"user":"ben","input":{{EchoApp.Input}},"label":"yes","feedback_id":"b"}""");
            await app.ProcessedAsync(4);
        }
        // The next day, and when the store has let go of it.
        Assert.Single(await CompactAsync(TimeSpan.FromDays(2)));
        await CompactAsync(TimeSpan.FromDays(60));

        await using var again = await SkiffServer.StartAsync(_folder.Path);
        Assert.Equal(["a0", "a1", "a2"], await ExportedAsync(again, "ann"));
        await new EchoApp(again.Client).FeedbackAsync($$"""{"user":"ann","input":{{EchoApp.Input}},"label":"no","feedback_id":"a3"}""");
        Assert.Equal(["a0", "a1", "a2", "a3"], await ExportedAsync(again, "ann"));

        using (var erased = await again.Client.DeleteAsync("/apps/echo/users/ann", TestContext.Current.CancellationToken)) Assert.Equal(HttpStatusCode.NoContent, erased.StatusCode);
        using (var gone = await again.Client.GetAsync("/apps/echo/users/ann", TestContext.Current.CancellationToken)) Assert.Equal(HttpStatusCode.NotFound, gone.StatusCode);
        Assert.Equal(["b"], await ExportedAsync(again, "ben"));
    }

    private static async Task<IEnumerable<string>> ExportedAsync(SkiffServer server, string user)
    {
        using var document = JsonDocument.Parse(await server.Client.GetStringAsync($"/apps/echo/users/{user}", TestContext.Current.CancellationToken));
        return [.. document.RootElement.GetProperty("feedback").EnumerateArray().Select(one => one.GetProperty("feedback_id").GetString()!)];
    }

    private Task<CommandResult> ReplayAsync(params string[] more) => SkiffProcess.RunAsync(["replay", "echo", "--data", _folder.Path, .. more]);

    private async Task<SkiffServer> StartAsync()
    {
        var server = await SkiffServer.StartAsync(_folder.Path);
        await server.PushAsync("echo_body", OnnxBuilder.Identity(DataType.Fp32, -1, 3));
        await server.PushAppAsync(Document);
        return server;
    }

    private async Task<IReadOnlyList<string>> CompactAsync(TimeSpan ahead)
    {
        using var state = new SqliteStateStore(Path.Combine(_folder.Path, "state.db"));
        return await new FeedbackLog(new FileObjectStore(Path.Combine(_folder.Path, "models")), state, new Ahead(ahead)).CompactAsync("default", "echo", TestContext.Current.CancellationToken);
    }

    private static byte[] Doubled() => new OnnxBuilder().Initializer("two", [2f], 1).Input("x", DataType.Fp32, -1, 3).Output("y", DataType.Fp32, -1, 3).Node("Mul", ["x", "two"], ["y"]).Build();

    private sealed class Ahead(TimeSpan by) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + by;
    }
}
