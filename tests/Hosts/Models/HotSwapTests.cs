using System.Globalization;
using System.Net;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Models;

/// <summary>Models come, go and change places while requests run on them.</summary>
public sealed class HotSwapTests
{
    private const string Ask = """{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[1]}]}""";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task ModelSwappedHundredTimesUnderLoad_FailsNoRequestAndAnswersRight()
    {
        const int clients = 16, swaps = 100;
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", TableOf(100));
        await server.PushAsync("m", TableOf(200), alias: null);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        var answers = new int[3];
        var loops = Enumerable.Range(0, clients).Select(_ => Task.Run(
            async () =>
            {
                while (!stop.IsCancellationRequested)
                {
                    var (version, value) = await AnswerAsync(server);
                    Assert.Equal(version * 100, value);
                    Interlocked.Increment(ref answers[version]);
                }
            },
            Cancellation)).ToArray();

        for (var swap = 0; swap < swaps; swap++)
        {
            var to = 2 - swap % 2;
            await server.Server.Engine.Store.MoveAliasAsync("default", ArtifactKind.Model, "m", ModelStore.Live, to, Cancellation);
            // At once, instead of within a second.
            var (status, body) = await server.PostAsync("/v2/repository/models/m/load", "");
            Assert.True(status == HttpStatusCode.OK, $"{status} {body}");
            var before = Volatile.Read(ref answers[to]);
            await Eventually.HoldsAsync($"version {to} answers", () => Task.FromResult(Volatile.Read(ref answers[to]) > before || loops.Any(loop => loop.IsFaulted)));
        }
        await stop.CancelAsync();
        await Task.WhenAll(loops);

        Assert.True(answers[1] >= swaps / 2 && answers[2] >= swaps / 2, $"{answers[1]} and {answers[2]} answers");
    }

    [Fact]
    public async Task MovedAlias_IsNoticedWithoutBeingAskedTo()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", TableOf(100));
        Assert.Equal((1, 100f), await AnswerAsync(server));

        await server.PushAsync("m", TableOf(200));

        await Eventually.HoldsAsync("version 2 answers", async () => await AnswerAsync(server) == (2, 200f), seconds: 5);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task CorruptVersion_LeavesTheOldOneAnsweringAndTheIndexSaysWhy(bool damagedAfterwards)
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", TableOf(100));
        Assert.Equal((1, 100f), await AnswerAsync(server));
        var store = server.Server.Engine.Store;

        // The store itself takes what a push would refuse; and a disk can damage what a push took.
        var first = (await store.ManifestAsync("default", ArtifactKind.Model, "m", 1, Cancellation))!;
        var second = await store.PublishAsync("default", first, damagedAfterwards ? TableOf(200) : "not a model"u8.ToArray(), Cancellation);
        if (damagedAfterwards) await File.WriteAllTextAsync(Path.Combine(server.Data, "models", "default", "blobs", second.Sha256), "damaged", Cancellation);
        await store.MoveAliasAsync("default", ArtifactKind.Model, "m", ModelStore.Live, 2, Cancellation);

        JsonElement reason = default;
        await Eventually.HoldsAsync("the index says why", async () =>
        {
            Assert.Equal((1, 100f), await AnswerAsync(server));
            reason = (await IndexAsync(server)).Single(line => line.GetProperty("version").GetString() == "2");
            return reason.GetProperty("reason").GetString()!.Contains("can't be loaded");
        });
        Assert.Equal("UNAVAILABLE", reason.GetProperty("state").GetString());
        Assert.Contains(damagedAfterwards ? "corrupt" : "protobuf", reason.GetProperty("reason").GetString(), StringComparison.OrdinalIgnoreCase);

        // Asked to load it, the server says the same; and goes on answering with the old one.
        var (status, body) = await server.PostAsync("/v2/repository/models/m/load", "");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("version 2 can't be loaded", body.GetProperty("error").GetString());
        Assert.Equal((1, 100f), await AnswerAsync(server));

        // And a good version after it is taken.
        await server.PushAsync("m", TableOf(300));
        await Eventually.HoldsAsync("version 3 answers", async () => await AnswerAsync(server) == (3, 300f));
    }

    [Fact]
    public async Task DamagedManifest_LeavesTheOldOneAnsweringAndTheIndexSaysWhy()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", TableOf(100));
        Assert.Equal((1, 100f), await AnswerAsync(server));
        await server.PushAsync("m", TableOf(200), alias: null);

        var folder = Path.Combine(server.Data, "models", "default", "models", "m");
        await File.WriteAllTextAsync(Path.Combine(folder, "versions", "00000002.json"), "{", Cancellation);
        await File.WriteAllTextAsync(Path.Combine(folder, "aliases", "live.json"), """{"version":2,"moved":"2025-01-01T00:00:00Z"}""", Cancellation);

        await Eventually.HoldsAsync("the index says why", async () =>
        {
            Assert.Equal((1, 100f), await AnswerAsync(server));
            return (await IndexAsync(server)).Single(line => line.GetProperty("version").GetString() == "2").GetProperty("reason").GetString()!.Contains("damaged");
        }, seconds: 10);
    }

    [Fact]
    public async Task HundredCallersOfAColdModel_AllSucceed()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", TableOf(100, mebibytes: 3));

        var answers = await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => AnswerAsync(server)));

        Assert.All(answers, answer => Assert.Equal((1, 100f), answer));
        var statistics = (await server.GetAsync("/v2/models/m/stats")).Body.GetProperty("model_stats")[0];
        Assert.Equal(100, statistics.GetProperty("inference_count").GetInt64());
    }

    [Fact]
    public async Task HundredCallersOfAColdModel_LoadItOnce()
    {
        using var folder = new ScratchFolder();
        var objects = new SlowBlobs(new FileObjectStore(folder.Path));
        var store = new ModelStore(objects, TimeProvider.System);
        await new global::Skiff.Apps.Publisher(store, ModelLimits.Default).PushAsync("default", TableOf(100), "m", ModelStore.Live, Cancellation);
        var host = new ModelHost(store, new ModelHostOptions(), TimeProvider.System, NullLogger<ModelHost>.Instance);

        var callers = Enumerable.Range(0, 100).Select(_ => Task.Run(async () => (await host.AcquireAsync("default", "m", null, Cancellation)).Dispose(), Cancellation)).ToArray();
        await Eventually.HoldsAsync("somebody loads", () => Task.FromResult(objects.Reads > 0));
        Assert.DoesNotContain(callers, caller => caller.IsCompleted);
        objects.Go();
        await Task.WhenAll(callers);

        Assert.Equal(1, objects.Reads);
        host.UnloadAll();
        Assert.Equal(0, host.UsedBytes);
    }

    [Fact]
    public async Task ModelsBeyondTheBudget_LeastRecentlyUsedGoesFirst()
    {
        // A model of 3 MiB counts 7: two fit, three don't.
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_MODEL_MEMORY_MB", "16"));
        foreach (var name in new[] { "a", "b", "c" }) await server.PushAsync(name, TableOf(100, mebibytes: 3));

        await AnswerAsync(server, "a");
        await AnswerAsync(server, "b");
        Assert.Equal(["a", "b"], await LoadedAsync(server));
        await AnswerAsync(server, "a");
        await AnswerAsync(server, "c");
        Assert.Equal(["a", "c"], await LoadedAsync(server));
        await AnswerAsync(server, "b");
        Assert.Equal(["b", "c"], await LoadedAsync(server));
        Assert.InRange(server.Server.Engine.Models.UsedBytes, 14L << 20, 16L << 20);
    }

    [Fact]
    public async Task ModelsBeyondTheBudgetUnderLoad_AreLoadedAgainAndAnswerRight()
    {
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_MODEL_MEMORY_MB", "16"));
        var names = new[] { "a", "b", "c", "d" };
        for (var i = 0; i < names.Length; i++) await server.PushAsync(names[i], TableOf(100 * (i + 1), mebibytes: 3));

        await Task.WhenAll(Enumerable.Range(0, 8).Select(client => Task.Run(
            async () =>
            {
                for (var i = 0; i < 25; i++)
                {
                    var which = (client + i * 3) % names.Length;
                    Assert.Equal((1, 100f * (which + 1)), await AnswerAsync(server, names[which]));
                }
            },
            Cancellation)));
    }

    [Fact]
    public async Task ModelsLoadedAtOnce_EndWithinTheBudget()
    {
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_MODEL_MEMORY_MB", "16"));
        var names = new[] { "a", "b", "c", "d" };
        foreach (var name in names) await server.PushAsync(name, TableOf(100, mebibytes: 5));

        for (var i = 0; i < 5; i++)
        {
            foreach (var name in names) await server.PostAsync($"/v2/repository/models/{name}/unload", "");
            await Task.WhenAll(names.Select(name => server.PostAsync($"/v2/repository/models/{name}/load", "")));
            Assert.InRange(server.Server.Engine.Models.UsedBytes, 1, 16L << 20);
        }
    }

    [Fact]
    public async Task ModelWhoseInputsAreBeyondAnyRequest_IsNotPublished()
    {
        await using var server = await SkiffServer.StartAsync();

        var refused = await Assert.ThrowsAsync<Skiff.Apps.PublishException>(() => server.PushAsync("m", OnnxBuilder.Identity(DataType.Fp64, 1 << 29)));

        Assert.Contains("'x'", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ModelLargerThanTheBudget_IsRefusedWithItsSizeAndTheBudget()
    {
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_MODEL_MEMORY_MB", "16"));
        await server.PushAsync("small", TableOf(100, mebibytes: 3));
        await server.PushAsync("large", TableOf(100, mebibytes: 9));
        await AnswerAsync(server, "small");

        var (status, body) = await server.PostAsync("/v2/models/large/infer", Ask);

        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("it needs 19 MiB and the memory budget for models is 16 MiB (SKIFF_MODEL_MEMORY_MB)", body.GetProperty("error").GetString());
        Assert.Equal(["small"], await LoadedAsync(server));
    }

    [Fact]
    public async Task UnloadedModel_IsRefusedUntilItIsLoadedAgain()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", TableOf(100));
        await AnswerAsync(server);

        await server.PostAsync("/v2/repository/models/m/unload", "");

        var (status, body) = await server.PostAsync("/v2/models/m/infer", Ask);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("unloaded", body.GetProperty("error").GetString());
        Assert.Equal(0, server.Server.Engine.Models.UsedBytes);
        await server.PostAsync("/v2/repository/models/m/load", "");
        Assert.Equal((1, 100f), await AnswerAsync(server));
    }

    /// <summary>A model that looks rows of four floats up in a table; row 1 holds the given value. The table makes it as large as wanted.</summary>
    internal static byte[] TableOf(float value, int mebibytes = 0)
    {
        var rows = mebibytes == 0 ? 2 : mebibytes << 16;
        var table = new float[rows * 4];
        table.AsSpan(4, 4).Fill(value);
        return new OnnxBuilder()
            .Input("x", DataType.Int64, -1)
            .Output("y", DataType.Fp32, -1, 4)
            .Initializer("table", table, rows, 4)
            .Node("Gather", ["table", "x"], ["y"])
            .Build();
    }

    private static async Task<(int Version, float Value)> AnswerAsync(SkiffServer server, string model = "m")
    {
        var (status, body) = await server.PostAsync($"/v2/models/{model}/infer", Ask);
        Assert.True(status == HttpStatusCode.OK, $"{status} {body}");
        var data = body.GetProperty("outputs")[0].GetProperty("data").EnumerateArray().Select(value => value.GetSingle()).ToList();
        Assert.Equal(4, data.Count);
        Assert.All(data, value => Assert.Equal(data[0], value));
        return (int.Parse(body.GetProperty("model_version").GetString()!, CultureInfo.InvariantCulture), data[0]);
    }

    private static async Task<IEnumerable<JsonElement>> IndexAsync(SkiffServer server) => (await server.PostAsync("/v2/repository/index", "")).Body.EnumerateArray();

    private static async Task<IEnumerable<string>> LoadedAsync(SkiffServer server) =>
        (await IndexAsync(server)).Where(line => line.GetProperty("state").GetString() == "READY").Select(line => line.GetProperty("name").GetString()!);

    /// <summary>Counts reads of contents and holds them up until it is told to go.</summary>
    private sealed class SlowBlobs(IObjectStore store) : IObjectStore
    {
        private readonly TaskCompletionSource _go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _reads;

        public int Reads => Volatile.Read(ref _reads);
        public string Location => store.Location;

        public void Go() => _go.SetResult();

        public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
        {
            if (key.Contains("/blobs/", StringComparison.Ordinal))
            {
                Interlocked.Increment(ref _reads);
                await _go.Task.WaitAsync(cancellation);
            }
            return await store.GetAsync(key, cancellation);
        }

        public ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation) => store.TryCreateAsync(key, content, cancellation);

        public ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation) =>
            store.TryReplaceAsync(key, content, expectedTag, cancellation);

        public ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation) => store.ListAsync(prefix, cancellation);
    }
}
