using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Amazon.S3;
using Amazon.S3.Model;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Benchmarks;

/// <summary>An executable, how it is published, and for which framework.</summary>
internal sealed record Published(string Name, string Framework, string Project, params string[] Properties)
{
    public static readonly Published Aot = new("Skiff, NativeAOT", "net9.0", "functions/Predict", "SkiffFramework=net9.0", "PublishAot=true");
    public static readonly Published Jit9 = new("Skiff, JIT", "net9.0", "functions/Predict", "SkiffFramework=net9.0");
    public static readonly Published Jit10 = new("Skiff, JIT", "net10.0", "functions/Predict");
    public static readonly Published Baseline = new("baseline, JIT", "net10.0", "tests/Benchmarks/Baseline/Endpoint");

    private string Folder => $"{Name.Replace(", ", "-").ToLowerInvariant()}-{Framework}";

    public string FolderIn(string folder) => Path.Combine(folder, Folder);

    public string ProgramIn(string folder) => Path.Combine(folder, Folder, "bootstrap");

    /// <summary>Publishes it, unless it lies there already.</summary>
    public async Task MakeAsync(string folder)
    {
        if (File.Exists(ProgramIn(folder))) return;
        Console.Error.WriteLine($"... publishing {Name} ({Framework})");
        try
        {
            await PublishedFunction.MakeAsync(Project, FolderIn(folder), Properties);
        }
        catch (InvalidOperationException e)
        {
            throw new BenchmarkException($"{e.Message}\n(NativeAOT needs clang or gcc, and zlib's headers: apt-get install clang zlib1g-dev)");
        }
    }
}

/// <summary>A model in S3, as Skiff has it and as a bare object, and a request for it with the answer that is right.</summary>
internal sealed class Deployment
{
    public const string Model = "fm_small";
    private const string Tenant = "acme";

    private readonly float[] _logits;
    private readonly Uri _s3;
    private readonly string _bucket = $"skiff-{Guid.NewGuid():n}";
    private readonly string _entry;

    private Deployment(Uri s3, Samples samples)
    {
        _s3 = s3;
        ModelFile = Path.Combine(Path.GetDirectoryName(samples.ModelFile)!, Model + ".onnx");
        (Key, _entry) = ApiKeys.Create(Tenant, Scopes.Predict);
        (Body, _logits) = InferRequests.Single(samples, ModelFile);
        Event = LambdaEvents.HttpApi(e =>
        {
            e["rawPath"] = Route;
            e["rawQueryString"] = "";
            e["requestContext"]!["http"]!["path"] = Route;
            e["headers"] = new JsonObject { ["content-type"] = "application/json", ["authorization"] = $"Bearer {Key}", ["host"] = "id.execute-api.us-east-1.amazonaws.com" };
            e["body"] = Encoding.UTF8.GetString(Body);
        });
    }

    public static string Route => $"/v2/models/{Model}/infer";

    public string ModelFile { get; }
    public string Key { get; }

    /// <summary>One image, JSON.</summary>
    public byte[] Body { get; }

    /// <summary>The same as an event of an HTTP API.</summary>
    public string Event { get; }

    /// <summary>The settings of Predict.</summary>
    public IReadOnlyList<(string Name, string Value)> Settings =>
    [
        ("AWS_ENDPOINT_URL", _s3.AbsoluteUri), ("SKIFF_MODEL_STORE", $"s3://{_bucket}"), ("SKIFF_STATE", "dynamodb://none"), ("SKIFF_QUEUE", "sqs://123456789012/none.fifo"),
        ("SKIFF_API_KEYS", _entry), ("SKIFF_SECRET", "the same for every instance"), ("SKIFF_PRELOAD", Model),
    ];

    /// <summary>The settings of the baseline.</summary>
    public IReadOnlyList<(string Name, string Value)> BaselineSettings => [("AWS_ENDPOINT_URL", _s3.AbsoluteUri), ("MODEL", $"{_bucket}/{Model}.onnx")];

    public static async Task<Deployment> MakeAsync(MotoServer moto)
    {
        if (moto.S3 is null) throw new BenchmarkException(MotoServer.Missing);
        var deployment = new Deployment(moto.S3, Samples.Load(null, 1));
        var content = await File.ReadAllBytesAsync(deployment.ModelFile);
        using var s3 = new AmazonS3Client(new AmazonS3Config { ServiceURL = moto.S3.AbsoluteUri, ForcePathStyle = true });
        await s3.PutBucketAsync(deployment._bucket);
        await s3.PutObjectAsync(new PutObjectRequest { BucketName = deployment._bucket, Key = $"{Model}.onnx", InputStream = new MemoryStream(content) });
        using var objects = new S3ObjectStore($"s3://{deployment._bucket}", new S3Options { Endpoint = moto.S3 });
        await new Publisher(new ModelStore(objects, TimeProvider.System), ModelLimits.Default).PushAsync(Tenant, content, Model, ModelStore.Live, CancellationToken.None);
        return deployment;
    }

    /// <exception cref="BenchmarkException">The function failed, or answered wrongly.</exception>
    public void Verify(string name, LambdaReport report)
    {
        if (report.What != "response" || report.Json.GetProperty("statusCode").GetInt32() != 200) throw new BenchmarkException($"{name} answered {report.What}: {report.Text}");
        Verify(name, Encoding.UTF8.GetBytes(report.Json.GetProperty("body").GetString()!));
    }

    /// <exception cref="BenchmarkException">The answer is wrong.</exception>
    public void Verify(string name, byte[] answer)
    {
        using var body = JsonDocument.Parse(answer);
        var given = body.RootElement.GetProperty("outputs")[0].GetProperty("data").EnumerateArray().Select(value => value.GetSingle()).ToArray();
        if (given.Length != _logits.Length || given.Zip(_logits).Any(pair => Math.Abs(pair.First - pair.Second) > 1e-4f)) throw new BenchmarkException($"{name} answered wrongly: {Encoding.UTF8.GetString(answer)}");
    }
}
