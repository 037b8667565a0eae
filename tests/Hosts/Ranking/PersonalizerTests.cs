using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Ranking;

/// <summary>The REST of Azure Personalizer by raw HTTP.</summary>
public sealed class PersonalizerTests(PersonalizerTests.Fixture fixture) : IClassFixture<PersonalizerTests.Fixture>
{
    private const string Slots = """
        {"contextFeatures":[{"user":{"profile":"student"}}],
         "actions":[{"id":"a","features":[{"kind":"x"}]},{"id":"b","features":[{"kind":"y"}]},{"id":"c","features":[]}],
         "slots":[{"id":"top","features":[{"size":"large"}],"excludedActions":["c"],"baselineAction":"a"},{"id":"side","baselineAction":"b"}]
        """;

    private HttpClient Client => fixture.Server.Client;

    [Theory]
    [InlineData("v1.1-preview.1")]
    [InlineData("v1.1-preview.2")]
    [InlineData("v1.1-preview.3")]
    public async Task Slots_GetDifferentActionsAndAreRewardedEachForItself(string version)
    {
        var answer = await PostAsync($"/personalizer/{version}/multislot/rank", Slots + $",\"eventId\":\"slots {version}\",\"deferActivation\":true}}");
        Assert.Equal(201, answer.Status);
        Assert.Equal($"slots {version}", answer.Json.GetProperty("eventId").GetString());
        var slots = answer.Json.GetProperty("slots").EnumerateArray().Select(slot => (slot.GetProperty("id").GetString(), slot.GetProperty("rewardActionId").GetString())).ToArray();
        Assert.Equal(["top", "side"], slots.Select(slot => slot.Item1));
        Assert.NotEqual("c", slots[0].Item2);
        Assert.NotEqual(slots[0].Item2, slots[1].Item2);

        var before = await CountAsync("learnt");
        var path = $"/personalizer/{version}/multislot/events/slots%20{version}";
        Assert.Equal((204, ""), await StatusAsync($"{path}/reward", """{"reward":[{"slotId":"top","value":1},{"slotId":"side","value":-0.5}]}"""));
        Assert.Equal((204, ""), await StatusAsync($"{path}/activate", ""));
        await Eventually.HoldsAsync("both are learnt", async () => await CountAsync("learnt") >= before + 2);
    }

    [Theory]
    [InlineData("v1.1-preview.3/multislot/rank", """{"actions":[{"id":"a","features":[]}]}""", "'slots'")]
    [InlineData("v1.1-preview.3/multislot/rank", """{"actions":[{"id":"a","features":[]}],"slots":[{"id":"s"}]}""", "'baselineAction'")]
    [InlineData("v1.1-preview.3/multislot/rank", """{"actions":[{"id":"a","features":[]}],"slots":[{"id":"s","baselineAction":"a"},{"id":"t","baselineAction":"a"}]}""", "2 slots for 1 actions")]
    [InlineData("v1.1-preview.3/multislot/events/e/reward", """{"reward":[]}""", "'reward'")]
    [InlineData("v1.0/rank", """{}""", "0 actions")]
    [InlineData("v1.0/rank", """{"actions":[{"id":"a","features":[]},{"id":"a","features":[]}]}""", "'a'")]
    [InlineData("v1.0/rank", """{"actions":[{"features":[]}]}""", "'id'")]
    [InlineData("v1.0/rank", """{"actions":[{"id":"a","features":[]}],"excludedActions":["a"]}""", "excluded")]
    [InlineData("v1.0/rank", """{"actions":[{"id":"a","features":[]}],"excludedActions":["b"]}""", "'b'")]
    [InlineData("v1.0/rank", """{"actions":[{"id":"a","features":["loose"]}]}""", "'features' of 'a'")]
    [InlineData("v1.0/rank", """{"actions":[{"id":"a","features":[]}]""", "malformed JSON")]
    [InlineData("v1.0/events/e/reward", """{"value":1.5}""", "-1 to 1")]
    [InlineData("v1.0/events/e/reward", """{}""", "'value'")]
    public async Task Mistakes_AreToldAsThatServiceToldThem(string path, string body, string fragment)
    {
        var answer = await PostAsync($"/personalizer/{path}", body);
        AssertError(answer, 400, "BadRequest", fragment);
    }

    [Fact]
    public async Task MoreThanFiftyActions_AreRefused()
    {
        var actions = string.Join(',', Enumerable.Range(0, 51).Select(i => $$"""{"id":"{{i}}","features":[]}"""));
        AssertError(await PostAsync("/personalizer/v1.0/rank", $$"""{"actions":[{{actions}}]}"""), 400, "BadRequest", "50");
    }

    [Fact]
    public async Task UnknownVersionsAndPaths_AreNotFound()
    {
        AssertError(await PostAsync("/personalizer/v2.0/rank", "{}"), 404, "ResourceNotFound", "v1.0");
        AssertError(await PostAsync("/personalizer/v1.0/nothing", "{}"), 404, "ResourceNotFound", "nothing");
    }

    [Fact]
    public async Task ExcludedActions_StayWhereTheyWere()
    {
        var answer = (await PostAsync("/personalizer/v1.0/rank", """{"actions":[{"id":"a","features":[]},{"id":"b","features":[]},{"id":"c","features":[]}],"excludedActions":["b"]}""")).AssertOk();
        var ranking = answer.Json.GetProperty("ranking").EnumerateArray().Select(action => (action.GetProperty("id").GetString(), action.GetProperty("probability").GetDouble())).ToArray();
        Assert.Equal(("b", 0), ranking[1]);
        Assert.Equal(1, ranking.Sum(action => action.Item2), 9);
        Assert.Equal(ranking[0].Item1, answer.Json.GetProperty("rewardActionId").GetString());
    }

    [Fact]
    public async Task Configuration_IsReadAndWrittenAsTheDocumentsNextVersion()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAppAsync("""{"name":"personalizer","rank":{"bits":10,"interactions":[["user","action"]]}}""");
        const string path = "/personalizer/v1.0/configurations/service";

        var before = (await HttpAnswer.GetAsync(server.Client, path)).AssertOk().Json;
        Assert.Equal(("PT10M", 0.0, "earliest", 0.2), (before.GetProperty("rewardWaitTime").GetString(), before.GetProperty("defaultReward").GetDouble(), before.GetProperty("rewardAggregation").GetString(), before.GetProperty("explorationPercentage").GetDouble()));

        const string change = """{"rewardWaitTime":"00:01:30","defaultReward":-0.5,"rewardAggregation":"sum","explorationPercentage":0.05,"modelExportFrequency":"PT1M","logRetentionDays":7,"learningMode":"Apprentice"}""";
        var written = (await HttpAnswer.SendAsync(server.Client, HttpMethod.Put, path, Json(change))).AssertOk().Json;
        var after = (await HttpAnswer.GetAsync(server.Client, path)).AssertOk().Json;
        Assert.Equal(written.GetRawText(), after.GetRawText());
        Assert.Equal(
            """{"rewardWaitTime":"PT1M30S","defaultReward":-0.5,"rewardAggregation":"sum","explorationPercentage":0.05,"modelExportFrequency":"PT1M","logRetentionDays":7,"learningMode":"Apprentice"}""",
            after.GetRawText());
        var (_, app) = await server.GetAsync("/apps/personalizer");
        Assert.Equal((2, "apprentice"), (app.GetProperty("version").GetInt32(), app.GetProperty("rank").GetProperty("mode").GetString()));

        foreach (var wrong in new[] { """{"rewardWaitTime":"PT1S"}""", """{"rewardWaitTime":"soon"}""", """{"defaultReward":2}""", """{"rewardAggregation":"most"}""", """{"explorationPercentage":1.5}""", """{"learningMode":"LoggingOnly"}""" })
        {
            AssertError(await HttpAnswer.SendAsync(server.Client, HttpMethod.Put, path, Json(wrong)), 400, "BadRequest", "takes");
        }
    }

    [Fact]
    public async Task Keys_AreAskedForAsThatServiceDid()
    {
        var (key, entry) = ApiKeys.Create("acme", Scopes.Predict);
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_API_KEYS", entry));
        await server.PushAppAsync("""{"name":"personalizer","rank":{}}""", "acme");
        const string body = """{"actions":[{"id":"a","features":[]}]}""";

        AssertError(await HttpAnswer.PostAsync(server.Client, "/personalizer/v1.0/rank", body), 401, "Unauthorized", "key");
        Assert.Equal(201, (await HttpAnswer.PostAsync(server.Client, "/personalizer/v1.0/rank", body, ("Ocp-Apim-Subscription-Key", key))).Status);
        AssertError(await HttpAnswer.PostAsync(server.Client, "/personalizer/v1.0/events/e/reward", """{"value":1}""", ("Ocp-Apim-Subscription-Key", key)), 403, "Forbidden", "feedback");
    }

    private Task<HttpAnswer> PostAsync(string path, string body) => HttpAnswer.PostAsync(Client, path, body);

    private async Task<(int Status, string Text)> StatusAsync(string path, string body)
    {
        var answer = await PostAsync(path, body);
        return (answer.Status, answer.Text);
    }

    private async Task<int> CountAsync(string what) => (await fixture.Server.GetAsync("/apps/personalizer")).Body.GetProperty("rank").GetProperty(what).GetInt32();

    private static void AssertError(HttpAnswer answer, int status, string code, string fragment)
    {
        Assert.True(answer.Status == status, $"expected {status}, got {answer.Status}: {answer.Text}");
        var error = answer.Json.GetProperty("error");
        Assert.Equal(code, error.GetProperty("code").GetString());
        Assert.Contains(fragment, error.GetProperty("message").GetString(), StringComparison.OrdinalIgnoreCase);
    }

    private static StringContent Json(string json) => new(json, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));

    public sealed class Fixture : ServerFixture
    {
        protected override Task PublishAsync() => Server.PushAppAsync("""{"name":"personalizer","rank":{}}""");
    }
}
