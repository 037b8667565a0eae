using Microsoft.Data.Sqlite;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

public sealed class FeedbackTests
{
    private const double Precision = 2e-6;

    [Fact]
    public async Task FeedbackOnADecision_ShowsInThePredictionRightAfter()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);

        for (var count = 0; count < 20; count++)
        {
            var (id, score, _) = await app.PredictAsync("u1");
            Assert.Equal(EchoApp.ScoreAfter(count), score, Precision);
            await app.FeedbackAsync($$"""{"id":"{{id}}","label":"yes"}""");
        }
    }

    [Fact]
    public async Task FeedbackOnAnInput_ShowsInThePredictionRightAfter()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);

        for (var count = 1; count <= 20; count++)
        {
            await app.FeedbackAsync(Feedback("u1", $"f{count}"));
            Assert.Equal(EchoApp.ScoreAfter(count), await app.ScoreAsync("u1"), Precision);
        }
    }

    [Fact]
    public async Task FeaturesBeyondHalfPrecision_AreLearntFromADecisionToo()
    {
        await using var server = await StartAsync();
        const string large = """{"user":"u1","input":[100000,0,0],"explain":true}""";
        var id = (await server.PostAsync("/apps/echo/predict", large)).Body.GetProperty("id").GetString();

        await new EchoApp(server.Client).FeedbackAsync($$"""{"id":"{{id}}","label":"yes"}""");

        var score = (await server.PostAsync("/apps/echo/predict", large)).Body.GetProperty("explanation").GetProperty("scores")[0].GetDouble();
        Assert.Equal(1, score, 1e-4);
    }

    [Fact]
    public async Task FeedbackOfOneUser_LeavesOthersAsTheyWere()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        await app.FeedbackAsync(Feedback("u2", "f1"));

        for (var i = 2; i < 10; i++) await app.FeedbackAsync(Feedback("u1", $"f{i}"));

        Assert.Equal(0, await app.ScoreAsync("u3"), Precision);
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("u2"), Precision);
        Assert.Equal(EchoApp.ScoreAfter(8), await app.ScoreAsync("u1"), Precision);
    }

    [Theory]
    [InlineData("yes")]
    [InlineData("no")]
    public async Task SameFeedbackIdTwice_CountsOnce(string secondLabel)
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);

        Assert.Equal("f1", await app.FeedbackAsync(Feedback("u1", "f1")));
        Assert.Equal("f1", await app.FeedbackAsync(Feedback("u1", "f1", secondLabel)));
        Assert.Equal("f1", await app.FeedbackAsync($$"""{"id":"{{(await app.PredictAsync("u1")).Id}}","feedback_id":"f1","label":"{{secondLabel}}"}"""));
        Assert.Equal("f1", await app.FeedbackAsync(Feedback("u2", "f1", secondLabel)));

        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("u1"), Precision);
        Assert.Equal(0, await app.ScoreAsync("u2"), Precision);
        await app.ProcessedAsync(4);
        Assert.Equal(3, await app.MetricAsync("skiff_feedback_duplicate_total"));
    }

    [Fact]
    public async Task SameFeedbackIdTwiceInOneRequest_CountsOnce()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);

        await server.PostAsync("/apps/echo/feedback", $$"""{"feedback":[{{Feedback("u1", "f1")}},{{Feedback("u1", "f1")}},{{Feedback("u1", "f2")}}]}""");

        Assert.Equal(EchoApp.ScoreAfter(2), await app.ScoreAsync("u1"), Precision);
    }

    [Fact]
    public async Task SameFeedbackIdAfterARestart_CountsOnce()
    {
        using var folder = new ScratchFolder();
        await using (var server = await StartAsync(folder.Path))
        {
            await new EchoApp(server.Client).FeedbackAsync(Feedback("u1", "f1"));
        }

        await using var restarted = await SkiffServer.StartAsync(folder.Path);
        var app = new EchoApp(restarted.Client);
        await app.FeedbackAsync(Feedback("u1", "f1", "no"));

        await app.ProcessedAsync(1);
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("u1"), Precision);
    }

    [Fact]
    public async Task WithoutFeedbackId_TheDecisionsIdIsIt()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        var (id, _, _) = await app.PredictAsync("u1");
        var (next, _, _) = await app.PredictAsync("u1");

        Assert.Equal(id, await app.FeedbackAsync($$"""{"id":"{{id}}","label":0}"""));
        await app.FeedbackAsync($$"""{"id":"{{id}}","label":1}""");
        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("u1"), Precision);

        Assert.Equal(next, await app.FeedbackAsync($$"""{"id":"{{next}}","label":0}"""));
        Assert.Equal(EchoApp.ScoreAfter(2), await app.ScoreAsync("u1"), Precision);
    }

    [Fact]
    public async Task WithoutAnyId_EachFeedbackCounts()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        const string feedback = $$"""{"user":"u1","input":{{EchoApp.Input}},"label":0}""";

        Assert.NotEqual(await app.FeedbackAsync(feedback), await app.FeedbackAsync(feedback));

        Assert.Equal(EchoApp.ScoreAfter(2), await app.ScoreAsync("u1"), Precision);
    }

    [Fact]
    public async Task ServerStoppedRightAfterAccepting_HasLearntAfterTheRestart()
    {
        const int count = 50;
        using var folder = new ScratchFolder();
        string decision;
        await using (var server = await StartAsync(folder.Path))
        {
            var app = new EchoApp(server.Client);
            (decision, _, _) = await app.PredictAsync("u2");
            await Task.WhenAll(Enumerable.Range(0, count).Select(i => app.FeedbackAsync(Feedback("u1", $"f{i}"))));
        }

        await using var restarted = await SkiffServer.StartAsync(folder.Path);
        var again = new EchoApp(restarted.Client);
        await Eventually.HoldsAsync("all feedback is learnt", async () => Math.Abs(await again.ScoreAsync("u1") - EchoApp.ScoreAfter(count)) < Precision);

        // Decisions of before are known too.
        await again.FeedbackAsync($$"""{"id":"{{decision}}","label":0}""");
        Assert.Equal(EchoApp.ScoreAfter(1), await again.ScoreAsync("u2"), Precision);
    }

    [Fact]
    public async Task ServerKilledRightAfterAccepting_LosesNothingAndCountsNothingTwice()
    {
        const int users = 8, each = 12;
        using var folder = new ScratchFolder();
        await PublishAsync(folder);
        await using (var server = await SkiffProcess.ServeAsync(folder.Path, "--no-samples"))
        {
            var app = new EchoApp(server.Client);
            await Task.WhenAll(Enumerable.Range(0, users).Select(async user =>
            {
                for (var i = 0; i < each; i++) await app.FeedbackAsync(Feedback($"u{user}", $"u{user} f{i}"));
            }));
            await server.KillAsync();
        }

        await using var restarted = await SkiffProcess.ServeAsync(folder.Path, "--no-samples");
        var again = new EchoApp(restarted.Client);
        // Nothing was completed before the kill, so everything comes again, learnt or not.
        await again.ProcessedAsync(users * each);
        for (var user = 0; user < users; user++) Assert.Equal(EchoApp.ScoreAfter(each), await again.ScoreAsync($"u{user}"), Precision);
    }

    [Fact]
    public async Task ServerKilledWhileAccepting_KeepsWhatItAcceptedAndARepeatCompletesIt()
    {
        const int users = 8, enough = 40;
        using var folder = new ScratchFolder();
        await PublishAsync(folder);
        var accepted = new int[users];
        var sent = new int[users];
        await using (var server = await SkiffProcess.ServeAsync(folder.Path, "--no-samples"))
        {
            var app = new EchoApp(server.Client);
            var sending = Enumerable.Range(0, users).Select(user => SendUntilItFailsAsync(app, user)).ToArray();
            await Eventually.HoldsAsync($"{enough} accepted", () => Task.FromResult(accepted.Sum() >= enough));
            await server.KillAsync();
            await Task.WhenAll(sending);
        }

        await using var restarted = await SkiffProcess.ServeAsync(folder.Path, "--no-samples");
        var again = new EchoApp(restarted.Client);
        await again.ProcessedAsync(accepted.Sum());
        for (var user = 0; user < users; user++)
        {
            Assert.InRange(await again.ScoreAsync($"u{user}"), EchoApp.ScoreAfter(accepted[user]) - Precision, EchoApp.ScoreAfter(sent[user]) + Precision);
        }

        // As callers do who don't know what became of their last request.
        for (var user = 0; user < users; user++)
        {
            for (var i = 0; i < sent[user]; i++) await again.FeedbackAsync(Feedback($"u{user}", $"u{user} f{i}"));
            Assert.Equal(EchoApp.ScoreAfter(sent[user]), await again.ScoreAsync($"u{user}"), Precision);
        }

        async Task SendUntilItFailsAsync(EchoApp app, int user)
        {
            try
            {
                while (true)
                {
                    var id = $"u{user} f{sent[user]++}";
                    await app.FeedbackAsync(Feedback($"u{user}", id));
                    Interlocked.Increment(ref accepted[user]);
                }
            }
            catch (HttpRequestException)
            {
                // The server is gone.
            }
        }
    }

    [Fact]
    public async Task NewVersionOfTheFeatureModel_LeavesLearntHeadsOnTheirs()
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        await app.FeedbackAsync(Feedback("old", "f1"));
        var (before, _, _) = await app.PredictAsync("old");
        var (ofNobody, _, _) = await app.PredictAsync("later");

        await server.PushAsync("echo_body", Doubling());
        await Eventually.HoldsAsync("new users are on version 2", async () => (await app.PredictAsync("new")).FeaturesVersion == 2);

        var (id, score, version) = await app.PredictAsync("old");
        Assert.Equal(1, version);
        Assert.Equal(EchoApp.ScoreAfter(1), score, Precision);
        foreach (var decision in new[] { before, id }) await app.FeedbackAsync($$"""{"id":"{{decision}}","label":0}""");
        await app.FeedbackAsync(Feedback("old", "f2"));
        Assert.Equal(EchoApp.ScoreAfter(4), await app.ScoreAsync("old"), Precision);

        // φ = [2,0,0,1]: |φ|² = 5.
        await app.FeedbackAsync(Feedback("new", "f3"));
        Assert.Equal(5 / 6.0, await app.ScoreAsync("new"), Precision);

        // A head begins with the features that its first feedback was decided on.
        await app.FeedbackAsync($$"""{"id":"{{ofNobody}}","label":0}""");
        (_, score, version) = await app.PredictAsync("later");
        Assert.Equal(1, version);
        Assert.Equal(EchoApp.ScoreAfter(1), score, Precision);
    }

    [Fact]
    public async Task DamagedMessageInTheQueue_HoldsUpNobody()
    {
        using var folder = new ScratchFolder();
        await using (var server = await StartAsync(folder.Path))
        {
            await new EchoApp(server.Client).ScoreAsync("u1");
        }
        await using (var queue = new SqliteConnection($"Data Source={folder["queue.db"]};Pooling=False"))
        {
            queue.Open();
            await using var insert = queue.CreateCommand();
            insert.CommandText = "INSERT INTO messages (body) VALUES ('{'), (x'00'), ('{\"tenant\":\"default\"}')";
            insert.ExecuteNonQuery();
        }

        await using var restarted = await SkiffServer.StartAsync(folder.Path);
        var app = new EchoApp(restarted.Client);
        await app.FeedbackAsync(Feedback("u1", "f1"));
        await Eventually.HoldsAsync("the feedback behind it is learnt", async () => Math.Abs(await app.ScoreAsync("u1") - EchoApp.ScoreAfter(1)) < Precision, seconds: 10);
    }

    [Theory]
    [InlineData("1e20")]
    [InlineData("1e30")]
    public async Task FeedbackTooLargeToCalculateWith_LeavesTheHeadAsItWas(string value)
    {
        await using var server = await StartAsync();
        var app = new EchoApp(server.Client);
        await app.FeedbackAsync(Feedback("u1", "f1"));

        await app.FeedbackAsync($$"""{"user":"u1","input":[{{value}},0,{{value}}],"label":"yes","feedback_id":"f2"}""");

        Assert.Equal(EchoApp.ScoreAfter(1), await app.ScoreAsync("u1"), Precision);
        await app.FeedbackAsync(Feedback("u1", "f3"));
        Assert.Equal(EchoApp.ScoreAfter(2), await app.ScoreAsync("u1"), Precision);
    }

    private static async Task<SkiffServer> StartAsync(string? data = null)
    {
        var server = await SkiffServer.StartAsync(data);
        await EchoApp.PublishAsync(server.Server.Engine.Store);
        return server;
    }

    private static Task PublishAsync(ScratchFolder folder) => EchoApp.PublishAsync(new(new FileObjectStore(folder["models"]), TimeProvider.System));

    private static string Feedback(string user, string id, string label = "yes") => $$"""{"user":"{{user}}","input":{{EchoApp.Input}},"label":"{{label}}","feedback_id":"{{id}}"}""";

    private static byte[] Doubling() => new OnnxBuilder()
        .Input("x", DataType.Fp32, -1, 3)
        .Output("y", DataType.Fp32, -1, 3)
        .Node("Add", ["x", "x"], ["y"])
        .Build();
}
