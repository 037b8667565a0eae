using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Amazon.Runtime;
using Amazon.S3;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>What one kind of request used.</summary>
/// <param name="Milliseconds">Of each invocation, from the event to the whole answer, without the waits for services.</param>
/// <param name="Events">Requests or messages; an invocation may hold several.</param>
/// <param name="WaitsEach">How often an invocation waited for services.</param>
internal sealed record Use(double[] Milliseconds, int Events, double WaitsEach)
{
    /// <param name="waited">The mean of them is taken from each.</param>
    public static Use Of(IReadOnlyCollection<double> milliseconds, int events, (TimeSpan Waited, int Waits) waited) => new(
        [.. milliseconds.Select(ms => Math.Max(0, ms - waited.Waited.TotalMilliseconds / milliseconds.Count))], events, (double)waited.Waits / milliseconds.Count);


    public double InvocationsEach => (double)Milliseconds.Length / Events;
}

/// <summary>What was counted.</summary>
internal sealed record Usage
{
    /// <summary>An answer of <c>fashion</c>, nobody's; of <c>digits</c>, a user's.</summary>
    public required Use Prediction { get; init; }

    public required Use Personal { get; init; }

    /// <summary>Feedback of <c>digits</c>: taken in by Predict, learnt by Feedback.</summary>
    public required Use Accept { get; init; }

    public required Use Learn { get; init; }

    /// <summary>Mean <c>cost_usd</c> of the answers.</summary>
    public required double SaidPrediction { get; init; }

    public required double SaidPersonal { get; init; }

    /// <summary>What the Feedback function's log says of a message's state, USD.</summary>
    public required double SaidLearn { get; init; }

    public required CapacityUnits PersonalUnits { get; init; }
    public required CapacityUnits LearnUnits { get; init; }

    /// <summary>Requests to the queue a message: sent one by one as they come, received and deleted by tens.</summary>
    public required double QueueSends { get; init; }

    public required double QueueReceives { get; init; }

    /// <summary>Requests to the bucket: at the start of an instance until its first answer, and to look whether aliases have moved.</summary>
    public required int ColdReads { get; init; }

    public required int LookReads { get; init; }

    /// <summary>From the start of the process to the first answer, without the waits, of which there are so many.</summary>
    public required double ColdSeconds { get; init; }

    public required int ColdWaits { get; init; }

    /// <summary>Of a prediction, as the load balancer sees it, and of all models.</summary>
    public required double BytesIn { get; init; }

    public required double BytesOut { get; init; }
    public required double ModelBytes { get; init; }

    /// <summary>Of a message in the table.</summary>
    public required double FeedbackBytes { get; init; }

    /// <summary>Processor time of a prediction of <c>fashion</c> in Serve.</summary>
    public required double ServeCpuSeconds { get; init; }
}

/// <summary>Runs the functions' programs and counts.</summary>
internal sealed class CostMeasurement : IAsyncDisposable
{
    private const string Secret = "the same for every instance", Tenant = "acme";
    private const int Images = 1000, Batch = 10;
    private static readonly TimeSpan PastALook = TimeSpan.FromSeconds(1.5);

    private readonly MotoServer _moto;
    private readonly Dynoxide _dynoxide;
    private readonly FaultProxy _s3;
    private readonly FaultProxy _sqs;
    private readonly FaultProxy _dynamo;
    private readonly ServiceWaits _waits = new();
    private readonly ConcurrentBag<string> _bucketReads = [];
    private readonly ConcurrentBag<string> _queueRequests = [];
    private readonly string _name = $"skiff-{Guid.NewGuid():n}";
    private string _table = "";
    private string _queue = "";

    private CostMeasurement(MotoServer moto, Dynoxide dynoxide, FaultProxy s3, FaultProxy sqs, FaultProxy dynamo)
    {
        (_moto, _dynoxide, _s3, _sqs, _dynamo) = (moto, dynoxide, s3, sqs, dynamo);
        s3.Plan = request => Count(_bucketReads, request);
        // What Lambda does with the queue, no function waits for.
        sqs.Plan = request => Count(_queueRequests, request, isWaitedFor: request.Headers["X-Amz-Target"].ToString().EndsWith(".SendMessageBatch", StringComparison.Ordinal));
        dynamo.Plan = request => Count(null, request);
    }

    public static async Task<Usage> RunAsync(int count, string? functions)
    {
        if (Dynoxide.Missing is { } missing) throw new BenchmarkException(missing);
        var moto = new MotoServer();
        if (moto.S3 is null || moto.Sqs is null) throw new BenchmarkException(MotoServer.Missing);
        var dynoxide = await Dynoxide.StartAsync();
        await using var measurement = new CostMeasurement(moto, dynoxide, await FaultProxy.StartAsync(moto.S3), await FaultProxy.StartAsync(moto.Sqs), await FaultProxy.StartAsync(dynoxide.Address));
        return await measurement.MeasureAsync(count, functions);
    }

    public async ValueTask DisposeAsync()
    {
        await _s3.DisposeAsync();
        await _sqs.DisposeAsync();
        await _dynamo.DisposeAsync();
        _dynoxide.Dispose();
        await _moto.DisposeAsync();
    }

    private Fault Count(ConcurrentBag<string>? requests, HttpRequest request, bool isWaitedFor = true)
    {
        requests?.Add(request.Path);
        if (isWaitedFor) _waits.Track(request);
        return Fault.None;
    }

    private async Task<Usage> MeasureAsync(int count, string? functions)
    {
        var (key, entry) = ApiKeys.Create(Tenant, Scopes.All);
        var modelBytes = await PrepareAsync();
        (string, string)[] environment =
        [
            ("AWS_ENDPOINT_URL_S3", _s3.Address.AbsoluteUri), ("AWS_ENDPOINT_URL_SQS", _sqs.Address.AbsoluteUri), ("AWS_ENDPOINT_URL_DYNAMODB", _dynamo.Address.AbsoluteUri),
            ("SKIFF_MODEL_STORE", $"s3://{_name}"), ("SKIFF_STATE", $"dynamodb://{_table}"), ("SKIFF_QUEUE", _queue),
            // A new instance has an empty disk.
            ("SKIFF_MODEL_CACHE_MB", "0"),
        ];
        var fashion = Requests();
        var digits = JsonDocument.Parse(await File.ReadAllTextAsync(Repository.Sample("digits/request.json"))).RootElement.GetProperty("input").GetRawText();

        await using var api = await LambdaRuntimeApi.StartAsync();
        using var client = LambdaFrontEnd.ClientOf(api);
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
        _bucketReads.Clear();
        _waits.Take();
        var started = DateTime.UtcNow;
        await using var predict = new FunctionProcess(Program(functions, "Predict"), api, [.. environment, ("SKIFF_API_KEYS", entry), ("SKIFF_SECRET", Secret)]);
        await PostAsync(client, "fashion/predict", fashion[0]);
        var coldSeconds = (DateTime.UtcNow - started).TotalSeconds;
        var coldWaits = _waits.Take();
        var coldReads = _bucketReads.Count;

        Progress($"{count} predictions of fashion");
        for (var i = 0; i < count / 2; i++) await PostAsync(client, "fashion/predict", fashion[i % Images]);
        api.Durations.Clear();
        _waits.Take();
        var (said, bytesIn, bytesOut) = (0.0, 0.0, 0.0);
        for (var i = 0; i < count; i++)
        {
            var answer = await PostAsync(client, "fashion/predict", fashion[i % Images]);
            said += CostOf(answer);
            bytesIn += fashion[i % Images].Length;
            bytesOut += answer.Length;
        }
        var prediction = Taken(api, count);

        await Task.Delay(PastALook);
        _bucketReads.Clear();
        await PostAsync(client, "fashion/predict", fashion[0]);
        await Task.Delay(PastALook);
        var lookReads = _bucketReads.Count;

        var personalCount = Math.Max(50, count / 5);
        Progress($"{personalCount} predictions of digits, each with feedback");
        for (var i = 0; i < 20; i++) await FeedbackAsync(client, await AskAsync(client, digits, i), i);
        await DrainAsync(null, 20);
        _queueRequests.Clear();
        _waits.Take();
        var (personal, accept) = (new List<double>(), new List<double>());
        var (personalWaits, acceptWaits) = (default((TimeSpan Waited, int Waits)), default((TimeSpan Waited, int Waits)));
        var saidPersonal = 0.0;
        for (var i = 0; i < personalCount; i++)
        {
            api.Durations.Clear();
            var answer = await AskAsync(client, digits, i + 1000);
            personalWaits = Sum(personalWaits, _waits.Take());
            await FeedbackAsync(client, answer, i);
            acceptWaits = Sum(acceptWaits, _waits.Take());
            saidPersonal += CostOf(answer);
            var taken = api.Durations.Select(duration => duration.TotalMilliseconds).ToArray();
            personal.Add(taken[0]);
            accept.Add(taken[1]);
        }
        var sends = (double)_queueRequests.Count / personalCount;

        Progress($"{personalCount} messages to learn");
        await using var feedbackApi = await LambdaRuntimeApi.StartAsync();
        await using var feedback = new FunctionProcess(Program(functions, "Feedback"), feedbackApi, environment);
        _queueRequests.Clear();
        // The first invocation loads the app.
        var messages = await DrainAsync(feedbackApi, Batch);
        feedbackApi.Durations.Clear();
        _waits.Take();
        messages.AddRange(await DrainAsync(feedbackApi, personalCount - messages.Count));
        var receives = (double)_queueRequests.Count / personalCount;
        var learn = Taken(feedbackApi, feedbackApi.Durations.Count * Batch);
        var (learnUnits, personalUnits) = await CountUnitsAsync(messages);

        return new Usage
        {
            Prediction = prediction,
            Personal = Use.Of(personal, personalCount, personalWaits),
            Accept = Use.Of(accept, personalCount, acceptWaits),
            Learn = learn,
            SaidPrediction = said / count,
            SaidPersonal = saidPersonal / personalCount,
            SaidLearn = SaidBy(feedback.Output),
            PersonalUnits = personalUnits,
            LearnUnits = learnUnits,
            QueueSends = sends,
            QueueReceives = receives,
            ColdReads = coldReads,
            LookReads = lookReads,
            ColdSeconds = Math.Max(0, coldSeconds - coldWaits.Waited.TotalSeconds),
            ColdWaits = coldWaits.Waits,
            BytesIn = bytesIn / count,
            BytesOut = bytesOut / count,
            ModelBytes = modelBytes,
            FeedbackBytes = messages.Average(message => message.Serialize().Length),
            ServeCpuSeconds = await MeasureServeAsync(fashion, count),
        };
    }

    private static string Program(string? functions, string name)
    {
        if (functions is null) return name;
        var program = Path.GetFullPath(Path.Combine(functions, name, "bootstrap"));
        return File.Exists(program) ? program : throw new BenchmarkException($"{program} is missing: 'dotnet publish functions/{name} -c Release -o {functions}/{name}' makes it");
    }

    /// <summary>Makes bucket, table and queue, and publishes two apps.</summary>
    /// <returns>Bytes of the models.</returns>
    private async Task<double> PrepareAsync()
    {
        using var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = _moto.S3!.AbsoluteUri, ForcePathStyle = true });
        await s3.PutBucketAsync(_name);
        _queue = await _moto.MakeQueueAsync(_name);
        _table = _name;
        using var dynamo = Dynamo();
        await new DynamoStateStore(dynamo, _table, DynamoOptions.Default, TimeProvider.System, new Random(1)).EnsureTableAsync(CancellationToken.None);

        using var objects = new S3ObjectStore($"s3://{_name}", new S3Options { Endpoint = _moto.S3 });
        var publisher = new Publisher(new ModelStore(objects, TimeProvider.System), ModelLimits.Default);
        var bytes = 0.0;
        foreach (var (file, name) in new[]
        {
            ("fashion/fm_small.onnx", "fm_small"), ("fashion/fm_medA.onnx", "fm_medA"), ("fashion/fm_big.onnx", "fm_big"),
            ("digits/digits-body-without-george.onnx", "digits_body"), ("digits/george-prior.json", "digits_prior"),
        })
        {
            var (manifest, _) = await publisher.PushAsync(Tenant, await File.ReadAllBytesAsync(Repository.Sample(file)), name, ModelStore.Live, CancellationToken.None);
            bytes += manifest.Bytes;
        }
        foreach (var app in new[] { "fashion", "digits" }) await publisher.PushAppAsync(Tenant, await File.ReadAllBytesAsync(Repository.Sample($"{app}/app.json")), CancellationToken.None);
        return bytes;
    }

    private static string[] Requests()
    {
        var images = Samples.Load(null, Images).Images;
        return [.. images.Select(image => $$"""{"input":[{{string.Join(',', image.Select(pixel => (pixel / 255f).ToString("R", CultureInfo.InvariantCulture)))}}]}""")];
    }

    private static async Task<string> PostAsync(HttpClient client, string path, string json)
    {
        using var response = await client.PostAsync($"/apps/{path}", new StringContent(json, Encoding.UTF8, "application/json"));
        var text = await response.Content.ReadAsStringAsync();
        return response.IsSuccessStatusCode ? text : throw new BenchmarkException($"{path}: {(int)response.StatusCode} {text}");
    }

    private static double CostOf(string answer) => JsonDocument.Parse(answer).RootElement.GetProperty("cost_usd").GetDouble();

    /// <summary>A user's prediction: ten of each of a number of users.</summary>
    private static Task<string> AskAsync(HttpClient client, string input, int i) => PostAsync(client, "digits/predict", $$"""{"user":"u{{i / 100}}-{{i % 10}}","input":{{input}}}""");

    private static Task FeedbackAsync(HttpClient client, string answer, int i) =>
        PostAsync(client, "digits/feedback", $$"""{"id":"{{JsonDocument.Parse(answer).RootElement.GetProperty("id").GetString()}}","label":{{i % 10}}}""");

    private static (TimeSpan, int) Sum((TimeSpan Waited, int Waits) a, (TimeSpan Waited, int Waits) b) => (a.Waited + b.Waited, a.Waits + b.Waits);

    private Use Taken(LambdaRuntimeApi api, int events) => Use.Of([.. api.Durations.Select(duration => duration.TotalMilliseconds)], events, _waits.Take());

    /// <summary>Moves messages from the queue to the function as Lambda does, by tens; without a function they are dropped.</summary>
    private async Task<List<FeedbackMessage>> DrainAsync(LambdaRuntimeApi? api, int count)
    {
        using var queue = new SqsFeedbackQueue(_queue, new SqsOptions { Endpoint = _sqs.Address });
        var messages = new List<FeedbackMessage>();
        while (messages.Count < count)
        {
            var received = await queue.ReceiveAsync(Batch, CancellationToken.None);
            if (api is not null)
            {
                var report = await api.InvokeAsync(LambdaEvents.Sqs([.. received.Select((one, i) => ($"m{i}", (string?)one.Message.User, Encoding.UTF8.GetString(one.Message.Serialize())))]));
                if (report.Text != """{"batchItemFailures":[]}""") throw new BenchmarkException($"Feedback answers {report.Text}");
            }
            await queue.CompleteAsync(received, CancellationToken.None);
            messages.AddRange(received.Select(one => one.Message));
        }
        return messages;
    }

    /// <summary>What the learner and a prediction consume, as the table's service counts: the same messages again as those of another app's users would be, with new ids.</summary>
    private async Task<(CapacityUnits Learn, CapacityUnits Predict)> CountUnitsAsync(List<FeedbackMessage> messages)
    {
        using var client = Dynamo();
        var state = new DynamoStateStore(client, _table, DynamoOptions.Default, TimeProvider.System, new Random(1));
        using var objects = new S3ObjectStore($"s3://{_name}", new S3Options { Endpoint = _moto.S3 });
        var store = new ModelStore(objects, TimeProvider.System);
        var models = new ModelHost(store, new ModelHostOptions(), TimeProvider.System, NullLogger<ModelHost>.Instance);
        var apps = new AppHost(store, models, TimeSpan.FromHours(1), TimeProvider.System, NullLogger<AppHost>.Instance);
        var learner = new FeedbackLearner(apps, state, new FeedbackStatistics(), NullLogger<FeedbackLearner>.Instance);
        var again = messages.Select((message, i) => message with { FeedbackId = $"again-{i}" }).ToList();

        var before = state.Consumed;
        foreach (var message in again) await learner.LearnAsync([message], CancellationToken.None);
        var learnt = state.Consumed - before;
        before = state.Consumed;
        foreach (var message in again) await state.ReadWeightsAsync(new UserKey(message.Tenant, message.App, message.User), CancellationToken.None);
        var read = state.Consumed - before;
        models.UnloadAll();
        return (new CapacityUnits(learnt.Read / again.Count, learnt.Write / again.Count), new CapacityUnits(read.Read / again.Count, read.Write / again.Count));
    }

    /// <summary>Serve's processor time a prediction, under some load.</summary>
    private static async Task<double> MeasureServeAsync(string[] requests, int count)
    {
        Progress($"{count} predictions of Serve");
        using var folder = new ScratchFolder();
        await using var serve = await SkiffProcess.ServeAsync(folder.Path);
        await RunAsync(count);
        var before = await CpuAsync();
        await RunAsync(2 * count);
        return (await CpuAsync() - before) / (2 * count);

        Task RunAsync(int count) =>
            Parallel.ForAsync(0, count, new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) => await PostAsync(serve.Client, "fashion/predict", requests[i % requests.Length]));

        async Task<double> CpuAsync()
        {
            const string metric = "process_cpu_seconds_total ";
            return double.Parse((await serve.Client.GetStringAsync("/metrics")).Split('\n').Single(line => line.StartsWith(metric, StringComparison.Ordinal))[metric.Length..], CultureInfo.InvariantCulture);
        }
    }

    /// <summary>The mean of what the lines of the log say that a message's state cost.</summary>
    private static double SaidBy(string output)
    {
        const string before = "the state cost ";
        var said = output.Split('\n').Where(line => line.Contains(before, StringComparison.Ordinal)).Skip(1)
            .Select(line => double.Parse(line[(line.IndexOf(" USD, ", StringComparison.Ordinal) + 6)..].Split(' ')[0], CultureInfo.InvariantCulture)).ToArray();
        return said.Length > 0 ? said.Average() : throw new BenchmarkException($"Feedback's log does not say what the state cost:\n{output}");
    }

    private Amazon.DynamoDBv2.AmazonDynamoDBClient Dynamo() => DynamoClient.Connect(DynamoOptions.Default, config =>
    {
        config.ServiceURL = _dynoxide.Address.AbsoluteUri;
        config.DefaultAWSCredentials = new BasicAWSCredentials("test", "test");
    });

    // Beside the report, not in it.
    private static void Progress(string text) => Console.Error.WriteLine($"... {text}");
}
