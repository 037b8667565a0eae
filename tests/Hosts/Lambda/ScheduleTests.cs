using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using Amazon.Runtime;
using Amazon.S3;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>What the schedules of template.yaml wake Feedback for.</summary>
public sealed class ScheduleTests(MotoServer moto) : IClassFixture<MotoServer>
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Schedules_WriteTheLogOnceAndSendWhatIsDue()
    {
        Assert.SkipWhen(moto.S3 is null, MotoServer.Missing);
        Assert.SkipWhen(Dynoxide.Missing is not null, Dynoxide.Missing ?? "");
        using var dynoxide = await Dynoxide.StartAsync();
        var bucket = $"skiff-{Guid.NewGuid():n}";
        using var objects = await PublishAsync(bucket);
        var table = await dynoxide.MakeTableAsync();
        var queue = await moto.MakeQueueAsync(bucket);
        using var client = DynamoClient.Connect(DynamoOptions.Default, config =>
        {
            config.ServiceURL = dynoxide.Address.AbsoluteUri;
            config.DefaultAWSCredentials = new BasicAWSCredentials("test", "test");
        });
        var earlier = DateTimeOffset.UtcNow.AddDays(-2);
        var state = new DynamoStateStore(client, table, DynamoOptions.Default, new At(earlier), new Random());
        await LearnAsync(objects, state, Said("f1", earlier), Said("f2", earlier), ImplicitFeedback.Waiting(Said("d1", earlier), earlier.AddMinutes(1)));

        (string, string)[] environment =
        [
            ("AWS_ENDPOINT_URL", moto.S3!.AbsoluteUri), ("AWS_ENDPOINT_URL_DYNAMODB", dynoxide.Address.AbsoluteUri),
            ("SKIFF_MODEL_STORE", $"s3://{bucket}"), ("SKIFF_STATE", $"dynamodb://{table}"), ("SKIFF_QUEUE", queue),
        ];
        await using var oneApi = await LambdaRuntimeApi.StartAsync();
        await using var otherApi = await LambdaRuntimeApi.StartAsync();
        await using var one = new FunctionProcess("Feedback", oneApi, environment);
        await using var other = new FunctionProcess("Feedback", otherApi, environment);

        // Two at once, and again: one of them writes the day.
        foreach (var report in await Task.WhenAll(oneApi.InvokeAsync("""{"schedule":"log"}"""), otherApi.InvokeAsync("""{"schedule":"log"}"""))) Assert.Equal("{}", report.Text);
        await oneApi.InvokeAsync("""{"schedule":"log"}""");
        var history = await new FeedbackLog(objects, state, TimeProvider.System).ReadAsync("acme", "quiet", Cancellation);
        Assert.Equal((1, "f1 f2"), (history.Segments, string.Join(' ', history.Entries.Select(kept => kept.Accepted.Message.FeedbackId).Order())));
        await Eventually.HoldsAsync("who wrote says so", () => Task.FromResult(((one.Output + other.Output).Split("is in the log").Length - 1) == 1));

        Assert.Equal("{}", (await oneApi.InvokeAsync("""{"schedule":"events"}""")).Text);
        using var sent = new SqsFeedbackQueue(queue, new SqsOptions { Endpoint = moto.Sqs });
        var message = Assert.Single(await sent.ReceiveAsync(10, Cancellation)).Message;
        Assert.Equal(("d1", true, null), (message.FeedbackId, message.Implicit, message.Silence));

        HttpEventTests.AssertFailed(await oneApi.InvokeAsync("""{"schedule":"supper"}"""), "InvalidEventException", "there are 'events' and 'log'");
    }

    private static FeedbackMessage Said(string id, DateTimeOffset at) => new()
    {
        Tenant = "acme", App = "quiet", User = "ann", FeedbackId = id, Value = 7, FeaturesVersion = 1, PriorVersion = 1, At = at,
        Features = MemoryMarshal.AsBytes<float>(Enumerable.Repeat(0.1f, 34).ToArray()).ToArray(),
    };

    private static async Task LearnAsync(IObjectStore objects, DynamoStateStore state, params FeedbackMessage[] messages)
    {
        var store = new ModelStore(objects, TimeProvider.System);
        var models = new ModelHost(store, new ModelHostOptions(), TimeProvider.System, NullLogger<ModelHost>.Instance);
        var apps = new AppHost(store, models, TimeSpan.FromDays(1), TimeProvider.System, NullLogger<AppHost>.Instance);
        await new FeedbackLearner(apps, state, new FeedbackStatistics(), NullLogger<FeedbackLearner>.Instance).LearnAsync(messages, Cancellation);
    }

    /// <summary>Films whose silence is a five.</summary>
    private async Task<S3ObjectStore> PublishAsync(string bucket)
    {
        using var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = moto.S3!.AbsoluteUri, ForcePathStyle = true });
        await s3.PutBucketAsync(bucket);
        var objects = new S3ObjectStore($"s3://{bucket}", new S3Options { Endpoint = moto.S3 });
        var publisher = new Publisher(new ModelStore(objects, TimeProvider.System), ModelLimits.Default);
        foreach (var (file, name) in new[] { ("films/mt_item_features.onnx", "mt_item_features"), ("films/mt_priors.json", "mt_priors") })
        {
            await publisher.PushAsync("acme", await File.ReadAllBytesAsync(Repository.Sample(file)), name, ModelStore.Live, CancellationToken.None);
        }
        var app = JsonNode.Parse(Patient.Sample("films/app.json"))!;
        app["name"] = "quiet";
        app["feedback"] = JsonNode.Parse("""{"implicit":{"after_s":600,"value":5}}""");
        await publisher.PushAppAsync("acme", Encoding.UTF8.GetBytes(app.ToJsonString()), CancellationToken.None);
        return objects;
    }

    private sealed class At(DateTimeOffset now) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => now;
    }
}
