using System.Security.Cryptography;
using Amazon.S3;
using Skiff.Aws;
using Skiff.Benchmarks.Bare;
using Skiff.Store;

namespace Skiff.Benchmarks.Suites;

/// <summary>The S3 store, and the model store above it, beside ranged downloads written by hand.</summary>
internal static class ObjectStores
{
    private const string Http = "bare HTTP", Sdk = "bare SDK", Objects = "S3ObjectStore.GetAsync", Models = "ModelStore.ContentAsync", Hash = "sha256 alone";

    public static async Task MeasureAsync(Report report, Uri moto, int size, int rounds, TimeSpan warmUp)
    {
        var content = new byte[size];
        new Random(size).NextBytes(content);
        var manifest = new Manifest
        {
            Kind = ArtifactKind.Model,
            Name = "large",
            Version = 1,
            Sha256 = Convert.ToHexStringLower(SHA256.HashData(content)),
            Bytes = size,
            Created = DateTimeOffset.UnixEpoch,
            By = "benchmarks",
        };
        var options = new S3Options();
        var download = new Download(moto, $"skiff-benchmarks-{Guid.NewGuid():n}", $"default/blobs/{manifest.Sha256}", size, options.PartBytes, options.Parallel);
        using (var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = moto.AbsoluteUri, ForcePathStyle = true })) await s3.PutBucketAsync(download.Bucket);
        using (var store = new S3ObjectStore($"s3://{download.Bucket}", options with { Endpoint = moto })) await store.TryCreateAsync(download.Key, content, CancellationToken.None);

        using var scratch = new ScratchFolder();
        var file = Path.Combine(scratch.Path, "object");
        await File.WriteAllBytesAsync(file, content);
        using var server = RangeServer.Start(file);

        report.Text($"\nObjects: {size >> 20} MiB in parts of {options.PartBytes >> 20} MiB, {options.Parallel} at once, {rounds} rounds of a download, by turns. "
            + "moto is Python and slow; the range server is as much of S3 as a download needs, written for speed, so that our own share shows. The bare downloads know the size; the store learns it from the first part's answer, "
            + $"and asks for the others only if they have its tag. {Models} hashes what has come when all of it has: not meanwhile, so its time is a download's and a hash's one after the other.");
        foreach (var (key, title, endpoint) in new[] { ("moto", "moto", moto), ("fast", "a range server", new Uri($"http://{server.EndPoint}")) })
        {
            Suite.Progress($"objects: {title}");
            await DownloadsAsync(report, key, title, download with { Endpoint = endpoint }, manifest, content, rounds, warmUp, options);
        }
    }

    private static async Task DownloadsAsync(Report report, string key, string title, Download download, Manifest manifest, byte[] content, int rounds, TimeSpan warmUp, S3Options options)
    {
        using var http = new HttpDownload(download);
        using var sdk = new SdkDownload(download);
        using var store = new S3ObjectStore($"s3://{download.Bucket}", options with { Endpoint = download.Endpoint });
        var models = new ModelStore(store, TimeProvider.System);
        Downloader[] contenders =
        [
            new(Http, http.RunAsync),
            new(Sdk, sdk.RunAsync),
            new(Objects, async () => (await store.GetAsync(download.Key, CancellationToken.None))!.Content),
            new(Models, () => models.ContentAsync("default", manifest, CancellationToken.None)),
            new(Hash, () =>
            {
                SHA256.HashData(content);
                return Task.FromResult(content);
            }),
        ];
        foreach (var contender in contenders)
        {
            if (!(await contender.DownloadAsync()).AsSpan().SequenceEqual(content)) throw new BenchmarkException($"what {contender.Name} got from {title} is not the object.");
        }
        var costs = await Turns.MeasureAsync(contenders, rounds, operations: 1, warmUp);

        var medians = contenders.Select(contender => (contender.Name, Effort: Effort.Median(costs[contender.Name]))).ToDictionary(row => row.Name, row => row.Effort);
        var mebibytes = content.Length / (double)(1 << 20);
        report.Heading($"Objects from {title}");
        report.Table(1, ["by", "ms", "MiB/s", "CPU ms", "allocated MiB", "rate ÷ bare SDK's", "rate ÷ bare HTTP's"], medians.Select(row => new[]
        {
            row.Key,
            Report.Number(row.Value.Milliseconds, "0.0"),
            Report.Number(mebibytes / row.Value.Milliseconds * 1000, "0"),
            Report.Number(row.Value.CpuMicroseconds / 1000, "0.0"),
            Report.Number(row.Value.AllocatedBytes / (1 << 20), "0.0"),
            Report.Number(medians[Sdk].Milliseconds / row.Value.Milliseconds, "0.000"),
            Report.Number(medians[Http].Milliseconds / row.Value.Milliseconds, "0.000"),
        }));
        foreach (var (name, part) in new[] { (Http, "http"), (Sdk, "sdk"), (Objects, "get"), (Models, "content"), (Hash, "sha256") })
            report.Add($"stores/objects/{key}/{part}", mebibytes / medians[name].Milliseconds * 1000, "MiB/s");
        report.Add($"stores/objects/{key}/get:sdk", medians[Sdk].Milliseconds / medians[Objects].Milliseconds, "ratio", Goal.AtLeast(0.9));
        report.Add($"stores/objects/{key}/get:http", medians[Http].Milliseconds / medians[Objects].Milliseconds, "ratio", Goal.AtLeast(0.9));
        report.Add($"stores/objects/{key}/content:sdk", medians[Sdk].Milliseconds / medians[Models].Milliseconds, "ratio");
    }

    private sealed class Downloader(string name, Func<Task<byte[]>> download) : Contender(name)
    {
        public Task<byte[]> DownloadAsync() => download();

        public override Task RunAsync() => download();
    }
}
