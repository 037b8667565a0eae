using Skiff.Aws;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>What the SDK reads from the environment. Alone, since the environment is everybody's.</summary>
[CollectionDefinition(nameof(AwsEnvironmentTests), DisableParallelization = true)]
[Collection(nameof(AwsEnvironmentTests))]
public sealed class AwsEnvironmentTests(MotoServer moto) : IAsyncLifetime
{
    private readonly Bucket _bucket = new(moto);
    private readonly Dictionary<string, string?> _before = [];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync() => _bucket.MakeAsync();

    public ValueTask DisposeAsync()
    {
        foreach (var (name, value) in _before) Environment.SetEnvironmentVariable(name, value);
        return _bucket.DisposeAsync();
    }

    [Fact]
    public async Task EndpointUrl_IsWhereBothAre()
    {
        Set("AWS_ENDPOINT_URL", moto.Sqs!.AbsoluteUri);
        using var store = new S3ObjectStore(_bucket.Location);
        using var queue = new SqsFeedbackQueue(await moto.MakeQueueAsync($"skiff-tests-{Guid.NewGuid():n}"), new SqsOptions { Wait = TimeSpan.FromSeconds(1) });

        Assert.True(await store.TryCreateAsync("a/b", "x"u8.ToArray(), Cancellation));
        await queue.SendAsync([Some.Feedback("f1")], Cancellation);

        Assert.Equal(["b"], await store.ListAsync("a", Cancellation));
        Assert.Equal("f1", Assert.Single(await queue.ReceiveAsync(10, Cancellation)).Message.FeedbackId);
    }

    [Fact]
    public async Task NoCredentials_IsAnErrorThatSaysWhatToSet()
    {
        foreach (var name in new[] { "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI" }) Set(name, null);
        foreach (var name in new[] { "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE" }) Set(name, Path.Combine(Path.GetTempPath(), "skiff-no-such-file"));
        Set("AWS_EC2_METADATA_DISABLED", "true");

        var error = await Assert.ThrowsAsync<StoreException>(async () => await _bucket.Open().GetAsync("a/b", Cancellation));

        Assert.Equal($"can't read 'a/b' in {_bucket.Location}: there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the function a role", error.Message);
    }

    private void Set(string name, string? value)
    {
        _before.TryAdd(name, Environment.GetEnvironmentVariable(name));
        Environment.SetEnvironmentVariable(name, value);
    }
}
