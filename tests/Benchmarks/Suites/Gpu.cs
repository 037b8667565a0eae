using System.CommandLine;
using System.Diagnostics;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Support;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Benchmarks.Suites;

/// <summary>What the batcher leaves of a large model's throughput: nine convolutions of together four billion multiplications a row, as many as a ResNet-50, from callers of one row each, beside the same session driven raw at its best batch.</summary>
internal static class Gpu
{
    private const int Channels = 256;
    private const int Side = 28;
    private const int Layers = 9; // 9 × 256² × 3² × 28² = 4.2 billion

    public static Command Command()
    {
        var seconds = new Option<double>("--seconds") { Description = "Of each measurement", HelpName = "N", DefaultValueFactory = _ => 6 };
        var objective = new Option<double?>("--objective") { Description = "Milliseconds; 50 on a GPU, and on the CPU, where a row takes longer than that, 4,000", HelpName = "MS" };
        Suite.RequirePositive(seconds, objective);
        return Suite.Create("gpu", "A model of ResNet-50's size, batched, beside its session driven raw; on the CPU where there is no GPU.", [seconds, objective], (parsed, report) =>
        {
            var why = ExecutionProviders.WhyNot(ExecutionProvider.Cuda, AppContext.BaseDirectory);
            var provider = why is null ? ExecutionProvider.Cuda : ExecutionProvider.Cpu;
            var aim = TimeSpan.FromMilliseconds(parsed.GetValue(objective) ?? (why is null ? 50 : 4000));
            int[] sizes = why is null ? [1, 2, 4, 8, 16, 32, 64, 128] : [1, 2, 4];
            report.Text("# gpu\n");
            report.Text(why is null ? "- on the first GPU, by CUDA" : $"- HAS NOT SEEN A GPU: on one core of the CPU, since {why}");
            report.Text($"- {Layers} convolutions of {Channels} channels, 3 × 3, on {Side} × {Side}; objective {aim.TotalMilliseconds} ms");
            var model = Model();
            var inspected = OnnxFile.Inspect(model, ModelLimits.Default);
            var session = ModelSession.Load(model, inspected, provider);
            Suite.Progress("warming up");
            session.Warm(sizes);
            var raw = new Dictionary<int, double>();
            foreach (var size in sizes)
            {
                Suite.Progress($"raw, {size} rows a run");
                raw[size] = Raw(session, size, parsed.GetValue(seconds) / 2);
            }
            var best = raw.MaxBy(one => one.Value);
            Suite.Progress($"batched, {2 * best.Key} callers");
            var batched = Batched(session, best.Key, 2 * best.Key, aim, parsed.GetValue(seconds), provider);
            var rows = raw.Select(one => new[] { $"raw, {one.Key} rows a run", $"{one.Value:0.0}", "" }).ToList();
            rows.Add([$"batched, {2 * best.Key} callers of a row", $"{batched.Rate:0.0}", $"{batched.P99 * 1000:0}"]);
            if (provider == ExecutionProvider.Cuda)
            {
                Suite.Progress("one core of the CPU");
                var core = ModelSession.Load(model, inspected);
                var rate = Raw(core, 1, parsed.GetValue(seconds));
                core.Leave();
                rows.Add(["one core of the CPU", $"{rate:0.0}", ""]);
                report.Add("gpu/batched by one core", batched.Rate / rate, "×");
            }
            session.Leave();
            report.Table(1, ["way", "rows/s", "p99 ms"], rows);
            report.Add($"gpu/batched by raw ({provider})", batched.Rate / best.Value, "", Goal.AtLeast(0.8));
            report.Add($"gpu/p99 by objective ({provider})", batched.P99 / aim.TotalSeconds, "", Goal.AtMost(1));
        });
    }

    private static double Raw(ModelSession session, int rows, double seconds)
    {
        var buffer = new TensorBuffer();
        var input = Input(buffer, rows);
        var (started, runs) = (Stopwatch.GetTimestamp(), 0);
        do
        {
            session.Run(buffer, [input]).Dispose();
            runs++;
        }
        while (Stopwatch.GetElapsedTime(started).TotalSeconds < seconds);
        return runs * rows / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    /// <summary>Callers that ask again as soon as they are answered.</summary>
    private static (double Rate, double P99) Batched(ModelSession session, int mostRows, int callers, TimeSpan objective, double seconds, ExecutionProvider provider)
    {
        var options = new BatchingOptions { MostRows = mostRows, Objective = objective, Workers = provider == ExecutionProvider.Cpu ? 1 : null };
        var batcher = new Batcher(session, options, new ModelStatistics(), TimeProvider.System);
        RunAll(batcher, callers, seconds / 2);
        var started = Stopwatch.GetTimestamp();
        var latencies = RunAll(batcher, callers, seconds);
        var rate = latencies.Count / Stopwatch.GetElapsedTime(started).TotalSeconds;
        latencies.Sort();
        return (rate, latencies[(int)(0.99 * (latencies.Count - 1))]);
    }

    private static List<double> RunAll(Batcher batcher, int callers, double seconds)
    {
        var until = Stopwatch.GetTimestamp() + (long)(seconds * Stopwatch.Frequency);
        var all = Task.WhenAll(Enumerable.Range(0, callers).Select(_ => Task.Run(async () =>
        {
            var buffer = new TensorBuffer();
            Tensor[] inputs = [Input(buffer, 1)];
            var latencies = new List<double>();
            while (Stopwatch.GetTimestamp() < until)
            {
                var began = Stopwatch.GetTimestamp();
                (await batcher.RunAsync(buffer, inputs, Terms.Patient, null, CancellationToken.None)).Dispose();
                latencies.Add(Stopwatch.GetElapsedTime(began).TotalSeconds);
            }
            return latencies;
        }))).GetAwaiter().GetResult();
        return [.. all.SelectMany(latencies => latencies)];
    }

    private static Tensor Input(TensorBuffer buffer, int rows)
    {
        var length = rows * Channels * Side * Side * sizeof(float);
        var tensor = new Tensor { Name = "x", Type = DataType.Fp32, Shape = [rows, Channels, Side, Side], Length = length, Offset = buffer.Allocate(length) };
        var values = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(buffer.Span(tensor.Offset, length));
        var random = new Random(rows);
        foreach (ref var value in values) value = (float)random.NextDouble();
        return tensor;
    }

    private static byte[] Model()
    {
        var random = new Random(1);
        var model = new OnnxBuilder().Input("x", DataType.Fp32, -1, Channels, Side, Side).Output("y", DataType.Fp32, -1, Channels, 1, 1);
        var last = "x";
        for (var layer = 0; layer < Layers; layer++)
        {
            var weights = new float[Channels * Channels * 9];
            for (var i = 0; i < weights.Length; i++) weights[i] = (float)((random.NextDouble() - 0.5) * 0.05);
            model.Initializer($"w{layer}", weights, Channels, Channels, 3, 3)
                .Node("Conv", [last, $"w{layer}"], [$"c{layer}"], "", OnnxAttributes.Integers("pads", 1, 1, 1, 1))
                .Node("Relu", [$"c{layer}"], [$"r{layer}"]);
            last = $"r{layer}";
        }
        return model.Node("GlobalAveragePool", [last], ["y"]).Build();
    }
}
