using System.Globalization;
using System.Net;
using System.Text.Json;
using Skiff.Support;

namespace Skiff.Hosts.Ranking;

/// <summary>Apps that rank, over HTTP.</summary>
public sealed class RankTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Rank_AnswersTheProbabilitiesItDrewFrom()
    {
        await using var server = await StartAsync("""{"policy":{"kind":"epsilon_greedy","epsilon":0.3}}""");
        var answers = await Task.WhenAll(Enumerable.Range(0, 300).Select(_ => RankAsync(server, """{"candidates":[{"id":"a"},{"id":"b"},{"id":"c"}],"excluded":["c"]}""")));
        foreach (var answer in answers)
        {
            var id = answer.GetProperty("chosen").GetString()!;
            // Nothing is known, so nothing is preferred.
            Assert.Equal([(id, 0.5), (id == "a" ? "b" : "a", 0.5), ("c", 0)], answer.GetProperty("ranking").EnumerateArray().Select(action => (action.GetProperty("id").GetString()!, action.GetProperty("probability").GetDouble())));
        }
        Assert.InRange(answers.Count(answer => answer.GetProperty("chosen").GetString() == "a"), 110, 190); // 4.6 deviations
    }

    [Fact]
    public async Task EventId_DrawsTheSameActionAgain()
    {
        await using var server = await StartAsync("{}");
        foreach (var id in Enumerable.Range(0, 20))
        {
            var body = $$"""{"event_id":"e{{id}}","candidates":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}""";
            var first = await RankAsync(server, body);
            Assert.Equal($"e{id}", first.GetProperty("id").GetString());
            Assert.Equal(first.GetProperty("chosen").GetString(), (await RankAsync(server, body)).GetProperty("chosen").GetString());
        }
    }

    [Fact]
    public async Task RewardWithAFeedbackId_CountsOnce()
    {
        await using var server = await StartAsync("{}");
        var id = (await RankAsync(server, """{"candidates":[{"id":"a"}]}""")).GetProperty("id").GetString();
        for (var n = 0; n < 3; n++)
        {
            var (status, answer) = await server.PostAsync("/apps/news/feedback", $$"""{"id":"{{id}}","value":0.5,"feedback_id":"click"}""");
            Assert.Equal((HttpStatusCode.Accepted, "click"), (status, answer.GetProperty("feedback_id").GetString()));
        }
        await Eventually.HoldsAsync("two are known", async () => (await server.Client.GetStringAsync("/metrics", TestContext.Current.CancellationToken)).Contains("skiff_feedback_duplicate_total 2\n"));
        Assert.Equal((1, 0.5), ((await DescribeAsync(server)).GetProperty("learnt").GetInt32(), (await DescribeAsync(server)).GetProperty("mean_reward").GetDouble()));
    }

    [Fact]
    public async Task Silence_IsTheDefaultReward()
    {
        await using var server = await StartAsync("""{"reward_wait":"PT5S","default_reward":0.25}""");
        await RankAsync(server, """{"candidates":[{"id":"a"}]}""");
        Assert.Equal(0, (await DescribeAsync(server)).GetProperty("learnt").GetInt32());
        await LearntAsync(server, 1);
        Assert.Equal(0.25, (await DescribeAsync(server)).GetProperty("mean_reward").GetDouble());
    }

    [Fact]
    public async Task UsersEvents_AreExportedAndErased()
    {
        await using var server = await StartAsync("{}");
        var id = (await RankAsync(server, """{"user":"ann","candidates":[{"id":"a"}]}""")).GetProperty("id").GetString();
        await RankAsync(server, """{"user":"ann","event_id":"waits","candidates":[{"id":"a"},{"id":"b"}]}""");
        await server.PostAsync("/apps/news/feedback", $$"""{"id":"{{id}}","value":0.5}""");
        await LearntAsync(server, 1);
        await Eventually.HoldsAsync("all three are kept", async () => (await server.GetAsync("/apps/news/users/ann")).Body is { ValueKind: JsonValueKind.Object } body && body.TryGetProperty("feedback", out var kept) && kept.GetArrayLength() == 3);

        var export = (await server.GetAsync("/apps/news/users/ann")).Body;
        Assert.Equal("waits", Assert.Single(export.GetProperty("waiting").EnumerateArray()).GetProperty("id").GetString());
        var reward = export.GetProperty("feedback").EnumerateArray().Select(kept => kept.GetProperty("rank")).Single(rank => rank.GetProperty("kind").GetString() == "rewarded");
        Assert.Equal((id, 0.5), (reward.GetProperty("event").GetString(), reward.GetProperty("rewards")[0].GetProperty("value").GetDouble()));
        using var erase = new HttpRequestMessage(HttpMethod.Delete, "/apps/news/users/ann");
        Assert.Equal(HttpStatusCode.NoContent, (await server.SendAsync(erase)).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await server.GetAsync("/apps/news/users/ann")).Status);
    }

    [Fact]
    public async Task Mistakes_AreToldWithWhatIsAllowed()
    {
        await using var server = await StartAsync("{}");
        (string Path, string Body, string Fragment)[] mistakes =
        [
            ("rank", """{"candidates":[{"id":"a"}],"actions":[]}""", "unknown field 'actions'"),
            ("rank", """{"candidates":[{"id":"a","feature":{}}]}""", "unknown field 'feature'"),
            ("rank", """{"candidates":[]}""", "0 actions"),
            ("rank", """{"user":"..","candidates":[{"id":"a"}]}""", "'.' or '..'"),
            ("rank", """{"event_id":"","candidates":[{"id":"a"}]}""", "an event's id has 0 characters"),
            ("predict", """{"input":[1]}""", "POST /apps/news/rank"),
            ("feedback", """{"value":1}""", "'id'"),
            ("feedback", """{"id":"e"}""", "'activate'"),
            ("feedback", """{"id":"e","value":2}""", "-1 to 1"),
            ("feedback", """{"id":"e","values":[]}""", "one of them"),
            ("feedback", """{"id":"e","value":1,"values":[]}""", "one of them"),
            ("feedback", """{"id":"e","value":1,"value":0}""", "one of them"),
            ("feedback", """{"id":"e","value":1,"values":[{"slot":"s","value":1}]}""", "one of them"),
            ("feedback", """{"id":"e","value":1,"activate":false}""", "one of them"),
            ("feedback", """{"id":"e","activate":true,"values":[]}""", "one of them"),
        ];
        foreach (var (path, body, fragment) in mistakes) (await HttpAnswer.PostAsync(server.Client, $"/apps/news/{path}", body)).AssertRefused(400, fragment);
    }

    [Fact]
    public async Task OtherCountOfShards_IsRefusedByThePushCommand()
    {
        using var folder = new ScratchFolder();
        await PushAsync(4);
        var refused = await PushAsync(8);

        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("'rank.shards' is 8: it takes 4", Assert.Single(refused.ErrorLines));

        async Task<CommandResult> PushAsync(int shards)
        {
            await File.WriteAllTextAsync(folder["app.json"], $$"""{"name":"news","rank":{"shards":{{shards}} } }""", TestContext.Current.CancellationToken);
            return await SkiffProcess.RunAsync("app", "push", folder["app.json"], "--data", folder["data"]);
        }
    }

    [Fact]
    public async Task AppThatDoesNotRank_SaysSo()
    {
        await using var server = await SkiffServer.StartAsync(samples: true);
        (await HttpAnswer.PostAsync(server.Client, "/apps/films/rank", """{"candidates":[{"id":"a"}]}""")).AssertRefused(400, "doesn't rank");
    }

    [Fact]
    public async Task WhatWasLearnt_OutlivesTheServer()
    {
        using var folder = new ScratchFolder();
        await using (var server = await SkiffServer.StartAsync(folder["data"]))
        {
            await server.PushAppAsync("""{"name":"news","rank":{"policy":{"epsilon":0.1}}}""");
            await RewardAsync(server, "a", 1);
            await LearntAsync(server, 1);
            var waiting = await RankAsync(server, """{"event_id":"waits","candidates":[{"id":"b"}]}""");
            Assert.Equal("waits", waiting.GetProperty("id").GetString());
        }
        await using (var server = await SkiffServer.StartAsync(folder["data"]))
        {
            var ranking = (await RankAsync(server, """{"candidates":[{"id":"a"},{"id":"b"}]}""")).GetProperty("ranking").EnumerateArray()
                .ToDictionary(action => action.GetProperty("id").GetString()!, action => action.GetProperty("probability").GetDouble());
            Assert.Equal((0.95, 0.05), (Math.Round(ranking["a"], 9), Math.Round(ranking["b"], 9)));
            await server.PostAsync("/apps/news/feedback", """{"id":"waits","value":1}""");
            await LearntAsync(server, 2);
        }
    }

    /// <summary>
    /// Readers of four kinds at three times of day, six articles, of which one pays for each pair: what pays is only in the two together. Eight readers at a time. Chances are known exactly, so that luck with clicks doesn't count.
    /// </summary>
    [Fact]
    public async Task MeanReward_RisesWellAboveUniformChoice()
    {
        const int visits = 80, readers = 8, late = 25, articles = 6;
        await using var server = await StartAsync("""{"policy":{"kind":"lin_ucb","epsilon":0.02}}""");
        var random = new Random(1);
        var candidates = string.Join(',', Enumerable.Range(0, articles).Select(i => $$"""{"id":"{{i}}","features":{"article":{"topic":"t{{i}}"} } }"""));
        double earned = 0, uniform = 0;
        for (var n = 0; n < visits; n++)
        {
            var now = Enumerable.Range(0, readers).Select(_ => (Kind: random.Next(4), Time: random.Next(3), Luck: random.NextDouble())).ToArray();
            var chances = await Task.WhenAll(now.Select(reader => VisitAsync(reader.Kind, reader.Time, reader.Luck)));
            if (n < visits - late) continue;
            earned += chances.Average() / late;
            uniform += now.Average(reader => Enumerable.Range(0, articles).Average(article => Chance(reader.Kind, reader.Time, article))) / late;
        }
        output.WriteLine($"mean chance of a click over the last {late * readers} of {visits * readers} visits {earned:0.000}, uniform {uniform:0.000}, best 0.800");
        Assert.True(earned > 2 * uniform, $"{earned:0.000} is not twice {uniform:0.000}");

        async Task<double> VisitAsync(int kind, int time, double luck)
        {
            var answer = await RankAsync(server, $$"""{"context":{"reader":{"kind":"k{{kind}}"},"time":"{{time}}","both":"{{kind}} {{time}}"},"candidates":[{{candidates}}]}""");
            var chance = Chance(kind, time, int.Parse(answer.GetProperty("chosen").GetString()!, CultureInfo.InvariantCulture));
            await server.PostAsync("/apps/news/feedback", $$"""{"id":"{{answer.GetProperty("id").GetString()}}","value":{{(luck < chance ? 1 : 0)}}}""");
            return chance;
        }

        static double Chance(int kind, int time, int article) => article == (time == 0 ? kind : (kind + time + 1) % articles) ? 0.8 : 0.1;
    }

    private static async Task<SkiffServer> StartAsync(string rank)
    {
        var server = await SkiffServer.StartAsync();
        await server.PushAppAsync($$"""{"name":"news","rank":{{rank}}}""");
        return server;
    }

    private static async Task<JsonElement> RankAsync(SkiffServer server, string body)
    {
        var (status, answer) = await server.PostAsync("/apps/news/rank", body);
        Assert.True(status == HttpStatusCode.OK, $"{status} {answer}");
        return answer;
    }

    private static async Task RewardAsync(SkiffServer server, string action, double reward)
    {
        var id = (await RankAsync(server, $$"""{"candidates":[{"id":"{{action}}"}]}""")).GetProperty("id").GetString();
        var (status, _) = await server.PostAsync("/apps/news/feedback", string.Create(CultureInfo.InvariantCulture, $$"""{"id":"{{id}}","value":{{reward}}}"""));
        Assert.Equal(HttpStatusCode.Accepted, status);
    }

    private static async Task<JsonElement> DescribeAsync(SkiffServer server) => (await server.GetAsync("/apps/news")).Body.GetProperty("rank");

    private static Task LearntAsync(SkiffServer server, int count) => Eventually.HoldsAsync($"{count} learnt", async () => (await DescribeAsync(server)).GetProperty("learnt").GetInt32() >= count);
}
