using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Amazon.S3;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>Predict and Feedback as processes, between a Runtime API and services that speak the real protocols: the whole way of a click.</summary>
public sealed class FunctionTests(MotoServer moto) : IClassFixture<MotoServer>
{
    private const string Secret = "the same for every instance";
    private static readonly (string Key, string Entry) Key = ApiKeys.Create("acme", Scopes.All);

    [Theory]
    [InlineData(PublishedForm.Jit)]
    [InlineData(PublishedForm.NativeAot)]
    public async Task FeedbackThroughTheQueue_ShowsInTheUsersNextPrediction(PublishedForm form)
    {
        if (form == PublishedForm.NativeAot) Assert.SkipWhen(PublishedFunction.NativeAotMissing is not null, PublishedFunction.NativeAotMissing ?? "");
        Assert.SkipWhen(moto.S3 is null, MotoServer.Missing);
        Assert.SkipWhen(Dynoxide.Missing is not null, Dynoxide.Missing ?? "");
        using var dynoxide = await Dynoxide.StartAsync();
        var bucket = $"skiff-{Guid.NewGuid():n}";
        await PublishAsync(bucket);
        var table = await dynoxide.MakeTableAsync();
        var queue = await moto.MakeQueueAsync(bucket);
        (string, string)[] environment =
        [
            ("AWS_ENDPOINT_URL", moto.S3!.AbsoluteUri), ("AWS_ENDPOINT_URL_DYNAMODB", dynoxide.Address.AbsoluteUri),
            ("SKIFF_MODEL_STORE", $"s3://{bucket}"), ("SKIFF_STATE", $"dynamodb://{table}"), ("SKIFF_QUEUE", queue),
            ("SKIFF_API_KEYS", Key.Entry), ("SKIFF_SECRET", Secret),
        ];
        await using var predictApi = await LambdaRuntimeApi.StartAsync();
        await using var feedbackApi = await LambdaRuntimeApi.StartAsync();
        await using var predict = new FunctionProcess(PublishedFunction.Of("Predict", form), predictApi, environment);
        await using var feedback = new FunctionProcess(PublishedFunction.Of("Feedback", form), feedbackApi, [.. environment.Where(setting => setting.Item1 is not ("SKIFF_API_KEYS" or "SKIFF_SECRET"))]);
        using var client = LambdaFrontEnd.ClientOf(predictApi);
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", Key.Key);

        await PostAsync(client, "/v2/repository/models/mt_item_features/unload", "", HttpStatusCode.NotImplemented);
        var before = await PostAsync(client, "/apps/films/predict", """{"user":"ann","input":[42]}""", HttpStatusCode.OK);
        await PostAsync(client, "/apps/films/feedback", $$"""{"id":"{{before.GetProperty("id").GetString()}}","value":10}""", HttpStatusCode.Accepted);
        using var received = new SqsFeedbackQueue(queue, new SqsOptions { Endpoint = moto.Sqs });
        var messages = await received.ReceiveAsync(10, TestContext.Current.CancellationToken);
        var body = Encoding.UTF8.GetString(Assert.Single(messages).Message.Serialize());
        var report = await feedbackApi.InvokeAsync(LambdaEvents.Sqs(("m1", "ann", body), ("m2", "ann", body)));

        Assert.Equal("""{"batchItemFailures":[]}""", report.Text);
        await Eventually.HoldsAsync("the log says what the state cost", () => Task.FromResult(feedback.Output.Contains("2 of 2 messages learnt; the state cost", StringComparison.Ordinal)));
        // A prediction may read a moment behind: a strongly consistent read costs twice as much.
        await Eventually.HoldsAsync("the prediction has moved towards the feedback", async () =>
        {
            var after = await PostAsync(client, "/apps/films/predict", """{"user":"ann","input":[42]}""", HttpStatusCode.OK);
            return Math.Abs(after.GetProperty("output").GetDouble() - 7.5799) < 0.01;
        });
    }

    [Fact]
    public async Task FeedbackThatIsNone_ComesAgainWhereItCantBePutIntoQuarantine()
    {
        using var folder = new ScratchFolder();
        await using var api = await LambdaRuntimeApi.StartAsync();
        await using var feedback = new FunctionProcess("Feedback", api, ("SKIFF_MODEL_STORE", $"file://{folder.Path}"), ("SKIFF_STATE", "dynamodb://t"), ("SKIFF_QUEUE", "sqs://123456789012/q.fifo"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_REGION", "us-east-1"));

        var report = await api.InvokeAsync(LambdaEvents.Sqs(("m1", "ann", "not feedback")));

        Assert.Equal("""{"batchItemFailures":[{"itemIdentifier":"m1"}]}""", report.Text);
    }

    [Fact]
    public async Task FeedbackThatCantBeProcessed_TakesNobodyElsesWithIt()
    {
        using var folder = new ScratchFolder();
        await using var api = await LambdaRuntimeApi.StartAsync();
        await using var feedback = new FunctionProcess("Feedback", api, ("SKIFF_MODEL_STORE", $"file://{folder.Path}"), ("SKIFF_STATE", "dynamodb://t"), ("SKIFF_QUEUE", "sqs://123456789012/q.fifo"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_REGION", "us-east-1"));
        // It is JSON, and what is required is there, but nothing can be done with it.
        const string damaged = """{"tenant":null,"app":"films","user":"ann","feedback_id":"f1","value":1,"at":"2026-01-01T00:00:00Z"}""";

        var report = await api.InvokeAsync(LambdaEvents.Sqs(("m1", "ann", damaged), ("m2", "ben", "not feedback")));

        // The second was looked at too; an error would have sent both to the dead letters, whatever the second is.
        Assert.Equal("""{"batchItemFailures":[{"itemIdentifier":"m1"},{"itemIdentifier":"m2"}]}""", report.Text);
        await Eventually.HoldsAsync("the log says why", () => Task.FromResult(feedback.Output.Contains("m1 is not feedback", StringComparison.Ordinal) && feedback.Output.Contains("group ben comes again", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("SKIFF_STATE", "sqlite:///data/state.db", "SKIFF_STATE is 'sqlite:///data/state.db': it takes dynamodb://TABLE")]
    [InlineData("SKIFF_STATE", "", "SKIFF_STATE is missing: it takes dynamodb://TABLE")]
    [InlineData("SKIFF_QUEUE", "sqs://name", "SKIFF_QUEUE")]
    [InlineData("SKIFF_API_KEYS", "", "SKIFF_API_KEYS is missing")]
    [InlineData("SKIFF_SECRET", "", "SKIFF_SECRET is missing")]
    [InlineData("SKIFF_MODEL_STOER", "s3://b", "unknown setting SKIFF_MODEL_STOER")]
    public async Task PredictWithAWrongSetting_TellsLambdaAndEnds(string name, string value, string message)
    {
        var environment = new Dictionary<string, string>
        {
            ["AWS_REGION"] = "us-east-1", ["SKIFF_MODEL_STORE"] = "s3://bucket", ["SKIFF_STATE"] = "dynamodb://table", ["SKIFF_QUEUE"] = "sqs://123456789012/q.fifo",
            ["SKIFF_API_KEYS"] = Key.Entry, ["SKIFF_SECRET"] = Secret, [name] = value,
        };
        await using var api = await LambdaRuntimeApi.StartAsync();
        await using var predict = new FunctionProcess("Predict", api, [.. environment.Select(pair => (pair.Key, pair.Value))]);

        var report = await api.InitError.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

        Assert.Contains(message, report.Json.GetProperty("errorMessage").GetString());
        Assert.NotEqual(0, await predict.WaitAsync());
    }

    private async Task PublishAsync(string bucket)
    {
        using var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = moto.S3!.AbsoluteUri, ForcePathStyle = true });
        await s3.PutBucketAsync(bucket);
        using var objects = new S3ObjectStore($"s3://{bucket}", new S3Options { Endpoint = moto.S3 });
        var publisher = new Publisher(new ModelStore(objects, TimeProvider.System), ModelLimits.Default);
        foreach (var (file, name) in new[] { ("films/mt_item_features.onnx", "mt_item_features"), ("films/mt_priors.json", "mt_priors") })
        {
            await publisher.PushAsync("acme", await File.ReadAllBytesAsync(Repository.Sample(file)), name, ModelStore.Live, CancellationToken.None);
        }
        await publisher.PushAppAsync("acme", Encoding.UTF8.GetBytes(Patient.Sample("films/app.json")), CancellationToken.None);
    }

    private static async Task<JsonElement> PostAsync(HttpClient client, string path, string json, HttpStatusCode expected)
    {
        using var response = await client.PostAsync(path, new StringContent(json, Encoding.UTF8, "application/json"));
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(expected == response.StatusCode, $"{response.StatusCode}: {text}");
        return JsonDocument.Parse(text).RootElement;
    }
}
