using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

namespace Skiff.Support;

/// <summary>
/// S3 and SQS to test against: what <c>AWS_ENDPOINT_URL</c> names, or else a <c>moto_server</c> of our own. Without either both addresses are null and tests skip.
/// </summary>
public sealed class MotoServer : IAsyncDisposable
{
    public const string Missing = "there is no moto_server on PATH: install it with pip install 'moto[server,s3,sqs]>=5.2', or let AWS_ENDPOINT_URL name a LocalStack";

    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);

    private readonly Process? _process;
    private readonly FaultProxy? _lane;

    public MotoServer()
    {
        // Emulators take any; what is set already is for whatever AWS_ENDPOINT_URL names.
        foreach (var (name, value) in new[] { ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1") })
        {
            if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable(name))) Environment.SetEnvironmentVariable(name, value);
        }
        if (Environment.GetEnvironmentVariable("AWS_ENDPOINT_URL") is { Length: > 0 } url)
        {
            S3 = Sqs = new Uri(url);
            return;
        }
        if (!IsOnPath("moto_server")) return;
        // The shell ends it when its standard input closes, also when this process is killed.
        _process = Process.Start(new ProcessStartInfo("sh", ["-c", "moto_server -H 127.0.0.1 -p 0 2>&1 & read end; kill $!"]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        var address = new TaskCompletionSource<Uri>();
        var output = new StringBuilder();
        _process.OutputDataReceived += (_, line) =>
        {
            const string runs = "Running on ";
            if (!address.Task.IsCompleted) output.AppendLine(line.Data);
            if (line.Data is null) address.TrySetException(new InvalidOperationException($"moto_server ended: {output}"));
            else if (line.Data.IndexOf(runs, StringComparison.Ordinal) is >= 0 and var at) address.TrySetResult(new Uri(line.Data[(at + runs.Length)..].Trim()));
        };
        _process.BeginOutputReadLine();
        if (!address.Task.Wait(StartLimit)) throw new TimeoutException($"moto_server did not start within {StartLimit.TotalSeconds} s: {output}");
        Sqs = address.Task.Result;
        _lane = FaultProxy.StartAsync(Sqs, oneAtATime: true).Result;
        S3 = _lane.Address;
    }

    /// <summary>Where S3 is. moto looks at a condition, stores the content and then the metadata: only one request at a time makes it as atomic as S3.</summary>
    public Uri? S3 { get; }

    public Uri? Sqs { get; }

    /// <summary>Makes a FIFO queue.</summary>
    /// <returns>Its place, as <c>SKIFF_QUEUE</c> has it.</returns>
    public async Task<string> MakeQueueAsync(string name)
    {
        using var client = new HttpClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, Sqs)
        {
            Content = new StringContent($$"""{"QueueName":"{{name}}.fifo","Attributes":{"FifoQueue":"true"} }"""),
        };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/x-amz-json-1.0");
        request.Headers.Add("X-Amz-Target", "AmazonSQS.CreateQueue");
        // Emulators read the service from it and check nothing.
        request.Headers.TryAddWithoutValidation("Authorization", "AWS4-HMAC-SHA256 Credential=test/20250101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=none");
        using var response = await client.SendAsync(request);
        var answer = await response.Content.ReadAsStringAsync();
        if (!response.IsSuccessStatusCode) throw new InvalidOperationException($"the queue can't be made: {answer}");
        var path = new Uri(JsonDocument.Parse(answer).RootElement.GetProperty("QueueUrl").GetString()!).AbsolutePath;
        return "sqs:/" + path;
    }

    public async ValueTask DisposeAsync()
    {
        if (_lane is not null) await _lane.DisposeAsync();
        if (_process is null) return;
        _process.StandardInput.Close();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private static bool IsOnPath(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, program)));
}
