using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.S3;
using Microsoft.AspNetCore.Http;
using Skiff.Aws;
using Skiff.Support;

namespace Skiff.Benchmarks.Injection;

/// <summary>One run's bucket, table and queues, and clients of them: through proxies that spoil requests, or straight to the services.</summary>
internal sealed class FaultyServices : IAsyncDisposable
{
    // Hasty, or a stalled answer would hold up a run for as long as it may hold up a function.
    public static readonly S3Options HastyS3 = new() { AttemptTimeout = TimeSpan.FromSeconds(2) };
    public static readonly DynamoOptions HastyDynamo = new() { AttemptTimeout = TimeSpan.FromSeconds(2), ConsistentPredictions = true };
    public static readonly SqsOptions HastySqs = new() { AttemptTimeout = TimeSpan.FromSeconds(2), Wait = TimeSpan.FromSeconds(1), Visibility = TimeSpan.FromSeconds(20) };

    private const int Attempts = 3; // the SDK's, of S3 and SQS
    private const double Pauses = 5; // of those attempts, at most
    private const double After = 3; // .NET waits two seconds for the rest of an answer that nobody wants any more, and the machine is busy

    private readonly Emulators emulators;
    private readonly FaultProxy[] proxies;
    private readonly string name = $"skiff-benchmarks-{Guid.NewGuid():n}";
    private readonly List<string> queues = [];
    private readonly List<IDisposable> opened = [];

    private FaultyServices(Emulators emulators, FaultProxy[] proxies) => (this.emulators, this.proxies) = (emulators, proxies);

    /// <summary>Two requests, of three attempts each: an object's header and its body, a write and the look whether it was ours.</summary>
    public static TimeSpan S3Deadline { get; } = TimeSpan.FromSeconds(2 * (Attempts * HastyS3.AttemptTimeout.TotalSeconds + Pauses) + After);

    /// <summary>What <see cref="DynamoOptions.AttemptTimeout"/> says.</summary>
    public static TimeSpan DynamoDeadline { get; } = (HastyDynamo.AttemptTimeout + HastyDynamo.LongestDelay) * HastyDynamo.MostAttempts + TimeSpan.FromSeconds(After);

    public static TimeSpan SqsDeadline { get; } = TimeSpan.FromSeconds(Attempts * (HastySqs.AttemptTimeout + HastySqs.Wait).TotalSeconds + Pauses + After);

    /// <summary>A batch and what was refused of it.</summary>
    public static TimeSpan SendDeadline { get; } = 2 * SqsDeadline;

    public static async Task<FaultyServices> StartAsync(Emulators emulators, int queues, Func<Service, HttpRequest, Fault> plan)
    {
        var proxies = new List<FaultProxy>();
        foreach (var (service, target) in new[] { (Service.S3, emulators.Moto.S3!), (Service.DynamoDB, emulators.Dynamo), (Service.SQS, emulators.Moto.Sqs!) })
        {
            var proxy = await FaultProxy.StartAsync(target);
            proxy.Plan = request => plan(service, request);
            proxies.Add(proxy);
        }
        var services = new FaultyServices(emulators, [.. proxies]);
        await services.MakeAsync(queues);
        return services;
    }

    public S3ObjectStore Objects(bool faulty) => Keep(new S3ObjectStore($"s3://{name}", HastyS3 with { Endpoint = faulty ? AddressOf(Service.S3) : emulators.Moto.S3 }));

    public DynamoStateStore States(bool faulty)
    {
        var client = Keep(DynamoClient.Connect(HastyDynamo, config =>
        {
            config.ServiceURL = (faulty ? AddressOf(Service.DynamoDB) : emulators.Dynamo).AbsoluteUri;
            config.DefaultAWSCredentials = new BasicAWSCredentials("test", "test");
        }));
        return new DynamoStateStore(client, name, HastyDynamo, TimeProvider.System, new Random(1));
    }

    public SqsFeedbackQueue[] QueuesOf(bool faulty) =>
        [.. queues.Select(location => Keep(new SqsFeedbackQueue(location, HastySqs with { Endpoint = faulty ? AddressOf(Service.SQS) : emulators.Moto.Sqs })))];

    public async ValueTask DisposeAsync()
    {
        foreach (var one in opened) one.Dispose();
        foreach (var proxy in proxies) await proxy.DisposeAsync();
    }

    private Uri AddressOf(Service service) => proxies[(int)service].Address;

    private async Task MakeAsync(int count)
    {
        using (var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = emulators.Moto.S3!.AbsoluteUri, ForcePathStyle = true })) await s3.PutBucketAsync(name);
        for (var i = 0; i < count; i++) queues.Add(await emulators.Moto.MakeQueueAsync($"{name}-{i}"));
        await States(faulty: false).EnsureTableAsync(CancellationToken.None);
    }

    private T Keep<T>(T client)
        where T : IDisposable
    {
        opened.Add(client);
        return client;
    }
}
