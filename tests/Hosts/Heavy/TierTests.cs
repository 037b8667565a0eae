using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Skiff.Heavy;
using Skiff.Planning;
using Skiff.Routing;
using Skiff.Support;

namespace Skiff.Hosts.Heavy;

/// <summary>An app whose last stage runs on the heavy tier: servers and replicas over real sockets.</summary>
public sealed class TierTests : IDisposable
{
    private const string Secret = "a secret that both of them have";
    private static readonly float[][] Images = Read(64);

    private readonly ScratchFolder _folder = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task HeavyStage_AnswersAsItWouldHere_AndItsModelRunsThere()
    {
        await using var replica = await ReplicaAsync();
        await using var here = await SkiffServer.StartAsync(samples: true);
        await PushAsync(here, tier: "function");
        await using var server = await ServeAsync(replica.Addresses[0]);

        var (rows, there) = (await PredictAsync(server, Images), await PredictAsync(here, Images));

        Assert.Equal(there.Select(Said), rows.Select(Said));
        var heavy = rows.Count(row => row.GetProperty("stage").GetString() == "fm_big");
        Assert.InRange(heavy, 5, 60);
        Assert.Equal(heavy, replica.Host.Models.Statistics().Single(one => one.Manifest.Name == "fm_big").Statistics.Rows);
        Assert.Equal(0, server.Server.Engine.Models.Statistics().Where(one => one.Manifest.Name == "fm_big").Sum(one => one.Statistics.Rows));
        Assert.Contains("skiff_replica_out{replica=", await server.Client.GetStringAsync("/metrics", Cancellation));
    }

    [Fact]
    public async Task TierThatIsGone_LastLightAnswerIsGivenAndMarked_UntilItIsBack()
    {
        var address = $"http://127.0.0.1:{LoopbackPort.Free()}";
        await using var server = await ServeAsync(address);
        var rows = await PredictAsync(server, Images);
        var unsure = rows.Where(row => row.TryGetProperty("degraded", out _)).ToList();
        Assert.InRange(unsure.Count, 5, 60);
        Assert.All(unsure, row => Assert.Equal(("fm_medA", "unavailable", false), (row.GetProperty("stage").GetString(), row.GetProperty("degraded").GetString(), row.GetProperty("is_default").GetBoolean())));
        Assert.DoesNotContain(rows, row => row.GetProperty("stage").GetString() == "fm_big");

        await using var replica = await ReplicaAsync(address);
        await Eventually.HoldsAsync("the tier answers", async () => (await PredictAsync(server, Images)).All(row => !row.TryGetProperty("degraded", out _)));
    }

    [Fact]
    public async Task TierThatHangs_LastLightAnswerComesAtTheDeadline()
    {
        using var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start();
        await using var server = await ServeAsync($"http://{silent.LocalEndpoint}");
        await PredictAsync(server, Images[..1]); // loads the light stages

        var rows = await PredictAsync(server, Images, deadlineMs: 300);
        Assert.Contains(rows, row => row.TryGetProperty("degraded", out var why) && why.GetString() == "deadline" && row.GetProperty("stage").GetString() == "fm_medA");
        Assert.DoesNotContain(rows, row => row.GetProperty("stage").GetString() == "fm_big");
    }

    [Fact]
    public async Task FirstStageOnATierThatIsGone_DefaultAnswers()
    {
        await using var server = await ServeAsync($"http://127.0.0.1:{LoopbackPort.Free()}");
        await server.PushAppAsync("""{"name":"heavy-only","input":{"name":"image","type":"FP32","shape":[1,28,28]},"labels":["0","1","2","3","4","5","6","7","8","9"],"default":{"label":3},"cascade":[{"model":"fm_big","tier":"heavy"}]}""");

        var row = Assert.Single(await PredictAsync(server, Images[..1], app: "heavy-only"));
        Assert.Equal((3, true, "unavailable"), (row.GetProperty("label").GetInt32(), row.GetProperty("is_default").GetBoolean(), row.GetProperty("degraded").GetString()));
    }

    [Fact]
    public async Task Replica_TrustsWhoSigns_AndNobodyElse()
    {
        await using var replica = await ReplicaAsync();
        using var client = new HttpClient { BaseAddress = new Uri(replica.Addresses[0]) };
        var authority = client.BaseAddress.Authority;
        var signature = new CallerSignature([Secret], TimeProvider.System);
        var target = "/load?tenant=default";

        Assert.Equal(HttpStatusCode.Unauthorized, await GetAsync(null));
        Assert.Equal(HttpStatusCode.Unauthorized, await GetAsync(new CallerSignature(["another secret of some length"], TimeProvider.System).Sign("GET", authority, target, null, ReadOnlyMemory<byte>.Empty)));
        Assert.Equal(HttpStatusCode.Unauthorized, await GetAsync(signature.Sign("GET", authority, "/load?tenant=acme", null, ReadOnlyMemory<byte>.Empty)));
        Assert.Equal(HttpStatusCode.Unauthorized, await GetAsync(signature.Sign("GET", authority, target, null, "another body"u8.ToArray())));
        Assert.Equal(HttpStatusCode.OK, await GetAsync(signature.Sign("GET", authority, target, null, ReadOnlyMemory<byte>.Empty)));
        using var live = await client.GetAsync("/v2/health/live", Cancellation);
        Assert.Equal(HttpStatusCode.OK, live.StatusCode);
        Assert.False(live.Headers.Contains(ReplicaReport.WarmHeader)); // whose models there are is not for everybody

        async Task<HttpStatusCode> GetAsync(string? signed)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, target);
            if (signed is not null) request.Headers.Add(CallerSignature.Header, signed);
            using var response = await client.SendAsync(request, Cancellation);
            if (response.IsSuccessStatusCode) Assert.Equal(["default/fm_big"], response.Headers.GetValues(ReplicaReport.WarmHeader));
            return response.StatusCode;
        }
    }

    [Theory]
    [InlineData("http://0.0.0.0:80", null, false)]
    [InlineData("http://*:80", null, false)]
    [InlineData("http://8.8.8.8:80", null, false)]
    [InlineData("http://some.name:80", null, false)]
    [InlineData("http://0.0.0.0:80", Secret, true)]
    [InlineData("http://10.1.2.3:80", null, true)]
    [InlineData("http://172.31.0.1:80", null, true)]
    [InlineData("http://172.32.0.1:80", null, false)]
    [InlineData("http://192.168.7.7:80", null, true)]
    [InlineData("http://[fd00::1]:80", null, true)]
    [InlineData("http://localhost:80", null, true)]
    public void WithoutASecret_OnlyPrivateAddressesAreListenedOn(string url, string? secret, bool isTaken)
    {
        var environment = new Dictionary<string, string?> { ["SKIFF_MODEL_STORE"] = "file:///models", ["SKIFF_SECRET"] = secret };
        if (isTaken) HeavySettings.Read(url, environment);
        else Assert.Contains("SKIFF_SECRET", Assert.Throws<Serving.SettingException>(() => HeavySettings.Read(url, environment)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" ; ")]
    [InlineData("127.0.0.1:8099")]
    [InlineData("https://127.0.0.1:8099")]
    [InlineData("http://127.0.0.1:99999")]
    [InlineData("http://127.0.0.1:8099/path")]
    [InlineData("http://localhost:0")]
    [InlineData("http://127.0.0.1:8099?x=1")]
    [InlineData("http://127.0.0.1:")]
    [InlineData("http://a b:8099")]
    public void UrlsThatAreNone_AreRefused(string urls)
    {
        var refused = Assert.Throws<Serving.SettingException>(() => HeavySettings.Read(urls, new Dictionary<string, string?> { ["SKIFF_MODEL_STORE"] = "file:///models", ["SKIFF_SECRET"] = Secret }));

        Assert.StartsWith("--urls ", refused.Message, StringComparison.Ordinal);
        Assert.Contains("it takes ", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://127.0.0.1:99999")]
    [InlineData("http://192.0.2.1:8099")] // documentation's: no machine has it
    public async Task WhereItCannotListen_OneLineSaysSo(string urls)
    {
        var result = await SkiffProcess.RunHeavyAsync([("SKIFF_MODEL_STORE", $"file://{_folder["none"]}"), ("SKIFF_SECRET", Secret)], "--urls", urls);

        Assert.Equal((1, ""), (result.ExitCode, result.Output));
        Assert.StartsWith("skiff-heavy: ", Assert.Single(result.ErrorLines), StringComparison.Ordinal);
    }

    [Fact]
    public async Task ReplicaThatLeaves_SaysSoAndStillAnswers_AndEnds()
    {
        await using var stores = await SkiffServer.StartAsync(_folder["data"], samples: true);
        await using var replica = await SkiffProcess.HeavyAsync(("SKIFF_MODEL_STORE", $"file://{_folder["data"]}/models"), ("SKIFF_PRELOAD", "fm_mlp"), ("SKIFF_LEAVE_SECONDS", "3"));
        await Eventually.HoldsAsync("it is ready", async () => (await replica.Client.GetAsync("/v2/health/ready", Cancellation)).IsSuccessStatusCode);
        Assert.Equal("ready", (await LoadAsync()).GetProperty("state").GetString());

        replica.Terminate();
        await Eventually.HoldsAsync("it says so", async () => (await replica.Client.GetAsync("/v2/health/ready", Cancellation)).StatusCode == HttpStatusCode.ServiceUnavailable);
        var load = await LoadAsync();
        Assert.Equal(("leaving", 1.0, 1), (load.GetProperty("state").GetString(), load.GetProperty("load").GetDouble(), load.GetProperty("queue").GetInt32()));
        Assert.Equal(0, (await replica.WaitAsync()).ExitCode);

        async Task<JsonElement> LoadAsync() => JsonDocument.Parse(await replica.Client.GetStringAsync("/load", Cancellation)).RootElement;
    }

    [Fact]
    public async Task ReplicasThatRegister_AreFoundInTheStateStore_AndOneThatLeavesIsNotAsked()
    {
        await (await SkiffServer.StartAsync(_folder["data"], samples: true)).DisposeAsync();
        (string, string)[] environment = [("SKIFF_MODEL_STORE", $"file://{_folder["data"]}/models"), ("SKIFF_STATE", $"sqlite://{_folder["data"]}/state.db"), ("SKIFF_SECRET", Secret), ("SKIFF_PRELOAD", "fm_big"), ("SKIFF_LEAVE_SECONDS", "30")];
        var starting = new[] { SkiffProcess.HeavyAsync(environment), SkiffProcess.HeavyAsync(environment) };
        await using var first = await starting[0];
        await using var second = await starting[1];
        await using var server = await ServeAsync("state");

        await Eventually.HoldsAsync("both are members", async () => (await MembersAsync(server)).Order().SequenceEqual(new[] { first.Address.Authority, second.Address.Authority }.Order()));
        await Eventually.HoldsAsync("the tier answers", async () => (await PredictAsync(server, Images)).All(row => !row.TryGetProperty("degraded", out _)));

        first.Terminate();
        await Eventually.HoldsAsync("who leaves is no member, though it still answers", async () => (await MembersAsync(server)).SequenceEqual([second.Address.Authority]));
        Assert.True((await first.Client.GetAsync("/v2/health/live", Cancellation)).IsSuccessStatusCode);
        Assert.All(await PredictAsync(server, Images), row => Assert.False(row.TryGetProperty("degraded", out _)));
        first.Terminate(); // told twice, it doesn't wait
        Assert.Equal(0, (await first.WaitAsync()).ExitCode);

        static async Task<string[]> MembersAsync(SkiffServer server) =>
            [.. (await server.Client.GetStringAsync("/metrics", Cancellation)).Split('\n').Where(line => line.StartsWith("skiff_replica_out{", StringComparison.Ordinal)).Select(line => line.Split('"')[1])];
    }

    [Fact]
    public async Task TraceAndDeadline_TravelToTheTier()
    {
        const string Trace = "4bf92f3577b34da6a3ce929d0e0e4736", Span = "00f067aa0ba902b7";
        using var replica = new TcpListener(IPAddress.Loopback, 0);
        replica.Start();
        await using var server = await ServeAsync($"http://{replica.LocalEndpoint}");
        var hearing = HearAsync();
        using var request = new HttpRequestMessage(HttpMethod.Post, "/apps/fashion/predict") { Content = new StringContent($"{{\"inputs\":{JsonSerializer.Serialize(Images)},\"deadline_ms\":2000}}") };
        request.Headers.Add("traceparent", $"00-{Trace}-{Span}-01");
        request.Headers.Add("tracestate", "vendor=1");
        using var answer = await server.Client.SendAsync(request, Cancellation);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);

        var heard = await hearing;
        Assert.Matches($"(?m)^traceparent: 00-{Trace}-(?!{Span})[0-9a-f]{{16}}-01\r$", heard);
        Assert.Contains("\ntracestate: vendor=1\r\n", heard, StringComparison.Ordinal);
        Assert.Matches("(?m)^Skiff-Deadline-Ms: [0-9]{1,4}\r$", heard);

        async Task<string> HearAsync()
        {
            // Those who only ask how it is, and come first, are not answered.
            while (true)
            {
                using var caller = await replica.AcceptTcpClientAsync(Cancellation);
                using var reader = new StreamReader(caller.GetStream(), System.Text.Encoding.Latin1);
                var lines = new List<string>();
                while (await reader.ReadLineAsync(Cancellation) is { Length: > 0 } line) lines.Add(line);
                if (lines is [var first, ..] && first.StartsWith("POST ", StringComparison.Ordinal)) return string.Join("\r\n", lines) + "\r\n";
            }
        }
    }

    [Fact]
    public async Task AnswerFromTheTier_CostsItsShareOfAReplica()
    {
        await using var replica = await ReplicaAsync();
        await using var server = await ServeAsync(replica.Addresses[0]);
        await server.PushAppAsync("""{"name":"heavy-only","input":{"name":"image","type":"FP32","shape":[1,28,28]},"labels":["0","1","2","3","4","5","6","7","8","9"],"cascade":[{"model":"fm_big","tier":"heavy"}]}""");
        var row = (await PredictAsync(server, Images, app: "heavy-only"))[0];

        // By its own word the replica ran so long for these rows; each has its part, beside what a function pays for waiting.
        var statistics = replica.Host.Models.Statistics().Single(one => one.Manifest.Name == "fm_big").Statistics;
        Assert.Equal(Images.Length, statistics.Rows);
        var workers = replica.Host.Models.Batchers().Single().Batcher.Workers;
        var ran = TimeSpan.FromSeconds((double)statistics.RunTicks / System.Diagnostics.Stopwatch.Frequency);
        var least = Prices.Replica(ran / workers) / Images.Length + Prices.FunctionRequest / Images.Length;
        Assert.InRange(row.GetProperty("cost_usd").GetDouble(), 0.99 * least, double.MaxValue);
        Assert.True(least > Prices.FunctionRequest / Images.Length);
        Assert.Contains("\nskiff_tier_rows_total 64\n", await server.Client.GetStringAsync("/metrics", Cancellation), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://127.0.0.1:8090", "http://127.0.0.1:8090/")]
    [InlineData("http://some.name:8090", "http://some.name:8090/")]
    [InlineData("http://0.0.0.0:8090", "http://10.1.2.3:8090/")]
    [InlineData("http://[::]:8090", "http://10.1.2.3:8090/")]
    public void ReplicaThatListensEverywhere_IsReachedWhereOthersKnowIt(string listens, string reached) =>
        Assert.Equal(reached, OwnAddress.Of([listens], [IPAddress.Loopback, IPAddress.Parse("169.254.172.2"), IPAddress.IPv6Loopback, IPAddress.Parse("10.1.2.3")]).AbsoluteUri);

    [Fact]
    public async Task CudaThatCannotBeHad_IsSaidExactly_AndNothingIsServed()
    {
        var refused = await SkiffProcess.RunHeavyAsync([("SKIFF_MODEL_STORE", "file:///nowhere")], "--provider", "cuda", "--urls", "http://127.0.0.1:0");
        Assert.Equal(1, refused.ExitCode);
        Assert.DoesNotContain("listens", refused.Output, StringComparison.Ordinal);
        Assert.StartsWith("skiff-heavy: can't run models with cuda: ", Assert.Single(refused.ErrorLines), StringComparison.Ordinal);
    }

    private async Task<HeavyServer> ReplicaAsync(string url = "http://127.0.0.1:0")
    {
        // The store of the server below, which the replica reads only.
        if (!Directory.Exists(_folder["data"])) await (await SkiffServer.StartAsync(_folder["data"], samples: true)).DisposeAsync();
        var environment = new Dictionary<string, string> { ["SKIFF_MODEL_STORE"] = $"file://{_folder["data"]}/models", ["SKIFF_SECRET"] = Secret, ["SKIFF_PRELOAD"] = "fm_big" };
        var replica = await HeavyServer.StartAsync(HeavySettings.Read(url, environment) with { BatchRows = 8 }, Cancellation);
        using var client = new HttpClient { BaseAddress = new Uri(replica.Addresses[0]) };
        await Eventually.HoldsAsync("the replica is ready", async () => (await client.GetAsync("/v2/health/ready", Cancellation)).IsSuccessStatusCode);
        return replica;
    }

    private async Task<SkiffServer> ServeAsync(string heavy)
    {
        var server = await SkiffServer.StartAsync(_folder["data"], samples: true, environment: [("SKIFF_HEAVY", heavy), ("SKIFF_SECRET", Secret)]);
        await PushAsync(server, tier: "heavy");
        return server;
    }

    /// <summary>With an objective that a busy machine keeps: what pressure does is not looked at here.</summary>
    private static async Task PushAsync(SkiffServer server, string tier)
    {
        var app = File.ReadAllText(Repository.Sample("fashion/app.json")).Replace("""{ "model": "fm_big" }""", $$"""{ "model": "fm_big", "tier": "{{tier}}" }""", StringComparison.Ordinal).Replace("\"objective_ms\": 20", "\"objective_ms\": 2000", StringComparison.Ordinal);
        var version = (await server.PushAppAsync(app)).Version;
        await Eventually.HoldsAsync("the app's version is seen", async () => (await PredictAsync(server, Images[..1]))[0].GetProperty("versions").GetProperty("app").GetInt32() == version);
    }

    private static async Task<List<JsonElement>> PredictAsync(SkiffServer server, float[][] rows, double? deadlineMs = null, string app = "fashion")
    {
        var deadline = deadlineMs is null ? "" : $",\"deadline_ms\":{deadlineMs}";
        var (status, body) = await server.PostAsync($"/apps/{app}/predict", $"{{\"inputs\":{JsonSerializer.Serialize(rows)}{deadline}}}");
        Assert.True(status == HttpStatusCode.OK, $"{status}: {body}");
        return [.. body.GetProperty("predictions").EnumerateArray()];
    }

    private static (int Label, string? Stage, double Confidence) Said(JsonElement row) => (row.GetProperty("label").GetInt32(), row.GetProperty("stage").GetString(), Math.Round(row.GetProperty("confidence").GetDouble(), 3));

    private static float[][] Read(int count)
    {
        var images = Idx.Read(Repository.Sample("fashion/test-images-idx3-ubyte.gz"));
        return [.. Enumerable.Range(0, count).Select(i => images[i].ToArray().Select(pixel => pixel / 255f).ToArray())];
    }
}
