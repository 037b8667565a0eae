using System.Net;
using System.Net.Http.Headers;
using Amazon.S3;
using Amazon.S3.Model;

namespace Skiff.Benchmarks.Bare;

/// <summary>An object in parts of <paramref name="PartBytes"/>, <paramref name="Parallel"/> at once. Who downloads it bare knows its size already.</summary>
internal sealed record Download(Uri Endpoint, string Bucket, string Key, int Size, int PartBytes, int Parallel)
{
    public async Task<byte[]> RunAsync(Func<int, Memory<byte>, CancellationToken, Task> readPart)
    {
        var content = GC.AllocateUninitializedArray<byte>(Size);
        await System.Threading.Tasks.Parallel.ForAsync(0, (Size + PartBytes - 1) / PartBytes, new ParallelOptions { MaxDegreeOfParallelism = Parallel }, async (part, token) =>
        {
            var offset = part * PartBytes;
            await readPart(offset, content.AsMemory(offset, Math.Min(PartBytes, Size - offset)), token);
        });
        return content;
    }
}

/// <summary>Ranged requests over HTTP and nothing else: no signature, no retries, no limit in time.</summary>
internal sealed class HttpDownload(Download download) : IDisposable
{
    private readonly HttpClient http = new(new SocketsHttpHandler { UseProxy = false, AllowAutoRedirect = false });
    private readonly Uri address = new(download.Endpoint, $"/{download.Bucket}/{download.Key}");

    public Task<byte[]> RunAsync() => download.RunAsync(async (offset, into, token) =>
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, address) { Headers = { Range = new RangeHeaderValue(offset, offset + into.Length - 1) } };
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, token);
        if (response.StatusCode != HttpStatusCode.PartialContent) throw new BenchmarkException($"{address} answered {(int)response.StatusCode} to a ranged request");
        await using var body = await response.Content.ReadAsStreamAsync(token);
        await body.ReadExactlyAsync(into, token);
    });

    public void Dispose() => http.Dispose();
}

/// <summary>The SDK's client with its own settings.</summary>
internal sealed class SdkDownload(Download download) : IDisposable
{
    private readonly AmazonS3Client s3 = new(new AmazonS3Config { ServiceURL = download.Endpoint.AbsoluteUri, ForcePathStyle = true });

    public Task<byte[]> RunAsync() => download.RunAsync(async (offset, into, token) =>
    {
        var request = new GetObjectRequest { BucketName = download.Bucket, Key = download.Key, ByteRange = new ByteRange(offset, offset + into.Length - 1) };
        using var response = await s3.GetObjectAsync(request, token);
        await response.ResponseStream.ReadExactlyAsync(into, token);
    });

    public void Dispose() => s3.Dispose();
}
