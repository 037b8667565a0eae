using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>How the store talks to S3. Region, credentials and <c>AWS_MAX_ATTEMPTS</c> are the SDK's business.</summary>
public sealed record S3Options
{
    /// <summary>S3's own lower limit for a part that is not the last.</summary>
    public const int LeastPartBytes = 5 << 20;

    /// <summary>Null: where the SDK finds it, that is AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile, or else the region's.</summary>
    public Uri? Endpoint { get; init; }

    /// <summary>Larger objects are read and written in parts of this size; at least <see cref="LeastPartBytes"/>.</summary>
    public int PartBytes { get; init; } = 8 << 20;

    /// <summary>Parts on their way at once, 1 to 64. One connection to S3 carries some 50 to 90 MB/s.</summary>
    public int Parallel { get; init; } = 4;

    /// <summary>
    /// Bounds one attempt at one request, a whole part included: with 8 MiB at least ½ MiB/s. A request is given up after three such attempts (AWS_MAX_ATTEMPTS) and
    /// their pauses, 50 s; an operation is one request, or one for every <see cref="Parallel"/> parts. An object's body that stalls is asked for again like everything else;
    /// a list that stalls within its answer is given up at the end of the 50 s.
    /// </summary>
    public TimeSpan AttemptTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Names per page of a list; S3 gives 1,000 at most.</summary>
    public int PageSize { get; init; } = 1000;

    internal S3Options Check()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(PartBytes, LeastPartBytes);
        ArgumentOutOfRangeException.ThrowIfLessThan(Parallel, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Parallel, 64);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(AttemptTimeout, TimeSpan.Zero);
        return this;
    }
}

/// <summary>
/// Objects in a bucket. Both conditional writes are S3's own (<c>If-None-Match: *</c>, <c>If-Match</c>), so they hold between machines. A write whose answer was lost is
/// repeated by the SDK and then meets itself: every object carries the ids of its last writes as metadata, and so "somebody was faster" is told from "that was me".
/// The bucket should expire incomplete multipart uploads after a day: a killed writer leaves one.
/// </summary>
public sealed class S3ObjectStore : IObjectStore, IDisposable
{
    private const string WritesHeader = "x-amz-meta-skiff-writes";
    private const int WritesBytes = 1900; // 210 ids; S3 takes 2 KB of metadata
    private const int MostConflicts = 8;
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan LongestPauses = TimeSpan.FromSeconds(5);

    private readonly S3Options _options;
    private readonly AmazonS3Client _s3;
    private readonly string _bucket;
    private readonly string _prefix; // empty, or ends in '/'
    private readonly int _attempts;
    private readonly TimeSpan _limit;

    /// <param name="location"><c>s3://BUCKET</c> or <c>s3://BUCKET/PREFIX</c>.</param>
    /// <exception cref="FormatException">The location is something else.</exception>
    /// <exception cref="StoreException">There is neither a region nor an endpoint.</exception>
    public S3ObjectStore(string location, S3Options? options = null)
    {
        (_bucket, _prefix) = Parse(location);
        Location = $"s3://{_bucket}/{_prefix}".TrimEnd('/');
        _options = (options ?? new S3Options()).Check();
        var config = new AmazonS3Config { RetryMode = RequestRetryMode.Standard, Timeout = _options.AttemptTimeout, ConnectTimeout = ConnectTimeout };
        if (_options.Endpoint is { } endpoint) config.ServiceURL = endpoint.AbsoluteUri;
        try
        {
            _s3 = new AmazonS3Client(config);
        }
        catch (AmazonClientException e)
        {
            throw new StoreException($"can't use {Location}: {e.Message}; set AWS_REGION, or AWS_ENDPOINT_URL for an emulator", e);
        }
        // Emulators have no host name for every bucket. Not before the client has looked for the region: the SDK forgets an AWS_ENDPOINT_URL that was read earlier.
        config.ForcePathStyle = !string.IsNullOrEmpty(config.ServiceURL);
        _attempts = config.MaxErrorRetry + 1;
        _limit = _attempts * _options.AttemptTimeout + LongestPauses;
    }

    public string Location { get; }

    public void Dispose() => _s3.Dispose();

    public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return await ReadAsync(key, cancellation);
            }
            catch (StoreException e) when (IsMissing(e))
            {
                return null;
            }
            catch (StoreException e) when (attempt < _attempts && (e.Is(HttpStatusCode.PreconditionFailed) || e.Is(HttpStatusCode.RequestedRangeNotSatisfiable)))
            {
                // It was replaced between two of its parts: the new one is read from its start.
            }
        }
    }

    public ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation) => WriteAsync(key, content, null, cancellation);

    public ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation) =>
        WriteAsync(key, content, expectedTag, cancellation);

    public async ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation)
    {
        var folder = _prefix + (prefix.Length == 0 ? "" : prefix + "/");
        var names = new SortedSet<string>(StringComparer.Ordinal);
        var request = new ListObjectsV2Request { BucketName = _bucket, Prefix = folder, Delimiter = "/", MaxKeys = _options.PageSize };
        do
        {
            var page = await CallAsync("list", prefix, token => _s3.ListObjectsV2Async(request, token), cancellation);
            foreach (var below in page.CommonPrefixes ?? []) names.Add(below[folder.Length..^1]);
            foreach (var item in page.S3Objects ?? []) names.Add(item.Key[folder.Length..]);
            request.ContinuationToken = page.NextContinuationToken;
        }
        while (request.ContinuationToken is not null);
        // Consoles make "folders" of empty objects with the folder's own name.
        names.Remove("");
        return [.. names];
    }

    private static (string Bucket, string Prefix) Parse(string location)
    {
        const string scheme = "s3://";
        if (location.StartsWith(scheme, StringComparison.Ordinal))
        {
            var parts = location[scheme.Length..].TrimEnd('/').Split('/');
            if (parts.All(part => part.Length > 0 && part is not "." and not "..")) return (parts[0], parts.Length == 1 ? "" : string.Join('/', parts[1..]) + "/");
        }
        throw new FormatException($"'{location}' is no place in S3: it takes s3://BUCKET or s3://BUCKET/PREFIX");
    }

    // Reading: the first part tells size and tag; the others are fetched meanwhile, and only as long as the tag is the same.

    private async Task<StoredObject> ReadAsync(string key, CancellationToken cancellation)
    {
        GetObjectResponse first;
        try
        {
            first = await OpenAsync(key, 0, null, cancellation);
        }
        catch (StoreException e) when (e.Is(HttpStatusCode.RequestedRangeNotSatisfiable))
        {
            // Not even one byte: the object is empty.
            var empty = await HeadAsync(key, cancellation);
            if (empty.ContentLength != 0) throw;
            return new StoredObject([], TagOf(empty.ETag, empty.Metadata));
        }
        using (first)
        {
            var size = SizeOf(first);
            if (size > Array.MaxLength) throw new StoreException($"can't read {Name(key)}: it has {size} bytes, more than {Array.MaxLength}");
            var content = GC.AllocateUninitializedArray<byte>((int)size);
            var parts = Math.Max(1, (int)((size + _options.PartBytes - 1) / _options.PartBytes));
            await InParallelAsync(parts, (part, token) => ReadPartAsync(key, first, content, part, token), cancellation);
            return new StoredObject(content, TagOf(first.ETag, first.Metadata));
        }
    }

    /// <summary>Reads a part. The SDK repeats requests until there is an answer; that its body breaks off or stalls is for us to notice and to repeat.</summary>
    private async Task ReadPartAsync(string key, GetObjectResponse first, byte[] content, int part, CancellationToken cancellation)
    {
        var offset = (long)part * _options.PartBytes;
        var into = content.AsMemory((int)offset, (int)Math.Min(_options.PartBytes, content.Length - offset));
        var opened = part == 0 ? first : null;
        await CallAsync(
            "read",
            key,
            async token =>
            {
                for (var attempt = 1; ; attempt++)
                {
                    try
                    {
                        using var response = opened ?? await SendGetAsync(key, offset, first.ETag, token);
                        using var limited = CancellationTokenSource.CreateLinkedTokenSource(token);
                        limited.CancelAfter(_options.AttemptTimeout);
                        await response.ResponseStream.ReadExactlyAsync(into, limited.Token);
                        return true;
                    }
                    catch (Exception e) when (attempt < _attempts && !token.IsCancellationRequested && AwsCall.IsExpected(e) && e is not AmazonServiceException)
                    {
                        opened = null;
                    }
                }
            },
            cancellation);
    }

    private Task<GetObjectResponse> OpenAsync(string key, long offset, string? etag, CancellationToken cancellation) =>
        CallAsync("read", key, token => SendGetAsync(key, offset, etag, token), cancellation);

    private Task<GetObjectResponse> SendGetAsync(string key, long offset, string? etag, CancellationToken cancellation) => _s3.GetObjectAsync(
        new GetObjectRequest { BucketName = _bucket, Key = _prefix + key, ByteRange = new ByteRange(offset, offset + _options.PartBytes - 1), EtagToMatch = etag }, cancellation);

    private static long SizeOf(GetObjectResponse response)
    {
        // "bytes 0-8388607/12345678"; without it the answer is the whole object.
        var range = response.ContentRange;
        return range is null ? response.ContentLength : long.Parse(range.AsSpan(range.IndexOf('/') + 1), NumberStyles.None, CultureInfo.InvariantCulture);
    }

    // Writing

    private async ValueTask<bool> WriteAsync(string key, ReadOnlyMemory<byte> content, string? expectedTag, CancellationToken cancellation)
    {
        var (etag, before) = SplitTag(expectedTag);
        var id = Convert.ToBase64String(RandomNumberGenerator.GetBytes(6));
        var writes = id;
        foreach (var earlier in before)
        {
            if (writes.Length + 1 + earlier.Length > WritesBytes) break;
            writes += "," + earlier;
        }
        for (var conflicts = 1; ; conflicts++)
        {
            try
            {
                if (content.Length <= _options.PartBytes) await PutAsync(key, content, etag, writes, cancellation);
                else if (!await PutPartsAsync(key, content, etag, writes, cancellation)) return false;
                return true;
            }
            catch (StoreException e) when (e.Is(HttpStatusCode.PreconditionFailed) || IsMissing(e))
            {
                return await IsOursAsync(key, id, cancellation);
            }
            catch (StoreException e) when (e.Is(HttpStatusCode.Conflict) && conflicts < MostConflicts)
            {
                // Another write of the key was under way and S3 does not say which will win: ask again.
                await Task.Delay(Random.Shared.Next(20, 100 * conflicts), cancellation);
            }
        }
    }

    private Task PutAsync(string key, ReadOnlyMemory<byte> content, string? etag, string writes, CancellationToken cancellation)
    {
        var request = new PutObjectRequest { BucketName = _bucket, Key = _prefix + key, ContentType = TypeOf(key) };
        if (etag is null) request.IfNoneMatch = "*";
        else request.IfMatch = etag;
        request.Metadata[WritesHeader] = writes;
        return CallAsync(
            "write",
            key,
            token =>
            {
                request.InputStream = StreamOf(content); // the SDK closes it
                return _s3.PutObjectAsync(request, token);
            },
            cancellation);
    }

    /// <returns>False when the key is taken, noticed before anything was sent.</returns>
    private async Task<bool> PutPartsAsync(string key, ReadOnlyMemory<byte> content, string? etag, string writes, CancellationToken cancellation)
    {
        // The condition is looked at when the upload is completed; that is late to hear that it was all for nothing.
        if (etag is null && await FindAsync(key, cancellation) is not null) return false;
        var start = new InitiateMultipartUploadRequest { BucketName = _bucket, Key = _prefix + key, ContentType = TypeOf(key), ChecksumAlgorithm = ChecksumAlgorithm.CRC32 };
        start.Metadata[WritesHeader] = writes;
        var upload = (await CallAsync("write", key, token => _s3.InitiateMultipartUploadAsync(start, token), cancellation)).UploadId;
        try
        {
            var parts = new UploadPartResponse[(content.Length + _options.PartBytes - 1) / _options.PartBytes];
            await InParallelAsync(
                parts.Length,
                async (part, token) =>
                {
                    var offset = part * _options.PartBytes;
                    var request = new UploadPartRequest { BucketName = _bucket, Key = _prefix + key, UploadId = upload, PartNumber = part + 1, ChecksumAlgorithm = ChecksumAlgorithm.CRC32 };
                    parts[part] = await CallAsync(
                        "write",
                        key,
                        within =>
                        {
                            request.InputStream = StreamOf(content.Slice(offset, Math.Min(_options.PartBytes, content.Length - offset)));
                            return _s3.UploadPartAsync(request, within);
                        },
                        token);
                },
                cancellation);
            var complete = new CompleteMultipartUploadRequest { BucketName = _bucket, Key = _prefix + key, UploadId = upload };
            if (etag is null) complete.IfNoneMatch = "*";
            else complete.IfMatch = etag;
            complete.AddPartETags(parts);
            await CallAsync("write", key, token => _s3.CompleteMultipartUploadAsync(complete, token), cancellation);
            return true;
        }
        catch
        {
            await AbortAsync(key, upload);
            throw;
        }
    }

    private async Task AbortAsync(string key, string upload)
    {
        try
        {
            var request = new AbortMultipartUploadRequest { BucketName = _bucket, Key = _prefix + key, UploadId = upload };
            await CallAsync("clean up after", key, token => _s3.AbortMultipartUploadAsync(request, token), CancellationToken.None);
        }
        catch (StoreException)
        {
            // What failed first is what the caller hears of; the bucket's lifecycle removes the parts.
        }
    }

    private async Task<bool> IsOursAsync(string key, string id, CancellationToken cancellation) =>
        await FindAsync(key, cancellation) is { } found && SplitTag(TagOf(found.ETag, found.Metadata)).Writes.Contains(id);

    private async Task<GetObjectMetadataResponse?> FindAsync(string key, CancellationToken cancellation)
    {
        try
        {
            return await HeadAsync(key, cancellation);
        }
        catch (StoreException e) when (IsMissing(e))
        {
            return null;
        }
    }

    private async Task<GetObjectMetadataResponse> HeadAsync(string key, CancellationToken cancellation)
    {
        try
        {
            return await SendHeadAsync(key, cancellation);
        }
        catch (StoreException e) when (e.Is(HttpStatusCode.Forbidden))
        {
            // The answer to HEAD has no body that could say why. GET's says it, and where it is our clock, the SDK then knows the time.
            await AskAsync(key, cancellation);
            return await SendHeadAsync(key, cancellation);
        }
    }

    /// <summary>A GET that sends no content back: it fails with the reason, or does nothing.</summary>
    private async Task AskAsync(string key, CancellationToken cancellation)
    {
        try
        {
            var request = new GetObjectRequest { BucketName = _bucket, Key = _prefix + key, EtagToMatch = "\"none\"" };
            using var response = await CallAsync("read", key, token => _s3.GetObjectAsync(request, token), cancellation);
        }
        catch (StoreException e) when (e.Is(HttpStatusCode.PreconditionFailed))
        {
            // As no object has that tag.
        }
    }

    private Task<GetObjectMetadataResponse> SendHeadAsync(string key, CancellationToken cancellation) =>
        CallAsync("read", key, token => _s3.GetObjectMetadataAsync(new GetObjectMetadataRequest { BucketName = _bucket, Key = _prefix + key }, token), cancellation);

    /// <summary>What S3 compares, and the ids of the last writes, newest first.</summary>
    private static string TagOf(string etag, MetadataCollection metadata) => $"{etag} {metadata[WritesHeader]}";

    private static (string? ETag, string[] Writes) SplitTag(string? tag)
    {
        if (tag is null) return (null, []);
        var space = tag.IndexOf(' ');
        return space < 0 ? (tag, []) : (tag[..space], tag[(space + 1)..].Split(',', StringSplitOptions.RemoveEmptyEntries));
    }

    // "NotFound" is all that the answer to HEAD can say. An answer that broke off says nothing, whatever its status.
    private static bool IsMissing(StoreException e) => e.Refusal()?.ErrorCode is "NoSuchKey" or "NotFound" or "NoSuchUpload";

    private static string TypeOf(string key) => key.EndsWith(".json", StringComparison.Ordinal) ? "application/json" : "application/octet-stream";

    private static MemoryStream StreamOf(ReadOnlyMemory<byte> content) =>
        MemoryMarshal.TryGetArray(content, out var array) ? new MemoryStream(array.Array!, array.Offset, array.Count, writable: false) : new MemoryStream(content.ToArray(), writable: false);

    private Task InParallelAsync(int parts, Func<int, CancellationToken, Task> action, CancellationToken cancellation) => Parallel.ForAsync(
        0, parts, new ParallelOptions { MaxDegreeOfParallelism = _options.Parallel, CancellationToken = cancellation }, async (part, token) => await action(part, token));

    private string Name(string key) => $"'{key}' in {Location}";

    private Task<T> CallAsync<T>(string verb, string key, Func<CancellationToken, Task<T>> call, CancellationToken cancellation) => AwsCall.RunAsync(
        $"{verb} {Name(key)}",
        _limit,
        async token =>
        {
            for (var attempt = 1; ; attempt++)
            {
                try
                {
                    return await call(token);
                }
                catch (AmazonUnmarshallingException) when (attempt < _attempts)
                {
                    // The answer broke off where its status alone doesn't let the SDK ask again: half of a 404 may be anything.
                }
            }
        },
        cancellation);
}
