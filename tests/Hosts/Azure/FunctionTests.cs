using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Skiff.Aws;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Azure;

/// <summary>Predict as a process under a Functions host, with models in a folder and state and queue in services that speak the real protocols.</summary>
public sealed class FunctionTests(MotoServer moto) : IClassFixture<MotoServer>
{
    private const string Secret = "the same for every instance";
    private static readonly string Deployed = Path.Combine(Repository.Root, "infrastructure", "deploy", "azure");
    private static readonly (string Key, string Entry) Key = ApiKeys.Create(ApiKeys.DefaultTenant, Scopes.Predict | Scopes.Feedback);

    [Fact]
    public async Task FeedbackThroughTheQueue_ShowsInTheUsersNextPrediction()
    {
        Assert.SkipWhen(moto.Sqs is null, MotoServer.Missing);
        Assert.SkipWhen(Dynoxide.Missing is not null, Dynoxide.Missing ?? "");
        await using var models = await SkiffServer.StartAsync(samples: true);
        using var dynoxide = await Dynoxide.StartAsync();
        var table = await dynoxide.MakeTableAsync();
        var queue = await moto.MakeQueueAsync($"skiff-{Guid.NewGuid():n}");
        await using var host = await AzureFunctionsHost.StartAsync("Predict",
            ("AWS_ENDPOINT_URL_SQS", moto.Sqs!.AbsoluteUri), ("AWS_ENDPOINT_URL_DYNAMODB", dynoxide.Address.AbsoluteUri),
            ("SKIFF_MODEL_STORE", $"file://{models.Data}/models"), ("SKIFF_STATE", $"dynamodb://{table}"), ("SKIFF_QUEUE", queue), ("SKIFF_API_KEYS", Key.Entry), ("SKIFF_SECRET", Secret));
        host.Client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", Key.Key);

        var before = (await HttpAnswer.PostAsync(host.Client, "/apps/films/predict", """{"user":"ann","input":[42]}""")).AssertOk().Json;
        Assert.Equal(202, (await HttpAnswer.PostAsync(host.Client, "/apps/films/feedback", $$"""{"id":"{{before.GetProperty("id").GetString()}}","value":10}""")).Status);
        using var received = new SqsFeedbackQueue(queue, new SqsOptions { Endpoint = moto.Sqs });
        var message = Assert.Single(await received.ReceiveAsync(10, TestContext.Current.CancellationToken)).Message;
        var invocation = InvocationOf(Encoding.UTF8.GetString(message.Serialize()));

        // A client that knows the host's headers is forwarded, which shows.
        var forged = await AzureFunctionsHost.InvokeAsync(host.Client, "feedback", invocation);
        Assert.True(forged.Status == 403, forged.Text);
        // Delivered twice, it counts once.
        for (var delivery = 0; delivery < 2; delivery++)
        {
            var (status, text) = await AzureFunctionsHost.InvokeAsync(host.Direct, "feedback", invocation);
            Assert.True(status == 200, text + host.Output);
        }

        // A prediction may read a moment behind: a strongly consistent read costs twice as much.
        await Eventually.HoldsAsync("the prediction has moved towards the feedback", async () =>
        {
            var after = (await HttpAnswer.PostAsync(host.Client, "/apps/films/predict", """{"user":"ann","input":[42]}""")).AssertOk().Json;
            return Math.Abs(after.GetProperty("output").GetDouble() - 7.5799) < 0.01;
        });
    }

    [Fact]
    public async Task WithoutAState_FeedbackComesAgain_AndSoDoesWhatIsNone()
    {
        await using var models = await SkiffServer.StartAsync(samples: true);
        await using var host = await AzureFunctionsHost.StartAsync("Predict", [.. Settings.Append(("SKIFF_MODEL_STORE", $"file://{models.Data}/models")), ("AWS_MAX_ATTEMPTS", "1")]);

        var none = await AzureFunctionsHost.InvokeAsync(host.Direct, "feedback", InvocationOf("""{"tenant":"default"}"""));
        var waits = await AzureFunctionsHost.InvokeAsync(host.Direct, "feedback", InvocationOf("""{"tenant":"default","app":"films","user":"ann","feedback_id":"f1","value":3,"at":"2026-01-01T00:00:00Z"}"""));

        // It would be put into quarantine.
        Assert.Equal(500, none.Status);
        Assert.True(waits.Status == 500, waits.Text);
        Assert.DoesNotContain("ann", waits.Text);
        await Eventually.HoldsAsync("the log says why", () => Task.FromResult(host.Output.Contains("comes again", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("FUNCTIONS_CUSTOMHANDLER_PORT", "http", "FUNCTIONS_CUSTOMHANDLER_PORT is 'http': it takes a port, a whole number from 1 to 65535")]
    [InlineData("FUNCTIONS_CUSTOMHANDLER_PORT", "0", "FUNCTIONS_CUSTOMHANDLER_PORT is '0'")]
    [InlineData("FUNCTIONS_CUSTOMHANDLER_PORT", "65536", "FUNCTIONS_CUSTOMHANDLER_PORT is '65536'")]
    [InlineData("SKIFF_API_KEYS", "", "SKIFF_API_KEYS is missing")]
    public async Task WrongSetting_EndsWithWhatItTakes(string name, string value, string message)
    {
        await using var predict = new FunctionProcess("Predict",
            [("FUNCTIONS_CUSTOMHANDLER_PORT", $"{LoopbackPort.Free()}"), .. Settings, ("SKIFF_MODEL_STORE", "s3://bucket"), (name, value)]);

        Assert.NotEqual(0, await predict.WaitAsync());

        Assert.Contains(message, predict.Output);
    }

    [Fact]
    public void DeployedFiles_NameWhatTheProgramHas()
    {
        var host = Read("host.json");
        var predict = Assert.Single(Read("predict/function.json").GetProperty("bindings").EnumerateArray(), binding => binding.GetProperty("type").GetString() == "httpTrigger");
        var feedback = Assert.Single(Read("feedback/function.json").GetProperty("bindings").EnumerateArray());

        Assert.Equal("bootstrap", host.GetProperty("customHandler").GetProperty("description").GetProperty("defaultExecutablePath").GetString());
        // What tells clients from invocations rests on it.
        Assert.True(host.GetProperty("customHandler").GetProperty("enableProxyingHttpRequest").GetBoolean());
        Assert.Equal("", host.GetProperty("extensions").GetProperty("http").GetProperty("routePrefix").GetString());
        Assert.Equal(("{*path}", "anonymous"), (predict.GetProperty("route").GetString(), predict.GetProperty("authLevel").GetString()));
        Assert.Equal("queueTrigger", feedback.GetProperty("type").GetString());
        Assert.Contains("MapQueue(\"feedback\"", File.ReadAllText(Path.Combine(Repository.Root, "functions", "Predict", "Program.cs")));
        Assert.Equal(["feedback", "predict"], Directory.GetDirectories(Deployed).Select(Path.GetFileName).Order());

        static JsonElement Read(string file) => JsonDocument.Parse(File.ReadAllText(Path.Combine(Deployed, file))).RootElement;
    }

    /// <summary>Services that nobody runs.</summary>
    private static (string, string)[] Settings =>
    [
        ("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("SKIFF_STATE", "dynamodb://table"), ("SKIFF_QUEUE", "sqs://123456789012/q.fifo"), ("SKIFF_API_KEYS", Key.Entry), ("SKIFF_SECRET", Secret),
    ];

    /// <summary>As the host writes it: the item is a JSON string within a string.</summary>
    private static string InvocationOf(string item) => $$$"""
        {"Data":{"item":{{{JsonSerializer.Serialize(JsonSerializer.Serialize(item))}}}},
         "Metadata":{"DequeueCount":"1","ExpirationTime":"2026-12-01T00:00:00+00:00","Id":"\"5d9b0f0a-6f3c-4c5d-9b1e-6a1f1f3f7c11\"","InsertionTime":"2026-11-24T00:00:00+00:00",
          "NextVisibleTime":"2026-11-24T00:10:00+00:00","PopReceipt":"\"AgAAAAMAAAAAAAAA\"","sys":{"MethodName":"feedback","UtcNow":"2026-11-24T00:00:00Z","RandGuid":"b2a3c2c4-0000-4000-8000-000000000000"} } }
        """;
}
