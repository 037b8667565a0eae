using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Skiff.Aws;
using Skiff.Stores;
using Skiff.Support;

[assembly: AssemblyFixture(typeof(DynamoDatabase))]

namespace Skiff.Stores;

/// <summary>The DynamoDB that tests use, and one table in it: what AWS_ENDPOINT_URL names, else one of our own.</summary>
public sealed class DynamoDatabase : IAsyncLifetime
{
    private Dynoxide? _own;

    public string Table { get; } = $"skiff-tests-{Guid.NewGuid():N}";

    /// <summary>Why there is none; null when there is.</summary>
    private static string? Missing => IsGiven ? null : Dynoxide.Missing;

    private static bool IsGiven => Environment.GetEnvironmentVariable("AWS_ENDPOINT_URL") is { Length: > 0 };

    public async ValueTask InitializeAsync()
    {
        if (Missing is not null) return;
        if (!IsGiven) _own = await Dynoxide.StartAsync();
        using var client = Connect(DynamoOptions.Default);
        await Store(client).EnsureTableAsync(CancellationToken.None);
    }

    public async ValueTask DisposeAsync()
    {
        if (IsGiven)
        {
            using var client = Connect(DynamoOptions.Default);
            await client.DeleteTableAsync(Table);
        }
        _own?.Dispose();
    }

    /// <param name="transport">Sits between the SDK and the service.</param>
    public AmazonDynamoDBClient Connect(DynamoOptions options, FaultyTransport? transport = null)
    {
        Assert.SkipWhen(Missing is not null, Missing ?? "");
        return DynamoClient.Connect(options, config =>
        {
            if (transport is not null) config.HttpClientFactory = transport;
            if (_own is null) return;
            config.ServiceURL = _own.Address.ToString();
            config.DefaultAWSCredentials = new BasicAWSCredentials("test", "test");
        });
    }

    public DynamoStateStore Store(IAmazonDynamoDB client, DynamoOptions? options = null, TimeProvider? time = null) =>
        new(client, Table, options ?? DynamoOptions.Default, time ?? TimeProvider.System, new Random(1));
}
