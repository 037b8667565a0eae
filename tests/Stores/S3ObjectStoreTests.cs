using Amazon.S3.Model;
using Skiff.Aws;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>The suite in a bucket, and what is S3's own. <see cref="S3FaultTests"/> has what the network does to it.</summary>
public sealed class S3ObjectStoreTests(MotoServer moto) : ObjectStoreTests, IAsyncLifetime
{
    private const int PartBytes = S3Options.LeastPartBytes;

    private readonly Bucket _bucket = new(moto);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync() => _bucket.MakeAsync();

    public ValueTask DisposeAsync() => _bucket.DisposeAsync();

    [Theory]
    [InlineData(1)]
    [InlineData(PartBytes - 1)]
    [InlineData(PartBytes)]
    [InlineData(PartBytes + 1)]
    [InlineData(2 * PartBytes)]
    [InlineData(4 * PartBytes + 12345)]
    public async Task ObjectOfAnySize_IsReadBackAsItWas(int size)
    {
        var content = Some.Bytes(size);
        var store = _bucket.Open(new S3Options { PartBytes = PartBytes, Parallel = 3 });

        Assert.True(await store.TryCreateAsync("t/blobs/large", content, Cancellation));
        Assert.False(await store.TryCreateAsync("t/blobs/large", Some.Bytes(size), Cancellation));

        var stored = (await store.GetAsync("t/blobs/large", Cancellation))!;
        Some.AssertSame(content, stored.Content);
        content[^1] ^= 1;
        Assert.True(await store.TryReplaceAsync("t/blobs/large", content, stored.Tag, Cancellation));
        Some.AssertSame(content, (await Open().GetAsync("t/blobs/large", Cancellation))!.Content);
        Assert.Equal(0, await _bucket.UploadsAsync());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task LargeObjectThatSomebodyElseWroteMeanwhile_IsKept(bool create)
    {
        if (!create) await Open().TryCreateAsync("a/large", "before"u8.ToArray(), Cancellation);
        var before = await Open().GetAsync("a/large", Cancellation);
        await using var proxy = await _bucket.ProxyAsync();
        // Emulators complete uploads without looking at the condition; what S3 answers is played to us.
        var condition = "";
        proxy.Plan = request =>
        {
            if (request.Method != "POST" || !request.Query.ContainsKey("uploadId")) return Fault.None;
            condition = create ? request.Headers.IfNoneMatch.ToString() : request.Headers.IfMatch.ToString();
            return Fault.Precondition;
        };
        var store = _bucket.Open(new S3Options { Endpoint = proxy.Address, PartBytes = PartBytes });
        var content = Some.Bytes(PartBytes + 1);

        Assert.False(create ? await store.TryCreateAsync("a/large", content, Cancellation) : await store.TryReplaceAsync("a/large", content, before!.Tag, Cancellation));

        Assert.Equal(create ? "*" : before!.Tag.Split(' ')[0], condition);
        Assert.Equal(before?.Content, (await Open().GetAsync("a/large", Cancellation))?.Content);
        Assert.Equal(0, await _bucket.UploadsAsync());
    }

    [Fact]
    public async Task ObjectReplacedBetweenItsParts_IsReadWholeAsTheNewOne()
    {
        var (before, after) = (Some.Bytes(2 * PartBytes + 1), Some.Bytes(2 * PartBytes + 7));
        await Open().TryCreateAsync("a/b", before, Cancellation);
        await using var proxy = await _bucket.ProxyAsync();
        var requests = 0;
        proxy.Plan = _ =>
        {
            if (Interlocked.Increment(ref requests) == 2) Task.Run(() => _bucket.S3.PutObjectAsync(new PutObjectRequest { BucketName = _bucket.Name, Key = "some/prefix/a/b", InputStream = new MemoryStream(after) })).Wait();
            return Fault.None;
        };

        var read = (await _bucket.Open(new S3Options { Endpoint = proxy.Address, PartBytes = PartBytes, Parallel = 1 }).GetAsync("a/b", Cancellation))!.Content;

        Some.AssertSame(after, read);
    }

    [Fact]
    public async Task ListOfManyPages_IsWhole()
    {
        var names = Enumerable.Range(0, 25).Select(i => $"{i:d3}.json").ToArray();
        foreach (var name in names) await Open().TryCreateAsync($"t/models/m/versions/{name}", "{}"u8.ToArray(), Cancellation);
        foreach (var i in Enumerable.Range(0, 25)) await Open().TryCreateAsync($"t/apps/a{i:d3}/aliases/live.json", "{}"u8.ToArray(), Cancellation);

        var store = _bucket.Open(new S3Options { PageSize = 10 });

        Assert.Equal(names, await store.ListAsync("t/models/m/versions", Cancellation));
        Assert.Equal(Enumerable.Range(0, 25).Select(i => $"a{i:d3}"), await store.ListAsync("t/apps", Cancellation));
    }

    [Fact]
    public async Task Objects_HaveATypeAndLieBelowThePrefix()
    {
        await Open().TryCreateAsync("t/models/m/aliases/live.json", "{}"u8.ToArray(), Cancellation);
        await Open().TryCreateAsync("t/blobs/0", "{}"u8.ToArray(), Cancellation);

        Assert.Equal("application/json", (await _bucket.S3.GetObjectMetadataAsync(_bucket.Name, "some/prefix/t/models/m/aliases/live.json", Cancellation)).Headers.ContentType);
        Assert.Equal("application/octet-stream", (await _bucket.S3.GetObjectMetadataAsync(_bucket.Name, "some/prefix/t/blobs/0", Cancellation)).Headers.ContentType);
    }

    [Theory]
    [InlineData("s3://")]
    [InlineData("s3:///prefix")]
    [InlineData("s3://bucket//prefix")]
    [InlineData("s3://bucket/../prefix")]
    [InlineData("bucket")]
    [InlineData("file:///bucket")]
    public void LocationThatIsNone_IsRefused(string location) =>
        Assert.Equal($"'{location}' is no place in S3: it takes s3://BUCKET or s3://BUCKET/PREFIX", Assert.Throws<FormatException>(() => new S3ObjectStore(location)).Message);

    protected override IObjectStore Open() => _bucket.Open();

    protected override IObjectStore OpenUnwritable() => _bucket.Open(location: $"s3://{_bucket.Name}-missing");
}
