using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Serving;
using Skiff.Support;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What a kept answer costs beside a computed one, in this process, without HTTP; whether identical requests in flight run once; and what the approximate cache of an app costs in errors for what it saves in runs,
/// on Fashion-MNIST: images as they are, with noise, and shifted by a pixel.
/// </summary>
internal static class Cache
{
    private const int Callers = 100;
    private const int Labels = 10;
    private static readonly byte[] Sha = new byte[32];
    private const double Noise = 0.02; // of a pixel from 0 to 1

    public static Command Command()
    {
        var samples = new Option<string?>("--samples") { Description = "Folder of models, images and labels, instead of infrastructure/samples/fashion", HelpName = "DIR" };
        var rounds = new Option<int>("--rounds") { Description = "Rounds that hits and misses take in turns", HelpName = "N", DefaultValueFactory = _ => 15 };
        var images = new Option<int>("--images") { Description = "Test images that the approximate cache is asked for", HelpName = "N", DefaultValueFactory = _ => 2000 };
        Suite.RequirePositive(rounds, images);
        return Suite.Create("cache", "Hits beside misses, identical requests in flight, and the approximate cache's errors against its hits.", [samples, rounds, images], (parsed, report) =>
        {
            var folder = parsed.GetValue(samples) ?? Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion");
            RunAsync(folder, parsed.GetValue(rounds), parsed.GetValue(images), report).GetAwaiter().GetResult();
        });
    }

    private static async Task RunAsync(string folder, int rounds, int images, Report report)
    {
        var test = Idx.Read(Path.Combine(folder, "test-images-idx3-ubyte.gz"));
        var testLabels = Idx.Read(Path.Combine(folder, "test-labels-idx1-ubyte.gz"));
        var validationLabels = Idx.Read(Path.Combine(folder, "val-labels-idx1-ubyte.gz"));
        var validation = Idx.Read(Path.Combine(folder, "val-images-idx3-ubyte.gz"));
        var model = await File.ReadAllBytesAsync(Path.Combine(folder, "fm_small.onnx"));
        using var apps = new LocalApps();
        await apps.PushAsync("fm_small", model);
        report.Text("# cache\n");
        report.Text($"- fm_small on one image of 784 floats; {Cores.Shared.Description}");
        await WritePathsAsync(report, apps, test, rounds);
        await WriteFlightsAsync(report, model, test);
        await WriteMemoryAsync(report, apps, test, validation);
        await WriteApproximateAsync(report, apps, validation, validationLabels, test, testLabels, Math.Min(images, test.Count));
    }

    private static async Task WritePathsAsync(Report report, LocalApps apps, Idx test, int rounds)
    {
        const int operations = 400;
        var plain = new Asker(apps, await apps.PushAppAsync(Document("plain", "false")));
        var kept = new Asker(apps, await apps.PushAppAsync(Document("kept", "true")));
        var missing = new Asker(apps, await apps.PushAppAsync(Document("missing", "true")));
        Contender[] contenders =
        [
            new Asking("no cache: prediction", plain, test, whole: true),
            new Asking("miss: prediction", missing, test, whole: true, alwaysNew: true),
            new Asking("hit: prediction", kept, test, whole: true),
            new Asking("no cache: cascade", plain, test, whole: false),
            new Asking("hit: cascade", kept, test, whole: false),
            new Hashing(test, "hash of the row alone", row => RowKey.Of(null!, row)),
            new Hashing(test, "SHA-256 in its place", row => SHA256.HashData(row, Sha)),
        ];
        var costs = (await Turns.MeasureAsync(contenders, rounds, operations, TimeSpan.FromSeconds(1))).ToDictionary(entry => entry.Key, entry => Effort.Median(entry.Value));
        report.Heading($"Paths, medians of {rounds} rounds of {operations}");
        report.Text("A prediction is all between the decoded request and the answer before it is encoded: it seals the decision. A miss computes and keeps.\n");
        report.Table(1, ["path", "µs", "CPU µs", "allocated bytes"], contenders.Select(contender =>
        {
            var cost = costs[contender.Name];
            report.Add($"cache/{contender.Name}/time", 1000 * cost.Milliseconds, "µs");
            report.Add($"cache/{contender.Name}/allocated", cost.AllocatedBytes, "bytes");
            return new[] { contender.Name, Report.Number(1000 * cost.Milliseconds, "0.0"), Report.Number(cost.CpuMicroseconds, "0.0"), Report.Number(cost.AllocatedBytes, "0") };
        }));
        report.Add("cache/prediction: hit ÷ no cache", costs["hit: prediction"].Milliseconds / costs["no cache: prediction"].Milliseconds, "ratio", Goal.AtMost(0.1));
        report.Add("cache/cascade: hit ÷ no cache", costs["hit: cascade"].Milliseconds / costs["no cache: cascade"].Milliseconds, "ratio", Goal.AtMost(0.1));
    }

    /// <summary>The model is not loaded yet, so the first caller's run takes long enough for all others to come.</summary>
    private static async Task WriteFlightsAsync(Report report, byte[] model, Idx test)
    {
        using var cold = new LocalApps();
        await cold.PushAsync("fm_small", model);
        var asker = new Asker(cold, await cold.PushAppAsync(Document("flights", "true")));
        var answers = await Task.WhenAll(Enumerable.Range(0, Callers).Select(_ => Task.Run(() => asker.PredictAsync(Floats(test, 0)).AsTask())));
        if (answers.Any(answer => answer.Predictions[0].Label != answers[0].Predictions[0].Label)) throw new BenchmarkException("identical requests were answered differently");
        var counts = asker.Counts;
        report.Heading($"{Callers} identical requests at once, before the model is loaded");
        report.Table(1, ["", "requests"], [
            ["runs of the model", $"{cold.Executions("fm_small")}"], ["computed", $"{counts.Rows(AnswerSource.Computed)}"],
            ["joined", $"{counts.Rows(AnswerSource.Joined)}"], ["kept", $"{counts.Rows(AnswerSource.Exact)}"]]);
        report.Add("cache/runs of identical requests", cold.Executions("fm_small"), "runs", Goal.AtMost(1));
    }

    private static async Task WriteMemoryAsync(Report report, LocalApps apps, Idx test, Idx validation)
    {
        report.Heading("Memory of an entry, as counted and as the collector sees it");
        var rows = new List<string[]>();
        foreach (var (name, cache) in new[] { ("exact", "true"), ("approximate", """{"approximate":{"distance":0.000001}}""") })
        {
            var app = await apps.PushAppAsync(Document($"memory_{name}", cache));
            var asker = new Asker(apps, app, 1L << 30);
            await asker.PredictAsync(Floats(test, 0));
            var before = GC.GetTotalMemory(forceFullCollection: true);
            var counted = asker.Cache.UsedBytes;
            foreach (var images in new[] { test, validation })
            {
                for (var i = 0; i < images.Count; i++) await asker.PredictAsync(Floats(images, i));
            }
            var entries = (double)asker.Counts.Rows(AnswerSource.Computed) - 1;
            counted = asker.Cache.UsedBytes - counted;
            var live = GC.GetTotalMemory(forceFullCollection: true) - before;
            GC.KeepAlive(asker);
            rows.Add([name, $"{entries:0}", Report.Number(counted / entries, "0"), Report.Number(live / entries, "0")]);
            report.Add($"cache/{name}/live ÷ counted", (double)live / counted, "ratio", Goal.AtMost(1));
        }
        report.Table(1, ["cache", "entries", "bytes counted", "bytes live"], rows);
    }

    private static async Task WriteApproximateAsync(Report report, LocalApps apps, Idx validation, Idx validationLabels, Idx test, Idx testLabels, int count)
    {
        var streams = new (string Name, Func<int, float[]> Image)[]
        {
            ("test images", i => Floats(test, i)),
            ($"kept images + noise σ {Report.Number(Noise, "0.00")}", i => Noisy(Floats(validation, i), new Random(i))),
            ("kept images shifted 1 pixel", i => Shifted(Floats(validation, i))),
        };
        var computer = new Asker(apps, await apps.PushAppAsync(Document("computed", "false")));
        foreach (var (bits, tables) in new[] { (16, 4), (8, 8), (64, 4) })
        {
            report.Heading($"Approximate, {tables} tables of {bits} bits: {count} requests a stream, after {validation.Count} other images");
            var rows = new List<string[]>();
            foreach (var (name, image) in streams)
            {
                foreach (var distance in new[] { 0.3, 1, 2, 3, 4, 5, 6 })
                {
                    Suite.Progress($"{tables} × {bits} bits, {name}, distance {distance}");
                    var settings = $$$"""{"approximate":{"distance":{{{Report.Number(distance, "0.0")}}},"bits":{{{bits}}},"tables":{{{tables}}}}}""";
                    var asker = new Asker(apps, await apps.PushAppAsync(Document("near", settings)), 1L << 30);
                    for (var i = 0; i < validation.Count; i++) await asker.PredictAsync(Floats(validation, i));
                    int hits = 0, changed = 0, errors = 0, errorsComputed = 0;
                    var truth = ReferenceEquals(image, streams[0].Image) ? testLabels : validationLabels;
                    for (var i = 0; i < count; i++)
                    {
                        var pixels = image(i);
                        var answer = (await asker.PredictAsync(pixels)).Predictions[0];
                        var exact = (await computer.PredictAsync(pixels)).Predictions[0];
                        var isHit = answer.Origin.Source == AnswerSource.Approximate;
                        hits += isHit ? 1 : 0;
                        changed += isHit && answer.Label != exact.Label ? 1 : 0;
                        errors += answer.Label != truth.Values[i] ? 1 : 0;
                        errorsComputed += exact.Label != truth.Values[i] ? 1 : 0;
                    }
                    rows.Add([
                        name, Report.Number(distance, "0.0"), Report.Number((double)hits / count, "0.0%"), hits == 0 ? "n/a" : Report.Number((double)changed / hits, "0.0%"),
                        Report.Number((double)errors / count, "0.00%"), Report.Number((double)errorsComputed / count, "0.00%")]);
                    report.Add($"cache/approximate {bits}×{tables}/{name}/{distance}/hit rate", (double)hits / count, "share");
                    report.Add($"cache/approximate {bits}×{tables}/{name}/{distance}/errors added", (double)(errors - errorsComputed) / count, "share");
                }
            }
            report.Table(1, ["stream", "distance", "hits", "hits answered otherwise than computed", "errors", "errors computed"], rows);
        }
    }

    private static string Document(string name, string cache) => $$"""
        {"name":"{{name}}","input":{"name":"image","type":"FP32","shape":[1,28,28]},"labels":[{{string.Join(',', Enumerable.Range(0, Labels).Select(label => $"\"{label}\""))}}],"cache":{{cache}},"cascade":[{"model":"fm_small"}]}
        """;

    private static float[] Floats(Idx images, int item)
    {
        var floats = new float[Samples.Pixels];
        var bytes = images[item];
        for (var i = 0; i < floats.Length; i++) floats[i] = bytes[i] / 255f;
        return floats;
    }

    private static float[] Noisy(float[] image, Random random)
    {
        for (var i = 0; i < image.Length; i++) image[i] += (float)(Noise * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        return image;
    }

    private static float[] Shifted(float[] image)
    {
        for (var y = 0; y < 28; y++)
        {
            var line = image.AsSpan(y * 28, 28);
            line[..27].CopyTo(line[1..]);
            line[0] = 0;
        }
        return image;
    }

    /// <summary>An app with a cache of its own, asked without HTTP, by any number of threads.</summary>
    private sealed class Asker
    {
        private readonly App _app;
        private readonly CascadeCache _cascades;
        private readonly Predictor _predictor;
        private readonly TensorBuffer _buffer;
        private readonly Tensor _input;

        public Asker(LocalApps apps, App app, long bytes = 64 << 20)
        {
            var statistics = new CacheStatistics();
            _app = app;
            (_buffer, _input) = Make();
            Cache = new PredictionCache(bytes);
            Counts = statistics.Of(app.Tenant, app.Name);
            _cascades = new CascadeCache(Cache, apps.Models, statistics, TimeProvider.System);
            // The app has no head, so nothing asks for state.
            _predictor = new Predictor(apps.Models, _cascades, new HeadCache(null!, 0, TimeProvider.System), new PendingFeedback(), new DecisionSeal(["the benchmark's secret"], TimeProvider.System), new PredictorOptions(), TimeProvider.System);
        }

        public PredictionCache Cache { get; }

        public CacheCounts Counts { get; }

        public ValueTask<CascadeAnswers> RunAsync(float[] image)
        {
            Fill(image, _buffer, _input);
            return _cascades.RunAsync(_app, _app.Cascade!, _buffer, _input, long.MaxValue, CancellationToken.None);
        }

        /// <summary>For many at once: a buffer is in use until the answer is there, whichever thread brings it.</summary>
        public ValueTask<PredictResult> PredictAsync(float[] image)
        {
            var (buffer, input) = Make();
            Fill(image, buffer, input);
            return PredictAsync(buffer, input);
        }

        /// <summary>For one after the other.</summary>
        public ValueTask<PredictResult> PredictInPlaceAsync(float[] image)
        {
            Fill(image, _buffer, _input);
            return PredictAsync(_buffer, _input);
        }

        private ValueTask<PredictResult> PredictAsync(TensorBuffer buffer, Tensor input) =>
            _predictor.PredictAsync(new PredictRequest { App = _app, Buffer = buffer, Input = input, Arrived = Stopwatch.GetTimestamp() }, CancellationToken.None);

        private static (TensorBuffer Buffer, Tensor Input) Make() => (new TensorBuffer(), new Tensor { Name = "image", Type = DataType.Fp32, Shape = [1, 1, 28, 28], Length = Samples.Pixels * sizeof(float) });

        private static void Fill(float[] image, TensorBuffer buffer, Tensor input)
        {
            buffer.Clear();
            input.Offset = buffer.Allocate(input.Length);
            image.CopyTo(MemoryMarshal.Cast<byte, float>(buffer.Span(input.Offset, input.Length)));
        }
    }

    /// <summary>Asks for the same 50 images over and over, or for ones that nobody has asked for.</summary>
    private sealed class Asking(string name, Asker asker, Idx test, bool whole, bool alwaysNew = false) : Contender(name)
    {
        private readonly float[][] _images = [.. Enumerable.Range(0, 50).Select(i => Floats(test, i))];
        private int _next;

        public override async Task RunAsync()
        {
            var image = _images[_next++ % _images.Length];
            // The least change there is makes it another input.
            if (alwaysNew) image[0] = _next * 1e-7f;
            if (whole) await asker.PredictInPlaceAsync(image);
            else await asker.RunAsync(image);
        }
    }

    /// <summary>What a hit pays for keys that nobody can make collide.</summary>
    private sealed class Hashing(Idx test, string name, Action<byte[]> hash) : Contender(name)
    {
        private readonly byte[] _row = MemoryMarshal.AsBytes(Floats(test, 0).AsSpan()).ToArray();

        public override Task RunAsync()
        {
            hash(_row);
            return Task.CompletedTask;
        }
    }
}
