using Amazon.S3;
using Amazon.S3.Model;
using Skiff.Aws;
using Skiff.Support;

[assembly: AssemblyFixture(typeof(MotoServer))]

namespace Skiff.Stores;

/// <summary>A bucket for one test, and stores below one prefix of it. Skips the test where there is no S3.</summary>
internal sealed class Bucket(MotoServer moto) : IAsyncDisposable
{
    private readonly List<IDisposable> _opened = [];
    private AmazonS3Client? _s3;

    public string Name { get; } = $"skiff-tests-{Guid.NewGuid():n}";

    public string Location => $"s3://{Name}/some/prefix";

    /// <summary>Bare, for what the store itself does not do.</summary>
    public AmazonS3Client S3 => _s3!;

    public async ValueTask MakeAsync()
    {
        Assert.SkipWhen(moto.S3 is null, MotoServer.Missing);
        _s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = moto.S3!.AbsoluteUri, ForcePathStyle = true });
        await _s3.PutBucketAsync(Name);
    }

    /// <summary>One more client, straight to S3 unless the options say otherwise.</summary>
    public S3ObjectStore Open(S3Options? options = null, string? location = null)
    {
        options ??= new S3Options();
        var store = new S3ObjectStore(location ?? Location, options with { Endpoint = options.Endpoint ?? moto.S3 });
        lock (_opened) _opened.Add(store);
        return store;
    }

    public Task<FaultProxy> ProxyAsync() => FaultProxy.StartAsync(moto.S3!);

    /// <returns>Multipart uploads that were begun and neither completed nor given up.</returns>
    public async Task<int> UploadsAsync() =>
        (await S3.ListMultipartUploadsAsync(new ListMultipartUploadsRequest { BucketName = Name })).MultipartUploads?.Count ?? 0;

    public async ValueTask DisposeAsync()
    {
        foreach (var store in _opened) store.Dispose();
        if (_s3 is null) return;
        for (var more = true; more;)
        {
            var page = await _s3.ListObjectsV2Async(new ListObjectsV2Request { BucketName = Name });
            foreach (var item in page.S3Objects ?? []) await _s3.DeleteObjectAsync(Name, item.Key);
            more = page.IsTruncated == true;
        }
        await _s3.DeleteBucketAsync(Name);
        _s3.Dispose();
    }
}
