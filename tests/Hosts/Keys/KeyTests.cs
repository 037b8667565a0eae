using Skiff.Models;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Keys;

/// <summary>Who may call what, and that tenants don't see each other. Both have a model <c>shared</c> and an app <c>letters</c> of their own; the rest is acme's alone.</summary>
public sealed class KeyTests(KeyTests.Fixture fixture) : IClassFixture<KeyTests.Fixture>
{
    private const string Four = """{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[9,0,0]}]}""";
    private const string Input = """{"user":"u","input":[9,0,0]}""";
    private const string Label = """{"user":"u","input":[9,0,0],"label":1}""";

    /// <summary>Every route that wants a key: method, path, body and scope.</summary>
    public static TheoryData<string, string, string, string> Routes => new()
    {
        { "GET", "/v2/models/shared", "", "predict" },
        { "GET", "/v2/models/shared/versions/1", "", "predict" },
        { "GET", "/v2/models/shared/ready", "", "predict" },
        { "GET", "/v2/models/shared/config", "", "predict" },
        { "GET", "/v2/models/shared/stats", "", "predict" },
        { "GET", "/v2/models/stats", "", "predict" },
        { "POST", "/v2/models/shared/infer", Four, "predict" },
        { "POST", "/v2/models/shared/versions/1/infer", Four, "predict" },
        { "POST", "/v2/repository/index", "", "predict" },
        { "POST", "/v2/repository/models/shared/load", "", "admin" },
        { "POST", "/v2/repository/models/put-away/unload", "", "admin" },
        { "GET", "/apps", "", "predict" },
        { "GET", "/apps/letters", "", "predict" },
        { "POST", "/apps/letters/predict", Input, "predict" },
        { "POST", "/apps/letters/feedback", Label, "feedback" },
        { "GET", "/metrics", "", "predict" },
    };

    private HttpClient Client => fixture.Server.Client;

    [Theory, MemberData(nameof(Routes))]
    public async Task WithoutKey_IsUnauthorized(string method, string path, string body, string scope)
    {
        var answer = await SendAsync(method, path, body);

        answer.AssertRefused(401, "Authorization: Bearer KEY", "Ocp-Apim-Subscription-Key");
        Assert.Equal("Bearer", answer.Header("WWW-Authenticate"));
        Assert.NotEmpty(scope);
    }

    [Theory, MemberData(nameof(Routes))]
    public async Task WithTheScope_IsAnswered(string method, string path, string body, string scope)
    {
        var answer = await SendAsync(method, path, body, Bearer(fixture.Keys[scope]));

        answer.AssertOk();
    }

    [Theory, MemberData(nameof(Routes))]
    public async Task WithEveryOtherScope_IsForbidden(string method, string path, string body, string scope)
    {
        var answer = await SendAsync(method, path, body, Bearer(fixture.Keys[$"all but {scope}"]));

        answer.AssertRefused(403, $"'{scope}'");
    }

    [Theory]
    [InlineData("Authorization", "Bearer skiff_unknown")]
    [InlineData("Authorization", "Bearer ")]
    [InlineData("Authorization", "Bearer")]
    [InlineData("Authorization", "Basic KEY")]
    [InlineData("Authorization", "KEY")]
    [InlineData("Authorization", "Bearer KEY.")]
    [InlineData("Ocp-Apim-Subscription-Key", "Bearer KEY")]
    [InlineData("Ocp-Apim-Subscription-Key", "")]
    [InlineData("X-Api-Key", "KEY")]
    public async Task AnythingButAKey_IsUnauthorized(string header, string value)
    {
        var answer = await SendAsync("GET", "/apps", "", (header, value.Replace("KEY", fixture.Keys["predict"], StringComparison.Ordinal)));

        answer.AssertRefused(401, "key");
        Assert.Equal("Bearer", answer.Header("WWW-Authenticate"));
    }

    [Fact]
    public async Task HashOfAKey_IsNoKey()
    {
        var hash = fixture.Entries["predict"].Split(':')[^1];

        (await SendAsync("GET", "/apps", "", Bearer(hash))).AssertRefused(401, "unknown key");
    }

    [Theory]
    [InlineData("Authorization", "Bearer KEY")]
    [InlineData("Authorization", "bearer KEY")]
    [InlineData("Ocp-Apim-Subscription-Key", "KEY")]
    public async Task BothHeaders_AreTaken(string header, string value)
    {
        var answer = await SendAsync("GET", "/apps", "", (header, value.Replace("KEY", fixture.Keys["predict"], StringComparison.Ordinal)));

        answer.AssertOk();
    }

    [Theory]
    [InlineData("/v2")]
    [InlineData("/v2/health/live")]
    [InlineData("/v2/health/ready")]
    [InlineData("/healthz")]
    public async Task Health_NeedsNoKey(string path)
    {
        Assert.Equal(200, (await SendAsync("GET", path, "")).Status);
    }

    [Fact]
    public async Task UnknownNames_AreNotToldToCallersWithoutKey()
    {
        (await SendAsync("GET", "/v2/models/nobody", "")).AssertRefused(401);
        (await SendAsync("POST", "/apps/nobody/predict", Input)).AssertRefused(401);
    }

    [Theory]
    [InlineData("GET", "/v2/models/secret", "")]
    [InlineData("GET", "/v2/models/secret/ready", "")]
    [InlineData("GET", "/v2/models/secret/config", "")]
    [InlineData("GET", "/v2/models/secret/stats", "")]
    [InlineData("POST", "/v2/models/secret/infer", Four)]
    [InlineData("POST", "/v2/models/secret/versions/1/infer", Four)]
    [InlineData("POST", "/v2/repository/models/secret/load", "")]
    [InlineData("GET", "/apps/secret", "")]
    [InlineData("POST", "/apps/secret/predict", Input)]
    [InlineData("POST", "/apps/secret/feedback", Label)]
    public async Task WhatIsAnotherTenants_IsUnknown(string method, string path, string body)
    {
        (await SendAsync(method, path, body, Acme)).AssertOk();

        var theirs = await SendAsync(method, path, body, Globex);
        var nobodys = await SendAsync(method, path.Replace("secret", "nobody", StringComparison.Ordinal), body, Globex);

        theirs.AssertRefused(404, "'secret'");
        Assert.Equal(nobodys.Text.Replace("nobody", "secret", StringComparison.Ordinal), theirs.Text);
    }

    [Fact]
    public async Task UnloadOfAnotherTenantsModel_IsUnknownAndChangesNothing()
    {
        (await SendAsync("POST", "/v2/repository/models/secret/unload", "", Globex)).AssertRefused(404, "'secret'");

        (await SendAsync("POST", "/v2/models/secret/infer", Four, Acme)).AssertOk();
    }

    [Fact]
    public async Task UnderTheSameName_EachTenantHasItsOwnModel()
    {
        Assert.Equal(9, await FirstAsync(Acme));
        Assert.Equal(-9, await FirstAsync(Globex));

        async Task<float> FirstAsync((string, string) key) =>
            (await SendAsync("POST", "/v2/models/shared/infer", Four, key)).Output().GetProperty("data")[0].GetSingle();
    }

    [Fact]
    public async Task UnloadedByOneTenant_StaysForTheOther()
    {
        (await SendAsync("POST", "/v2/repository/models/both/unload", "", Globex)).AssertOk();

        (await SendAsync("POST", "/v2/models/both/infer", Four, Globex)).AssertRefused(503);
        (await SendAsync("POST", "/v2/models/both/infer", Four, Acme)).AssertOk();
    }

    [Theory]
    [InlineData("POST", "/v2/repository/index")]
    [InlineData("GET", "/v2/models/stats")]
    [InlineData("GET", "/apps")]
    [InlineData("GET", "/metrics")]
    public async Task Lists_HoldOnlyTheTenantsOwn(string method, string path)
    {
        (await SendAsync("POST", "/v2/models/secret/infer", Four, Acme)).AssertOk();
        (await SendAsync("POST", "/v2/models/shared/infer", Four, Globex)).AssertOk();

        Assert.Contains("\"secret\"", (await SendAsync(method, path, "", Acme)).Text, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", (await SendAsync(method, path, "", Globex)).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StatsOfASharedName_CountOnlyTheTenantsOwnRequests()
    {
        for (var i = 0; i < 3; i++) (await SendAsync("POST", "/v2/models/counted/infer", Four, Acme)).AssertOk();
        (await SendAsync("POST", "/v2/models/counted/infer", Four, Globex)).AssertOk();

        var stats = (await SendAsync("GET", "/v2/models/counted/stats", "", Globex)).AssertOk().Json.GetProperty("model_stats");

        Assert.Equal(1, Assert.Single(stats.EnumerateArray()).GetProperty("inference_count").GetInt32());
    }

    [Fact]
    public async Task FeedbackCounters_CountOnlyTheTenantsOwn()
    {
        var before = await AcceptedAsync(Globex);

        (await SendAsync("POST", "/apps/letters/feedback", Label, Acme)).AssertOk();

        Assert.Equal(before, await AcceptedAsync(Globex));
    }

    [Fact]
    public async Task DecisionOfAnotherTenant_IsAsUnknownAsAForgedOne()
    {
        var id = (await SendAsync("POST", "/apps/letters/predict", Input, Acme)).AssertOk().Json.GetProperty("id").GetString();

        var foreign = await SendAsync("POST", "/apps/letters/feedback", $$"""{"id":"{{id}}","label":1}""", Globex);
        var forged = await SendAsync("POST", "/apps/letters/feedback", """{"id":"forged","label":1}""", Globex);

        foreign.AssertRefused(404, "no such decision");
        Assert.Equal(forged.Text, foreign.Text);
    }

    [Fact]
    public async Task WhatOneTenantsUserTaught_DoesNotReachTheOthersUserOfThatName()
    {
        var before = await ScoresAsync(Globex);
        for (var i = 0; i < 5; i++) (await SendAsync("POST", "/apps/personal/feedback", Label, Acme)).AssertOk();

        await Eventually.HoldsAsync("acme's user has learnt", async () => await ScoresAsync(Acme) != before);

        Assert.Equal(before, await ScoresAsync(Globex));

        async Task<string> ScoresAsync((string, string) key) =>
            (await SendAsync("POST", "/apps/personal/predict", """{"user":"u","input":[9,0,0],"explain":true}""", key)).AssertOk().Json.GetProperty("explanation").GetProperty("scores").GetRawText();
    }

    private (string, string) Acme => Bearer(fixture.Keys["acme"]);

    private (string, string) Globex => Bearer(fixture.Keys["globex"]);

    private static (string, string) Bearer(string key) => ("Authorization", $"Bearer {key}");

    private Task<HttpAnswer> SendAsync(string method, string path, string body, params (string Name, string Value)[] headers) =>
        HttpAnswer.SendAsync(Client, new HttpMethod(method), path, body.Length == 0 ? null : new StringContent(body), headers);

    private async Task<string> AcceptedAsync((string, string) key) =>
        (await SendAsync("GET", "/metrics", "", key)).AssertOk().Text.Split('\n').Single(line => line.StartsWith("skiff_feedback_accepted_total", StringComparison.Ordinal));

    /// <summary>Keys by what they are for; the scoped ones are acme's.</summary>
    public sealed class Fixture : ServerFixture
    {
        public Fixture()
            : this(new Dictionary<string, (string Key, string Entry)>
            {
                ["acme"] = ApiKeys.Create("acme", Scopes.All),
                ["globex"] = ApiKeys.Create("globex", Scopes.All),
                ["predict"] = ApiKeys.Create("acme", Scopes.Predict),
                ["feedback"] = ApiKeys.Create("acme", Scopes.Feedback),
                ["admin"] = ApiKeys.Create("acme", Scopes.Admin),
                ["all but predict"] = ApiKeys.Create("acme", Scopes.All & ~Scopes.Predict),
                ["all but feedback"] = ApiKeys.Create("acme", Scopes.All & ~Scopes.Feedback),
                ["all but admin"] = ApiKeys.Create("acme", Scopes.All & ~Scopes.Admin),
            })
        {
        }

        private Fixture(Dictionary<string, (string Key, string Entry)> keys)
            : base(("SKIFF_API_KEYS", string.Join(", ", keys.Values.Select(key => key.Entry))))
        {
            Keys = keys.ToDictionary(key => key.Key, key => key.Value.Key);
            Entries = keys.ToDictionary(key => key.Key, key => key.Value.Entry);
        }

        public IReadOnlyDictionary<string, string> Keys { get; }

        public IReadOnlyDictionary<string, string> Entries { get; }

        protected override async Task PublishAsync()
        {
            foreach (var (tenant, operation) in new[] { ("acme", "Identity"), ("globex", "Neg") })
            {
                var model = new OnnxBuilder().Input("x", DataType.Fp32, -1, 3).Output("y", DataType.Fp32, -1, 3).Node(operation, ["x"], ["y"]).Build();
                foreach (var name in new[] { "shared", "both", "counted", "put-away" }) await Server.PushAsync(name, model, tenant: tenant);
                if (tenant == "acme") await Server.PushAsync("secret", model, tenant: tenant);
                foreach (var app in tenant == "acme" ? new[] { "letters", "secret" } : ["letters"])
                {
                    await Server.PushAppAsync($$$"""{"name":"{{{app}}}","input":{"name":"x","type":"FP32","shape":[3]},"labels":["a","b","c"],"cascade":[{"model":"shared"}]}""", tenant);
                }
                await Server.PushAppAsync("""{"name":"personal","input":{"name":"x","type":"FP32","shape":[3]},"labels":["a","b","c"],"head":{"features":"shared","kind":"classes"}}""", tenant);
            }
        }
    }
}
