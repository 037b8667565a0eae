using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Embedded;
using Skiff.Hosts.Lambda;
using Skiff.Hosts.Oip;
using Skiff.Models;
using Skiff.Serve;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts;

/// <summary>The same requests through every host get the same answers.</summary>
[Collection("Lambda")]
public sealed class PredictionTests(PredictionTests.Fixture fixture) : IClassFixture<PredictionTests.Fixture>
{
    private const string Pair = """{"name":"a","shape":[2],"datatype":"FP32","data":[1,2]},{"name":"b","shape":[2],"datatype":"INT64","data":[5,6]}""";

    public enum Host
    {
        Kestrel,
        Lambda,
        LambdaStage,
        Azure,
    }

    public static TheoryData<Host> Hosts => [.. Enum.GetValues<Host>()];

    [Theory, MemberData(nameof(Hosts))]
    public async Task SampleRequest_IsPredicted(Host host)
    {
        var answer = await HttpAnswer.PostAsync(fixture[host], "/apps/fashion/predict", Sample("fashion"));

        Assert.Equal("Ankle boot", answer.AssertOk().Json.GetProperty("label_name").GetString());
        Assert.Equal("fm_small", answer.Json.GetProperty("stage").GetString());
        Assert.Equal("application/json", answer.ContentType);
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task Feedback_IsAccepted(Host host)
    {
        if (host == Host.Azure) Assert.SkipWhen(fixture.ServicesMissing is not null, fixture.ServicesMissing ?? "");
        var decision = (await HttpAnswer.PostAsync(fixture[host], "/apps/films/predict", """{"user":"u1","input":[42]}""")).AssertOk().Json.GetProperty("id").GetString();

        var answer = await HttpAnswer.PostAsync(fixture[host], "/apps/films/feedback", $$"""{"id":"{{decision}}","value":8}""");

        Assert.Equal(202, answer.Status);
        Assert.Equal(decision, answer.Json.GetProperty("feedback_id").GetString());
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task InferInJson_AnswersInJson(Host host)
    {
        var answer = await HttpAnswer.PostAsync(fixture[host], "/v2/models/pair/infer", $$"""{"id":"ü 世 😀 \" \\","inputs":[{{Pair}}]}""");

        Assert.Equal("[1,2]", answer.Output().GetProperty("data").GetRawText());
        Assert.Equal("[5,6]", answer.Output(1).GetProperty("data").GetRawText());
        Assert.Equal("""ü 世 😀 " \""", answer.Json.GetProperty("id").GetString());
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task InferInBinary_AnswersInBinary(Host host)
    {
        var answer = await HttpAnswer.PostBinaryAsync(fixture[host], "/v2/models/pair/infer", """
            {"inputs":[{"name":"a","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},{"name":"b","shape":[2],"datatype":"INT64","parameters":{"binary_data_size":16}}],
             "parameters":{"binary_data_output":true}}
            """, [.. Elements.Of(1f, float.NaN), .. Elements.Of(-1L, long.MinValue)]);

        answer.AssertOk();
        Assert.Equal("application/octet-stream", answer.ContentType);
        Assert.Equal([.. Elements.Of(1f, float.NaN), .. Elements.Of(-1L, long.MinValue)], answer.Binary);
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task BinaryInJsonOut_AndTheOtherWayRound(Host host)
    {
        var json = await HttpAnswer.PostBinaryAsync(fixture[host], "/v2/models/pair/infer", """
            {"inputs":[{"name":"a","shape":[2],"datatype":"FP32","data":[1,2]},{"name":"b","shape":[2],"datatype":"INT64","parameters":{"binary_data_size":16}}]}
            """, Elements.Of(5L, 6L));
        var binary = await HttpAnswer.PostAsync(fixture[host], "/v2/models/pair/infer", $$$"""{"inputs":[{{{Pair}}}],"outputs":[{"name":"d","parameters":{"binary_data":true}}]}""");

        Assert.Equal("[5,6]", json.Output(1).GetProperty("data").GetRawText());
        Assert.Equal(Elements.Of(5L, 6L), binary.AssertOk().Binary);
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task EscapesInThePath_AreDecoded(Host host)
    {
        var answer = await HttpAnswer.GetAsync(fixture[host], "/v2/models/p%61ir/ready");

        answer.AssertOk();
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task Pages_AreServed(Host host)
    {
        Assert.StartsWith("<!doctype html>", (await HttpAnswer.GetAsync(fixture[host], "/")).AssertOk().Text, StringComparison.OrdinalIgnoreCase);
        Assert.Equal("ok\n", (await HttpAnswer.GetAsync(fixture[host], "/healthz")).AssertOk().Text);
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task Mistakes_AreRefusedWithTheirReason(Host host)
    {
        var client = fixture[host];

        (await HttpAnswer.PostAsync(client, "/v2/models/nobody/infer", "{}")).AssertRefused(400, "inputs");
        (await HttpAnswer.PostAsync(client, "/v2/models/nobody/infer", $$"""{"inputs":[{{Pair}}]}""")).AssertRefused(404, "nobody");
        (await HttpAnswer.PostAsync(client, "/apps/fashion/predict", """{"input":[1,2""")).AssertRefused(400);
        (await HttpAnswer.PostAsync(client, "/apps/fashion/predict", """{"input":[1,2]}""")).AssertRefused(400, "784");
        (await HttpAnswer.GetAsync(client, "/nowhere")).AssertRefused(404, "/nowhere", "/openapi/v1.json");
        (await HttpAnswer.GetAsync(client, "/apps/fashion/predict")).AssertRefused(405, "POST");
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task WithoutAKey_IsRefused(Host host)
    {
        var answer = await HttpAnswer.GetAsync(fixture[host], "/apps", ("Authorization", "Bearer another"));

        answer.AssertRefused(401, "key");
        Assert.Equal("Bearer", answer.Header("WWW-Authenticate"));
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task TooLargeABody_IsRefusedWithTheLimit(Host host)
    {
        // Who expects to be told before the body is sent gets to read the refusal; a body under way can meet a closed connection.
        var answer = await HttpAnswer.PostAsync(fixture[host], "/v2/models/pair/infer", new byte[Fixture.MaxBodyBytes + 1], ("Expect", "100-continue"));

        answer.AssertRefused(413, $"{Fixture.MaxBodyBytes} bytes");
    }

    [Theory, MemberData(nameof(Hosts))]
    public async Task TheLargestBody_IsRead(Host host)
    {
        // JSON may end in any amount of space.
        var answer = await HttpAnswer.PostAsync(fixture[host], "/v2/models/pair/infer", $$"""{"inputs":[{{Pair}}]}""".PadRight(Fixture.MaxBodyBytes));

        answer.AssertOk();
    }

    private static string Sample(string app) => File.ReadAllText(Repository.Sample($"{app}/request.json"));

    /// <summary>One model store, and an engine on it in each host.</summary>
    public sealed class Fixture : IAsyncLifetime
    {
        public const int MaxBodyBytes = 1 << 20;

        private readonly ScratchFolder _folder = new();
        private SkiffServer _server = null!;
        private LambdaHost _lambda = null!;
        private SqliteStateStore _state = null!;
        private SqliteFeedbackQueue _queue = null!;
        private MotoServer? _moto;
        private Dynoxide? _dynoxide;
        private AzureFunctionsHost _azure = null!;
        private Dictionary<Host, HttpClient> _clients = null!;

        public HttpClient this[Host host] => _clients[host];

        /// <summary>Why the host on Azure has no state and no queue; null where it has.</summary>
        public string? ServicesMissing { get; private set; }

        public async ValueTask InitializeAsync()
        {
            var (key, entry) = ApiKeys.Create(ApiKeys.DefaultTenant, Scopes.All);
            _server = await SkiffServer.StartAsync(_folder["kestrel"], samples: true,
                ("SKIFF_API_KEYS", entry), ("SKIFF_MODEL_STORE", $"file://{_folder["models"]}"), ("SKIFF_MAX_BODY_BYTES", $"{MaxBodyBytes}"));
            await _server.PushAsync("pair", new OnnxBuilder()
                .Input("a", DataType.Fp32, -1).Input("b", DataType.Int64, -1)
                .Output("c", DataType.Fp32, -1).Output("d", DataType.Int64, -1)
                .Node("Identity", ["a"], ["c"]).Node("Identity", ["b"], ["d"])
                .Build());

            _state = new SqliteStateStore(_folder["state.db"]);
            _queue = new SqliteFeedbackQueue(_folder["queue.db"]);
            var engine = new Engine(new EngineParts
            {
                Objects = new FileObjectStore(_folder["models"]),
                State = _state,
                Queue = _queue,
                Keys = ApiKeys.Parse(entry),
                Secrets = ["a secret of this test"],
                Logging = NullLoggerFactory.Instance,
            });
            _lambda = await LambdaHost.StartAsync(engine.Map, options => options with { MaxBodyBytes = MaxBodyBytes });
            _azure = await StartAzureAsync(entry);
            _clients = new()
            {
                [Host.Kestrel] = _server.Client,
                [Host.Lambda] = LambdaFrontEnd.ClientOf(_lambda.Api),
                [Host.LambdaStage] = LambdaFrontEnd.ClientOf(_lambda.Api, "prod"),
                [Host.Azure] = _azure.Client,
            };
            foreach (var client in _clients.Values) client.DefaultRequestHeaders.Authorization = new("Bearer", key);
        }

        /// <summary>The program itself, which takes no embedded stores.</summary>
        private async Task<AzureFunctionsHost> StartAzureAsync(string keys)
        {
            _moto = new MotoServer();
            ServicesMissing = _moto.Sqs is null ? MotoServer.Missing : Dynoxide.Missing;
            if (Dynoxide.Missing is null) _dynoxide = await Dynoxide.StartAsync();
            return await AzureFunctionsHost.StartAsync("Predict",
                ("AWS_ENDPOINT_URL_SQS", _moto.Sqs?.AbsoluteUri ?? "http://127.0.0.1:9"), ("AWS_ENDPOINT_URL_DYNAMODB", _dynoxide?.Address.AbsoluteUri ?? "http://127.0.0.1:9"),
                ("SKIFF_MODEL_STORE", $"file://{_folder["models"]}"),
                ("SKIFF_STATE", $"dynamodb://{(_dynoxide is null ? "none" : await _dynoxide.MakeTableAsync())}"),
                ("SKIFF_QUEUE", _moto.Sqs is null ? "sqs://123456789012/none.fifo" : await _moto.MakeQueueAsync($"skiff-{Guid.NewGuid():n}")),
                ("SKIFF_API_KEYS", keys), ("SKIFF_SECRET", "a secret of this test"), ("SKIFF_MAX_BODY_BYTES", $"{MaxBodyBytes}"));
        }

        public async ValueTask DisposeAsync()
        {
            await _azure.DisposeAsync();
            _dynoxide?.Dispose();
            if (_moto is not null) await _moto.DisposeAsync();
            await _lambda.DisposeAsync();
            await _queue.DisposeAsync();
            _state.Dispose();
            await _server.DisposeAsync();
            _folder.Dispose();
        }
    }
}
