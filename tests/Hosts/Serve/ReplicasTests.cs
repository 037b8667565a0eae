using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary><c>skiff serve --replicas 2</c>: processes that run the models behind one that answers.</summary>
public sealed partial class ReplicasTests : IAsyncLifetime
{
    private const int Stop = 19, Continue = 18, Kill = 9;

    private readonly ScratchFolder _folder = new();
    private SkiffProcess _server = null!;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _server = await SkiffProcess.ServeAsync(_folder["data"], "--replicas", "2");

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task AnswersAreThoseOfOneProcess_AndWhatIsOursStaysAmongUs()
    {
        // A user's feedback is learnt in one process and read in another.
        double? before = null;
        await Eventually.HoldsAsync("there is an answer in time", async () => (before = await PredictAsync("ann")) is not null);
        using (var accepted = await _server.Client.PostAsJsonAsync("/apps/films/feedback", new { user = "ann", input = new[] { 42 }, value = 10, feedback_id = "click-1" }, Cancellation)) Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
        await Eventually.HoldsAsync("ann's feedback shows", async () => await PredictAsync("ann") > before + 0.5);

        // Binary tensors, both ways, and a body too long to be held.
        foreach (var (rows, inChunks) in new[] { (3, false), (400, false), (3, true), (400, true) })
        {
            var tensor = new byte[rows * 784 * 4];
            for (var i = 0; i < rows * 784; i++) BitConverter.TryWriteBytes(tensor.AsSpan(4 * i), (i * 37 % 256) / 255f);
            var header = Encoding.UTF8.GetBytes($$"""{"inputs":[{"name":"image","shape":[{{rows}},1,28,28],"datatype":"FP32","parameters":{"binary_data_size":{{tensor.Length}} } }],"parameters":{"binary_data_output":true} }""");
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v2/models/fm_mlp/infer") { Content = new ByteArrayContent([.. header, .. tensor]) };
            request.Headers.Add("Inference-Header-Content-Length", $"{header.Length}");
            request.Headers.TransferEncodingChunked = inChunks;
            using var response = await _server.Client.SendAsync(request, Cancellation);
            var body = await response.Content.ReadAsByteArrayAsync(Cancellation);
            Assert.True(response.StatusCode == HttpStatusCode.OK, Encoding.UTF8.GetString(body));
            var length = int.Parse(response.Headers.GetValues("Inference-Header-Content-Length").Single());
            Assert.Equal(rows * 10 * 4, body.Length - length);
            Assert.DoesNotContain(response.Headers, one => one.Key.StartsWith("Skiff-", StringComparison.OrdinalIgnoreCase));
        }

        // What a page of elsewhere sends is refused behind the router as before it.
        using var foreign = new HttpRequestMessage(HttpMethod.Post, "/apps/films/predict") { Content = new StringContent("""{"input":[42]}""") };
        foreign.Headers.Add("Origin", "http://elsewhere.example");
        using (var refused = await _server.Client.SendAsync(foreign, Cancellation)) Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);

        // A header beyond ASCII is passed on, and nothing against a replica.
        for (var i = 0; i < 8; i++)
        {
            using var plain = new TcpClient();
            await plain.ConnectAsync(_server.Client.BaseAddress!.Host, _server.Client.BaseAddress.Port, Cancellation);
            await plain.GetStream().WriteAsync(Encoding.UTF8.GetBytes("GET /V2/Models/fm_small HTTP/1.1\r\nHost: localhost\r\nX-Name: José\r\nConnection: close\r\n\r\n"), Cancellation);
            using var reader = new StreamReader(plain.GetStream());
            Assert.StartsWith("HTTP/1.1 200 ", await reader.ReadToEndAsync(Cancellation), StringComparison.Ordinal);
        }
        Assert.DoesNotMatch(@"skiff_replica_out\{[^}]*\} 1", await _server.Client.GetStringAsync("/metrics", Cancellation));

        // Each process's figures, by its address, under one head a family.
        var metrics = await _server.Client.GetStringAsync("/metrics", Cancellation);
        Assert.Equal(2, ReplicaOf().Matches(metrics).Select(match => match.Value).Where(line => line.StartsWith("process_resident_memory_bytes", StringComparison.Ordinal)).Distinct().Count());
        Assert.Single(metrics.Split('\n'), line => line.StartsWith("# TYPE process_resident_memory_bytes", StringComparison.Ordinal));
    }

    [Fact]
    public async Task UsersHead_IsKeptWhereItsUserLands_AndItsFeedbackShowsLongBeforeItIsOld()
    {
        // A minute is longer than this test takes: what shows, shows because this process says that the head has changed.
        var publisher = new Publisher(new ModelStore(new FileObjectStore(_folder["data/models"]), TimeProvider.System), ModelLimits.Default);
        var document = Patient.Sample("films/app.json").Replace("\"kind\"", "\"cache\": { \"max_age_ms\": 60000 }, \"kind\"", StringComparison.Ordinal);
        Assert.Contains("max_age_ms", document, StringComparison.Ordinal);
        var version = (await publisher.PushAppAsync("default", Encoding.UTF8.GetBytes(document), Cancellation)).Manifest.Version;
        await Eventually.HoldsAsync("every replica has the new version", async () => (await Task.WhenAll(Enumerable.Range(0, 30).Select(i => VersionAsync($"u{i}")))).All(found => found == version));

        string[] users = [.. Enumerable.Range(0, 30).Select(i => $"u{i}")];
        for (var round = 0; round < 4; round++) await Task.WhenAll(users.Select(user => PredictAsync(user)));
        // Asked everywhere by turns, a user would be looked for in the store by each of the replicas, and more than half of these would be.
        Assert.InRange((await HeadReadsAsync()).Where(read => read.From == "kept").Sum(read => read.Count), 4 * users.Length / 2, int.MaxValue);

        var before = await PredictAsync("u7");
        using (var accepted = await _server.Client.PostAsJsonAsync("/apps/films/feedback", new { user = "u7", input = new[] { 42 }, value = 10 }, Cancellation)) Assert.Equal(HttpStatusCode.Accepted, accepted.StatusCode);
        await Eventually.HoldsAsync("the feedback shows", async () => await PredictAsync("u7") > before + 0.5);
    }

    [Fact]
    public async Task AppThatCameLater_HasItsSilenceLearntInTime()
    {
        var publisher = new Publisher(new ModelStore(new FileObjectStore(_folder["data/models"]), TimeProvider.System), ModelLimits.Default);
        var document = Patient.Sample("films/app.json").Replace("\"name\": \"films\"", "\"name\": \"quiet\", \"feedback\": { \"implicit\": { \"after_s\": 0.2, \"value\": 1 } }", StringComparison.Ordinal);
        await publisher.PushAppAsync("default", Encoding.UTF8.GetBytes(document), Cancellation);

        // Feedback on it, or the next hourly look, would tell the process that learns of it; here is neither.
        using (var response = await _server.Client.PostAsJsonAsync("/apps/quiet/predict", new { user = "ann", input = new[] { 42 } }, Cancellation)) Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        await Eventually.HoldsAsync("silence has counted", async () => Silences().Match(await _server.Client.GetStringAsync("/metrics", Cancellation)) is { Success: true });
    }

    [Fact]
    public async Task ReplicaThatDiesOrHangs_NobodyNotices_AndItComesBack()
    {
        await Task.WhenAll(Enumerable.Range(0, 40).Select(i => PredictAsync($"u{i}")));
        var children = ChildProcesses.Of(_server.Id);
        Assert.Equal(2, children.Count);

        SkiffProcess.Signal(children[0], Kill);
        await Task.WhenAll(Enumerable.Range(0, 40).Select(i => PredictAsync($"u{i}")));
        await Eventually.HoldsAsync("the killed one is back", async () => ChildProcesses.Of(_server.Id).Count == 2 && await OutAfterRequestsAsync() == 0, seconds: 60);

        SkiffProcess.Signal(children[1], Stop);
        try
        {
            for (var i = 0; i < 40; i++) await PredictAsync($"u{i}");
            await Eventually.HoldsAsync("the hung one is left out", async () => await OutAsync() == 1);
        }
        finally
        {
            SkiffProcess.Signal(children[1], Continue);
        }
        await Eventually.HoldsAsync("the hung one is back", async () => await OutAfterRequestsAsync() == 0, seconds: 60);

        // Copies of requests bring it back.
        async Task<int> OutAfterRequestsAsync()
        {
            for (var i = 0; i < 40; i++) await PredictAsync($"u{i}");
            return await OutAsync();
        }
    }

    [Fact]
    public async Task WhoeverEndsTheServer_EndsItsReplicas()
    {
        var children = ChildProcesses.Of(_server.Id);
        _server.Terminate();
        var ended = await _server.WaitAsync();
        Assert.Equal(0, ended.ExitCode);
        Assert.DoesNotContain(children, ChildProcesses.IsRunning);

        await using var other = await SkiffProcess.ServeAsync(_folder["data"], "--replicas", "1");
        var orphan = Assert.Single(ChildProcesses.Of(other.Id));
        await other.KillAsync();
        await Eventually.HoldsAsync("its replica ends by itself", () => Task.FromResult(!ChildProcesses.IsRunning(orphan)));
    }

    /// <returns>Null for the default, which is the answer where there was no time for a better one.</returns>
    private async Task<double?> PredictAsync(string user)
    {
        using var response = await _server.Client.PostAsJsonAsync("/apps/films/predict", new { user, input = new[] { 42 } }, Cancellation);
        var answer = await response.Content.ReadFromJsonAsync<JsonElement>(Cancellation);
        Assert.True(response.StatusCode == HttpStatusCode.OK, $"{response.StatusCode}: {answer}");
        return answer.GetProperty("is_default").GetBoolean() ? null : answer.GetProperty("output").GetDouble();
    }

    private async Task<int> VersionAsync(string user)
    {
        using var response = await _server.Client.PostAsJsonAsync("/apps/films/predict", new { user, input = new[] { 42 } }, Cancellation);
        return (await response.Content.ReadFromJsonAsync<JsonElement>(Cancellation)).GetProperty("versions").GetProperty("app").GetInt32();
    }

    /// <returns>Of each replica, how many heads came from where.</returns>
    private async Task<IReadOnlyList<(string From, int Count)>> HeadReadsAsync() =>
        [.. from line in (await _server.Client.GetStringAsync("/metrics", Cancellation)).Split('\n') let match = HeadReads().Match(line) where match.Success select (match.Groups[1].Value, int.Parse(match.Groups[2].Value))];

    private async Task<int> OutAsync() =>
        (await _server.Client.GetStringAsync("/metrics", Cancellation)).Split('\n').Count(line => line.StartsWith("skiff_replica_out{", StringComparison.Ordinal) && line.EndsWith(" 1", StringComparison.Ordinal));

    [GeneratedRegex("""^skiff_head_reads_total\{replica="[0-9.:]+",app="films",from="(\w+)"\} (\d+)$""")]
    private static partial Regex HeadReads();

    [GeneratedRegex("""^skiff_feedback_implicit_total\S* [1-9]""", RegexOptions.Multiline)]
    private static partial Regex Silences();

    [GeneratedRegex("""^\w+\{replica="[0-9.:]+"\} """, RegexOptions.Multiline)]
    private static partial Regex ReplicaOf();
}
