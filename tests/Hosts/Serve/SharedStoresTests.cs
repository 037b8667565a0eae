using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Amazon.Runtime;
using Amazon.S3;
using Skiff.Aws;
using Skiff.Personalization;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary>Serve as processes over stores that others share: a bucket, a table and a queue that speak the real protocols.</summary>
public sealed class SharedStoresTests(MotoServer moto) : IClassFixture<MotoServer>, IAsyncLifetime
{
    private readonly ScratchFolder _folder = new();
    private readonly string _name = $"skiff-{Guid.NewGuid():n}";
    private Dynoxide? _dynoxide;
    private string _table = "";
    private (string Name, string Value)[] _environment = [];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipWhen(moto.S3 is null, MotoServer.Missing);
        Assert.SkipWhen(Dynoxide.Missing is not null, Dynoxide.Missing ?? "");
        _dynoxide = await Dynoxide.StartAsync();
        _table = await _dynoxide.MakeTableAsync();
        using var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = moto.S3!.AbsoluteUri, ForcePathStyle = true });
        await s3.PutBucketAsync(_name, Cancel);
        _environment =
        [
            ("AWS_ENDPOINT_URL_S3", moto.S3.AbsoluteUri), ("AWS_ENDPOINT_URL_SQS", moto.Sqs!.AbsoluteUri), ("AWS_ENDPOINT_URL_DYNAMODB", _dynoxide.Address.AbsoluteUri),
            ("SKIFF_MODEL_STORE", $"s3://{_name}/models"), ("SKIFF_STATE", $"dynamodb://{_table}"), ("SKIFF_QUEUE", await moto.MakeQueueAsync(_name)),
            ("SKIFF_SECRET", "the same for every process"),
        ];
    }

    public ValueTask DisposeAsync()
    {
        _dynoxide?.Dispose();
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task WhatTheCommandsPublish_IsServedAndLearntAndFoundByTheNextProcess()
    {
        await SkiffAsync("push", Repository.Sample("films/mt_item_features.onnx"), "--name", "mt_item_features");
        await SkiffAsync("push", Repository.Sample("films/mt_item_features.onnx"), "--name", "mt_item_features");
        await SkiffAsync("push", Repository.Sample("films/mt_priors.json"), "--name", "mt_priors");
        await SkiffAsync("app", "push", Repository.Sample("films/app.json"));
        Assert.Contains("live moved from version 1 to 2", await SkiffAsync("alias", "mt_item_features", "2"), StringComparison.Ordinal);
        Assert.Equal(2, (await SkiffAsync("versions", "mt_item_features")).Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Contains("live=2", await SkiffAsync("list"), StringComparison.Ordinal);

        string decision;
        await using (var server = await ServeAsync("first"))
        {
            await Eventually.HoldsAsync("it says where things are", () => Task.FromResult(server.Output.Contains($"models in s3://{_name}/models", StringComparison.Ordinal)));
            var before = await PredictAsync(server, "ann");
            decision = before.GetProperty("id").GetString()!;
            Assert.Equal(2, before.GetProperty("versions").GetProperty("mt_item_features").GetInt32());
            await FeedbackAsync(server, """{"user":"ann","input":[42],"value":10,"feedback_id":"click-1"}""");
            await Eventually.HoldsAsync("the head has learnt", async () => await OutputAsync(server, "ann") is > 7.5 and < 7.6);
            // A commit alone is dozens of units.
            var spent = (await server.Client.GetStringAsync("/metrics", Cancel)).Split('\n').Single(line => line.StartsWith("skiff_state_cost_usd_total ", StringComparison.Ordinal));
            Assert.InRange(double.Parse(spent.Split(' ')[1], CultureInfo.InvariantCulture), 6 * AwsPrices.TableWriteUnit, 200 * AwsPrices.TableWriteUnit);
            server.Terminate();
            Assert.Equal(0, (await server.WaitAsync()).ExitCode);
        }

        await using var next = await ServeAsync("second");
        Assert.InRange(await OutputAsync(next, "ann"), 7.5, 7.6);
        // What another process has sealed is opened, and what it has learnt is known.
        await FeedbackAsync(next, """{"user":"ann","input":[42],"value":1,"feedback_id":"click-1"}""");
        await FeedbackAsync(next, $$"""{"id":"{{decision}}","value":10}""");
        await Eventually.HoldsAsync("the decision's feedback is learnt, the repeated one is not", async () => await UpdatesAsync("ann") == 2);
        Assert.Single(Directory.GetFiles(_folder["second/cache"], "*", SearchOption.AllDirectories), file => new FileInfo(file).Length == new FileInfo(Repository.Sample("films/mt_item_features.onnx")).Length);
        Assert.False(File.Exists(_folder["second/state.db"]));
    }

    [Fact]
    public async Task ProcessesThatStartAtOnce_PublishTheSamplesOnceAndLearnEachMessageOnce()
    {
        const int Users = 6, Each = 5;
        var servers = await Task.WhenAll(ServeAsync("first"), ServeAsync("second"));
        await using var first = servers[0];
        await using var second = servers[1];

        Assert.All((await SkiffAsync("list")).Split('\n', StringSplitOptions.RemoveEmptyEntries), line => Assert.Contains("versions 1  ", line, StringComparison.Ordinal));
        Assert.All(servers, server => Assert.DoesNotContain("not ready", server.Output, StringComparison.Ordinal));
        for (var i = 0; i < Each; i++)
        {
            for (var user = 0; user < Users; user++)
            {
                // Every second one is sent to both.
                var feedback = $$"""{"user":"u{{user}}","input":[{{i}}],"value":8,"feedback_id":"f{{i}}-{{user}}"}""";
                await FeedbackAsync(servers[i % 2], feedback);
                if (user % 2 == 0) await FeedbackAsync(servers[(i + 1) % 2], feedback);
            }
            if (i != Each / 2) continue;
            // One leaves while there is feedback under way.
            second.Terminate();
            Assert.Equal(0, (await second.WaitAsync()).ExitCode);
            servers[1] = first;
        }

        await Eventually.HoldsAsync("all is learnt", async () =>
        {
            for (var user = 0; user < Users; user++)
            {
                if (await UpdatesAsync($"u{user}") != Each) return false;
            }
            return true;
        }, seconds: 40);
        first.Terminate();
        Assert.Equal(0, (await first.WaitAsync()).ExitCode);
        for (var user = 0; user < Users; user++) Assert.Equal(Each, await UpdatesAsync($"u{user}"));
    }

    [Fact]
    public async Task ModelsInABucketAndTheRestEmbedded_ServeAndLearn()
    {
        (string Name, string Value)[] models = [.. _environment.Where(setting => setting.Name is "AWS_ENDPOINT_URL_S3" or "SKIFF_MODEL_STORE")];

        await using var server = await SkiffProcess.ServeAsync(models, _folder["data"]);
        await FeedbackAsync(server, """{"user":"ann","input":[42],"value":10}""");

        await Eventually.HoldsAsync("the head has learnt", async () => await OutputAsync(server, "ann") is > 7.5 and < 7.6);
        Assert.True(File.Exists(_folder["data/state.db"]));
        Assert.False(Directory.Exists(_folder["data/models"]));
    }

    [Theory]
    [InlineData("SKIFF_MODEL_STORE", "s3:///models", "SKIFF_MODEL_STORE: 's3:///models'")]
    [InlineData("SKIFF_QUEUE", "sqs://queue", "SKIFF_QUEUE: 'sqs://queue' is no queue: it takes sqs://ACCOUNT/NAME.fifo")]
    [InlineData("SKIFF_STATE", "redis://state", "SKIFF_STATE is 'redis://state': it takes sqlite:///PATH or dynamodb://TABLE")]
    public async Task AddressThatIsNone_IsRefusedAtTheStart(string name, string value, string message)
    {
        var result = await SkiffProcess.RunAsync([.. _environment.Where(setting => setting.Name != name), (name, value)], "serve", "--data", _folder["data"], "--urls", "http://127.0.0.1:0");

        Assert.Equal(1, result.ExitCode);
        Assert.Contains(message, Assert.Single(result.ErrorLines), StringComparison.Ordinal);
    }

    private Task<SkiffProcess> ServeAsync(string data) => SkiffProcess.ServeAsync(_environment, _folder[data]);

    private async Task<string> SkiffAsync(params string[] arguments)
    {
        var result = await SkiffProcess.RunAsync(_environment, [.. arguments, "--data", _folder["commands"]]);
        Assert.True(result.ExitCode == 0, result.Error);
        return result.Output;
    }

    private static async Task<JsonElement> PredictAsync(SkiffProcess server, string user)
    {
        using var response = await server.Client.PostAsync("/apps/films/predict", new StringContent($$"""{"user":"{{user}}","input":[42]}"""), Cancel);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        return await response.Content.ReadFromJsonAsync<JsonElement>(Cancel);
    }

    /// <summary>An answer that could not be had in time is the app's default: none.</summary>
    private static async Task<double> OutputAsync(SkiffProcess server, string user)
    {
        JsonElement output = default;
        await Eventually.HoldsAsync("there is an answer in time", async () => (output = (await PredictAsync(server, user)).GetProperty("output")).ValueKind == JsonValueKind.Number);
        return output.GetDouble();
    }

    private static async Task FeedbackAsync(SkiffProcess server, string json)
    {
        using var response = await server.Client.PostAsync("/apps/films/feedback", new StringContent(json, Encoding.UTF8, "application/json"), Cancel);
        Assert.True(response.StatusCode == HttpStatusCode.Accepted, await response.Content.ReadAsStringAsync(Cancel));
    }

    /// <summary>How many examples a user's head has learnt, as the table has it.</summary>
    private async Task<long> UpdatesAsync(string user)
    {
        using var client = DynamoClient.Connect(DynamoOptions.Default, config =>
        {
            config.ServiceURL = _dynoxide!.Address.AbsoluteUri;
            config.DefaultAWSCredentials = new BasicAWSCredentials("test", "test");
        });
        var store = new DynamoStateStore(client, _table, DynamoOptions.Default, TimeProvider.System, new Random(1));
        return (await store.ReadHeadAsync(new UserKey("default", "films", user), Cancel))?.Weights.Updates ?? 0;
    }
}
