using System.CommandLine;
using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Selection;
using Skiff.Serving;
using Skiff.Support;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Benchmarks.Suites;

/// <summary>Ensembles that answer at their deadline: how punctual they are when one member is slow, and what an answer is worth that lacks members.</summary>
internal static class Anytime
{
    private const int Classes = 10;
    private static readonly string[] Quick = ["mlp", "small"];

    public static Command Command()
    {
        var requests = new Option<int>("--requests") { Description = "Requests of each kind", HelpName = "N", DefaultValueFactory = _ => 500 };
        var deadline = new Option<double>("--deadline") { Description = "The app's objective, in ms", HelpName = "MS", DefaultValueFactory = _ => 20 };
        var slow = new Option<int>("--slow") { Description = "Products of a row with a 784 × 784 matrix that the slow member takes", HelpName = "N", DefaultValueFactory = _ => 400 };
        Suite.RequirePositive(requests, deadline, slow);
        return Suite.Create("anytime", "Ensembles with a slow member: punctual at the deadline, and how right with members missing.", [requests, deadline, slow], (parsed, report) =>
        {
            report.Text("# anytime\n");
            MeasureAsync(report, parsed.GetValue(requests), parsed.GetValue(deadline), parsed.GetValue(slow)).GetAwaiter().GetResult();
            WriteMissing(report, Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion"));
        });
    }

    private static async Task MeasureAsync(Report report, int requests, double deadline, int slow)
    {
        report.Heading($"Fan-out of which one member is slow ({slow} products with a 784 × 784 matrix), deadline {deadline} ms, {requests} requests");
        report.Text("From the request's arrival to its sealed answer, in this process, on "
            + $"{Environment.ProcessorCount} cores. Beside it a bare thread that sleeps for a deadline's time, again and again: how late the machine itself wakes who sleeps.\n");
        var samples = Samples.Load(null, 256);
        var rows = new List<string[]>();
        foreach (var members in new[] { 8, 16 })
        {
            using var apps = new LocalApps();
            var app = await PublishAsync(apps, members, deadline, slow);
            foreach (var callers in new[] { 1, 4 })
            {
                Suite.Progress($"{members} members, {callers} callers");
                rows.Add(await RunAsync(report, apps, app, samples, members, callers, requests, deadline));
            }
        }
        report.Table(0, ["members", "callers", "slow member alone, ms", "p50 ms", "p99 ms", "max ms", "p99 less deadline", "a sleeper's p99 less its time", "missing a request", "slow member's runs"], rows);
    }

    private static async Task<App> PublishAsync(LocalApps apps, int members, double deadline, int slow)
    {
        var folder = Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion");
        var names = Enumerable.Range(0, members - 1).Select(m => $"quick{m}").ToList();
        for (var m = 0; m < names.Count; m++) await apps.PushAsync(names[m], await File.ReadAllBytesAsync(Path.Combine(folder, $"fm_{Quick[m % Quick.Length]}.onnx")));
        await apps.PushAsync("slow", Slow(slow));
        names.Add("slow");
        return await apps.PushAppAsync($$"""
            {"name":"anytime","input":{"name":"image","type":"FP32","shape":[1,28,28]},"labels":[{{string.Join(',', Enumerable.Range(0, Classes).Select(c => $"\"{c}\""))}}],
             "objective_ms":{{FormattableString.Invariant($"{deadline}")}},"ensemble":{"members":[{{string.Join(',', names.Select(name => $"\"{name}\""))}}]} }
            """);
    }

    /// <summary>A chain of products with one matrix, as long as it is to take.</summary>
    private static byte[] Slow(int products)
    {
        const int pixels = Samples.Pixels;
        var matrix = new float[pixels * pixels];
        for (var i = 0; i < pixels; i++) matrix[i * pixels + (i + 1) % pixels] = 1;
        var model = new OnnxBuilder().Input("image", DataType.Fp32, -1, 1, 28, 28).Output("scores", DataType.Fp32, -1, Classes)
            .Initializer("shape", [-1L, pixels], 2).Initializer("matrix", matrix, pixels, pixels).Initializer("last", matrix[..(pixels * Classes)], pixels, Classes)
            .Node("Reshape", ["image", "shape"], ["h0"]);
        for (var i = 0; i < products; i++) model.Node("MatMul", [$"h{i}", "matrix"], [$"h{i + 1}"]);
        return model.Node("MatMul", [$"h{products}", "last"], ["scores"]).Build();
    }

    private static async Task<string[]> RunAsync(Report report, LocalApps apps, App app, Samples samples, int members, int callers, int requests, double deadline)
    {
        var time = TimeProvider.System;
        using var folder = new Support.ScratchFolder();
        using var state = new SqliteStateStore(folder["state.db"]);
        var predictor = new Predictor(
            apps.Models, new CascadeCache(new PredictionCache(0), apps.Models, new CacheStatistics(), time), new HeadCache(state, 0, time), new PendingFeedback(), new DecisionSeal(["a secret of the benchmark's"], time), new PredictorOptions(), time);
        var buffers = Enumerable.Range(0, callers).Select(_ => new InferRequest()).ToArray();
        foreach (var buffer in buffers) await AskAsync(buffer, 0);
        while (!app.IsWarm) await AskAsync(buffers[0], 0); // the objective doesn't count before
        var slowAlone = await AloneAsync(apps, app, samples);

        var (took, missing, before) = (new double[requests], 0, apps.Executions("slow"));
        var next = -1;
        using var done = new CancellationTokenSource();
        var sleeper = Task.Factory.StartNew(() => Sleep(deadline, done.Token), TaskCreationOptions.LongRunning);
        await Task.WhenAll(buffers.Select(buffer => Task.Run(async () =>
        {
            while (Interlocked.Increment(ref next) is var i && i < requests)
            {
                var started = time.GetTimestamp();
                var result = await AskAsync(buffer, i);
                took[i] = time.GetElapsedTime(started).TotalMilliseconds;
                Interlocked.Add(ref missing, result.Predictions[0].Members.Count(member => member.Missing is not null));
            }
        })));
        done.Cancel();
        var slept = await sleeper;
        Array.Sort(took);
        var (p50, p99) = (took[requests / 2], took[requests * 99 / 100]);
        report.Add($"anytime/{members} members/{callers} callers/p99 less deadline", p99 - deadline, "ms", Goal.AtMost(2));
        report.Add($"anytime/{members} members/{callers} callers/sleeper p99", slept, "ms");
        report.Add($"anytime/{members} members/{callers} callers/missing a request", (double)missing / requests, "members");
        return
        [
            $"{members}", $"{callers}", Report.Number(slowAlone, "0"), Report.Number(p50, "0.00"), Report.Number(p99, "0.00"), Report.Number(took[^1], "0.00"), Report.Number(p99 - deadline, "0.00"),
            Report.Number(slept, "0.00"), Report.Number((double)missing / requests, "0.00"), $"{apps.Executions("slow") - before}",
        ];

        ValueTask<PredictResult> AskAsync(InferRequest request, int image)
        {
            // As a server does with what it keeps for the next request.
            request.Clear();
            var input = Write(request, samples.Images[image % samples.Images.Length]);
            return predictor.PredictAsync(new PredictRequest { App = app, Buffer = request.Buffer, Input = input, Arrived = time.GetTimestamp() }, CancellationToken.None);
        }
    }

    private static Tensor Write(InferRequest request, byte[] image)
    {
        var input = request.AddInput();
        (input.Name, input.Type, input.Length) = ("image", DataType.Fp32, image.Length * sizeof(float));
        input.SetShape([1, 1, 28, 28]);
        input.Offset = request.Buffer.Allocate(input.Length);
        var pixels = MemoryMarshal.Cast<byte, float>(request.Buffer.Span(input.Offset, input.Length));
        for (var i = 0; i < pixels.Length; i++) pixels[i] = image[i] / 255f;
        return input;
    }

    /// <summary>How long the slow member takes that nothing else runs beside.</summary>
    private static async Task<double> AloneAsync(LocalApps apps, App app, Samples samples)
    {
        using var lease = await apps.Models.AcquireAsync(app.Tenant, "slow", null, CancellationToken.None);
        var request = new InferRequest();
        var input = Write(request, samples.Images[0]);
        var times = new double[3];
        for (var i = 0; i < times.Length; i++)
        {
            using var outputs = await lease.RunAsync(request.Buffer, [input], long.MaxValue, null, CancellationToken.None);
            times[i] = outputs.RunTime.TotalMilliseconds;
        }
        return Suite.Median(times);
    }

    private static double Sleep(double milliseconds, CancellationToken until)
    {
        var late = new List<double>();
        while (!until.IsCancellationRequested)
        {
            var started = Stopwatch.GetTimestamp();
            Thread.Sleep((int)milliseconds);
            late.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds - (int)milliseconds);
        }
        late.Sort();
        return late[late.Count * 99 / 100];
    }

    private static void WriteMissing(Report report, string folder)
    {
        Suite.Progress("accuracy with members missing");
        var test = Ensemble.Split.Load(folder, "test");
        string[] members = ["mlp", "small", "medA", "medA2", "medB", "big"];
        const int draws = 5;
        report.Heading($"Mean of {string.Join(" ", members)}, each missing at random, {draws} draws of {test.Labels.Length} test images");
        report.Text("In a missing member's place its running mean, which starts from nothing; or nothing: the mean of the others, and where nobody is there every label alike.\n");
        report.Table(1, ["share missing", "accuracy, means instead", "accuracy, left out", "NLL, means instead", "NLL, left out"], new[] { 0, 0.125, 0.25, 0.5, 0.75 }.Select(share =>
        {
            var (filled, left) = (new Tally(), new Tally());
            for (var draw = 0; draw < draws; draw++) Draw(test, members, share, new Random(draw), filled, left);
            report.Add($"anytime/{share} missing/accuracy, means instead", filled.Accuracy, "share");
            report.Add($"anytime/{share} missing/accuracy, left out", left.Accuracy, "share");
            return (string[])[Report.Number(share, "0.000"), Report.Number(filled.Accuracy, "0.00%"), Report.Number(left.Accuracy, "0.00%"), Report.Number(filled.Loss, "0.0000"), Report.Number(left.Loss, "0.0000")];
        }));
    }

    private static void Draw(Ensemble.Split test, string[] members, double share, Random random, Tally filled, Tally left)
    {
        var means = new MemberMeans(members.Length, Classes);
        var combined = new float[Classes];
        var others = new double[members.Length];
        for (var i = 0; i < test.Labels.Length; i++)
        {
            var said = test.Gather(members, i);
            var present = 0UL;
            for (var m = 0; m < members.Length; m++)
            {
                others[m] = random.NextDouble() < share ? 0 : 1;
                if (others[m] == 0) continue;
                present |= 1UL << m;
                means.Observe(m, said.AsSpan(m * Classes, Classes));
            }
            if (present == 0) combined.AsSpan().Fill(1f / Classes);
            else Combine.WeightedMean(said, others, combined);
            left.Add(combined, test.Labels[i]);
            means.FillMissing(said, present);
            Combine.Mean(said, combined);
            filled.Add(combined, test.Labels[i]);
        }
    }

    private sealed class Tally
    {
        private int _count, _right;
        private double _loss;

        public double Accuracy => (double)_right / _count;

        public double Loss => _loss / _count;

        public void Add(float[] probabilities, int label)
        {
            _count++;
            if (TensorPrimitives.IndexOfMax<float>(probabilities) == label) _right++;
            _loss += Calibration.NegativeLogLikelihood(probabilities, [label]);
        }
    }
}
