using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>Heads that are kept where their users' predictions are made: how old they may be, and who sees what is new at once.</summary>
public sealed class HeadCacheTests
{
    [Fact]
    public async Task ServerThatLearns_AnswersFromWhatItKeeps_AndItsOwnUpdatesShowAtOnce()
    {
        await using var server = await SkiffServer.StartAsync();
        await EchoApp.PublishAsync(server.Server.Engine.Store, cache: """{"max_age_ms":60000}""");
        var app = new EchoApp(server.Client);

        Assert.Equal(("store", 0, 0), await AskAsync(server, "ann"));
        Assert.Equal(("kept", 0, 0), await AskAsync(server, "ann"));
        for (var i = 1; i <= 3; i++)
        {
            await app.FeedbackAsync($$"""{"user":"ann","input":{{EchoApp.Input}},"label":0}""");
            await app.ProcessedAsync(i);
            Assert.Equal(("store", i, Math.Round(EchoApp.ScoreAfter(i), 3)), await AskAsync(server, "ann"));
            Assert.Equal(("kept", i, Math.Round(EchoApp.ScoreAfter(i), 3)), await AskAsync(server, "ann"));
            Assert.Equal(("checked", i, Math.Round(EchoApp.ScoreAfter(i), 3)), await AskAsync(server, "ann", isFresh: true));
        }

        using (var erased = await server.Client.DeleteAsync("/apps/echo/users/ann", TestContext.Current.CancellationToken)) erased.EnsureSuccessStatusCode();
        Assert.Equal(("store", 0, 0), await AskAsync(server, "ann"));

        var metrics = await server.Client.GetStringAsync("/metrics", TestContext.Current.CancellationToken);
        foreach (var line in new[] { """from="kept"} 4""", """from="checked"} 5""", """from="store"} 6""" }) // feedback asks too: its features are of the head's version
        {
            Assert.Contains($"skiff_head_reads_total{{app=\"echo\",{line}\n", metrics, StringComparison.Ordinal);
        }
        Assert.True(await app.MetricAsync("skiff_head_cache_bytes") > 0);
    }

    [Theory]
    [InlineData("""{"max_age_ms":60000}""", false)]
    [InlineData("true", true)]
    public async Task WhatAnotherServerLearns_ShowsWithinTheAgeThatTheAppSays_OrAtOnceToWhoeverAsks(string cache, bool showsByItself)
    {
        await using var learns = await SkiffServer.StartAsync();
        await EchoApp.PublishAsync(learns.Server.Engine.Store, cache: cache);
        await using var predicts = await SkiffServer.StartAsync(environment: [("SKIFF_MODEL_STORE", $"file://{learns.Data}/models"), ("SKIFF_STATE", $"sqlite://{learns.Data}/state.db")]);
        Assert.Equal(("store", 0, 0), await AskAsync(predicts, "ann"));

        var app = new EchoApp(learns.Client);
        await app.FeedbackAsync($$"""{"user":"ann","input":{{EchoApp.Input}},"label":0}""");
        await app.ProcessedAsync(1);

        if (showsByItself) await Eventually.HoldsAsync("a second has passed", async () => (await AskAsync(predicts, "ann")).Updates == 1);
        else
        {
            Assert.Equal(("kept", 0, 0), await AskAsync(predicts, "ann"));
            Assert.Equal(("store", 1, Math.Round(EchoApp.ScoreAfter(1), 3)), await AskAsync(predicts, "ann", isFresh: true));
            Assert.Equal(("kept", 1, Math.Round(EchoApp.ScoreAfter(1), 3)), await AskAsync(predicts, "ann"));
        }
    }

    private static async Task<(string From, int Updates, double Score)> AskAsync(SkiffServer server, string user, bool isFresh = false)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/apps/echo/predict") { Content = new StringContent($$"""{"user":"{{user}}","input":{{EchoApp.Input}},"explain":true}""", Encoding.UTF8, "application/json") };
        if (isFresh) request.Headers.CacheControl = new CacheControlHeaderValue { NoCache = true };
        using var response = await server.Client.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        var explanation = JsonDocument.Parse(text).RootElement.GetProperty("explanation");
        var head = explanation.GetProperty("head");
        return (head.GetProperty("from").GetString()!, head.GetProperty("updates").GetInt32(), Math.Round(explanation.GetProperty("scores")[0].GetDouble(), 3));
    }
}
