using System.Diagnostics;
using System.Text.Json;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Ranking;

/// <summary>Microsoft's own client for Azure Personalizer, from npm, run under node against a server of ours.</summary>
public sealed class PersonalizerClientTests
{
    [Fact]
    public async Task PublicClient_WorksWithOnlyItsEndpointAndKeyChanged()
    {
        var (key, entry) = ApiKeys.Create("acme", Scopes.Predict | Scopes.Feedback);
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_API_KEYS", entry));
        await server.PushAppAsync("""{"name":"personalizer","rank":{}}""", "acme");

        var answers = await RunAsync(server.Server.Addresses[0], key);

        var ranked = answers[0];
        Assert.Equal((201, "an event/1"), (ranked.GetProperty("status").GetInt32(), ranked.GetProperty("eventId").GetString()));
        var ranking = ranked.GetProperty("ranking").EnumerateArray().Select(action => (action.GetProperty("id").GetString(), action.GetProperty("probability").GetDouble())).ToArray();
        Assert.Equal(("juice", 0), ranking[2]);
        Assert.Equal(["ice cream", "pasta"], ranking[..2].Select(action => action.Item1).Order());
        Assert.Equal(1, ranking.Sum(action => action.Item2), 9);
        Assert.Equal(ranking[0].Item1, ranked.GetProperty("rewardActionId").GetString());
        Assert.Equal((204, 204), (answers[1].GetInt32(), answers[2].GetInt32()));
        Assert.Equal(3, answers[3].GetProperty("ranking").GetArrayLength());
        Assert.NotEqual("", answers[3].GetProperty("eventId").GetString());
        // Its own error type took the body, which it only does for one of the shape that it knows.
        Assert.Equal((400, "BadRequest"), (answers[4].GetProperty("status").GetInt32(), answers[4].GetProperty("body").GetProperty("error").GetProperty("code").GetString()));
        Assert.Contains("1 to 50", answers[4].GetProperty("body").GetProperty("error").GetProperty("message").GetString());

        await Eventually.HoldsAsync("its reward is learnt", async () => (await LearntAsync()).GetProperty("learnt").GetInt32() == 1);
        Assert.Equal(1, (await LearntAsync()).GetProperty("mean_reward").GetDouble());

        async Task<JsonElement> LearntAsync() => (await server.GetAsync("/apps/personalizer", key)).Body.GetProperty("rank");
    }

    private static async Task<JsonElement[]> RunAsync(string endpoint, string key)
    {
        var start = new ProcessStartInfo("node") { WorkingDirectory = Repository.Root, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in new[] { Path.Combine(Repository.Root, "tests", "Hosts", "Ranking", "client.js"), endpoint, key }) start.ArgumentList.Add(argument);
        // A proxy of the environment is not for this machine's own addresses.
        start.Environment["NO_PROXY"] = "127.0.0.1";
        using var node = Process.Start(start)!;
        var cancellation = TestContext.Current.CancellationToken;
        var (output, errors) = (node.StandardOutput.ReadToEndAsync(cancellation), node.StandardError.ReadToEndAsync(cancellation));
        try
        {
            await node.WaitForExitAsync(cancellation).WaitAsync(TimeSpan.FromMinutes(2), cancellation);
        }
        finally
        {
            if (!node.HasExited) node.Kill(entireProcessTree: true);
        }
        Assert.True(node.ExitCode == 0, await errors);
        return [.. (await output).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
    }
}
