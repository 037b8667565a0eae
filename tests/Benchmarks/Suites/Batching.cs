using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Monitoring;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What the batcher gets out of a session: 64 callers who ask for one row at a time, in process, beside the same session driven raw, that is by threads that do nothing but run full batches of the best size.
/// And what it costs who comes alone.
/// </summary>
internal static class Batching
{
    private const int Callers = 64;
    private static readonly string[] Models = ["fm_mlp", "fm_small", "fm_medA", "fm_big"];
    private static readonly int[] Sizes = [1, 4, 8, 16, 32, 64, 128];

    public static Command Command()
    {
        var seconds = new Option<double>("--seconds") { Description = "Length of one measurement", HelpName = "N", DefaultValueFactory = _ => 1 };
        var rounds = new Option<int>("--rounds") { Description = "Measurements of each kind, by turns; their median is reported", HelpName = "N", DefaultValueFactory = _ => 5 };
        var only = new Option<string[]>("--only") { Description = "Measure these models only", DefaultValueFactory = _ => Models, AllowMultipleArgumentsPerToken = true };
        only.AcceptOnlyFromAmong(Models);
        Suite.RequirePositive(seconds, rounds);
        return Suite.Create("batching", "Rows a second and CPU a row through the batcher, beside the raw session at its best; and the latency of who comes alone.", [seconds, rounds, only],
            (parsed, report) => Run(TimeSpan.FromSeconds(parsed.GetValue(seconds)), parsed.GetValue(rounds), parsed.GetValue(only)!, report));
    }

    private static void Run(TimeSpan length, int rounds, string[] only, Report report)
    {
        var samples = Samples.Load(null, 256);
        report.Text("# batching\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {Environment.ProcessorCount} cores; raw and callers may use all of them");
        report.Text($"- {Callers} callers, one image a request; {rounds} rounds of {length.TotalSeconds} s, by turns; medians");
        var rows = new List<string[]>();
        var alone = new List<string[]>();
        foreach (var model in Models.Intersect(only))
        {
            Suite.Progress(model);
            var session = Load(samples, model);
            var raw = new RawSession(session, samples);
            var (size, threads) = Best(raw, length / 4);
            var statistics = new ModelStatistics();
            var batcher = new Batcher(session, new BatchingOptions(), statistics, TimeProvider.System);
            var callers = Enumerable.Range(0, Callers).Select(i => new Caller(samples, i)).ToArray();
            Measure(length, () => callers.Sum(caller => caller.Rows), stop => Ask(batcher, callers, stop)); // warm: sizes, workers
            var rawRounds = new List<Measured>();
            var ourRounds = new List<Measured>();
            for (var round = 0; round < rounds; round++)
            {
                rawRounds.Add(raw.Measure(size, threads, length));
                ourRounds.Add(Measure(length, () => callers.Sum(caller => caller.Rows), stop => Ask(batcher, callers, stop)));
            }
            var (rawRate, ourRate) = (Suite.Median(rawRounds.Select(round => round.RowsPerSecond)), Suite.Median(ourRounds.Select(round => round.RowsPerSecond)));
            var (rawCpu, ourCpu) = (Suite.Median(rawRounds.Select(round => round.CpuMicroseconds)), Suite.Median(ourRounds.Select(round => round.CpuMicroseconds)));
            var mean = (double)statistics.Rows / Math.Max(1, statistics.Executions);
            rows.Add([model, $"{size} × {threads}", Report.Number(rawRate, "#,0"), Report.Number(rawCpu, "0.00"), Report.Number(ourRate, "#,0"), Report.Number(ourCpu, "0.00"),
                Report.Number(ourRate / rawRate, "0.00"), Report.Number(mean, "0.0"), $"{batcher.Workers}"]);
            if (model is "fm_small" or "fm_medA" or "fm_big") report.Add($"{model}: rows/s, of the raw session's best", ourRate / rawRate, "ratio", Goal.AtLeast(0.8));
            if (model == "fm_mlp") report.Add("fm_mlp: CPU a row on top of raw", ourCpu - rawCpu, "µs", Goal.AtMost(1.5));

            var (rawRun, run) = Alone(session, samples, length);
            alone.Add([model, Report.Number(rawRun, "0.0"), Report.Number(run, "0.0"), Report.Number(run - rawRun, "0.0")]);
            report.Add($"{model}: alone, on top of a raw run", run - rawRun, "µs", Goal.AtMost(20));
            session.Leave();
        }
        report.Heading("In company");
        report.Table(1, ["model", "raw: rows × threads", "raw rows/s", "raw CPU µs/row", "rows/s", "CPU µs/row", "÷ raw", "rows a run", "workers"], rows);
        report.Heading("Alone");
        report.Table(1, ["model", "raw run, µs", "through the batcher, µs", "on top"], alone);
    }

    private static ModelSession Load(Samples samples, string model)
    {
        var content = File.ReadAllBytes(Path.Combine(Path.GetDirectoryName(samples.ModelFile)!, model + ".onnx"));
        var session = ModelSession.Load(content, OnnxFile.Inspect(content, ModelLimits.Default));
        session.Warm();
        return session;
    }

    private static (int Size, int Threads) Best(RawSession raw, TimeSpan length) =>
        (from size in Sizes
         from threads in Enumerable.Range(1, Environment.ProcessorCount)
         orderby raw.Measure(size, threads, length).RowsPerSecond descending
         select (size, threads)).First();

    private static void Ask(Batcher batcher, Caller[] callers, Func<bool> stop) => Task.WaitAll([.. callers.Select(caller => Task.Run(() => caller.AskAsync(batcher, stop)))]);

    private static Measured Measure(TimeSpan length, Func<long> rows, Action<Func<bool>> run)
    {
        var rowsBefore = rows();
        var cpuBefore = Environment.CpuUsage.TotalTime;
        var started = Stopwatch.GetTimestamp();
        run(() => Stopwatch.GetElapsedTime(started) > length);
        var elapsed = Stopwatch.GetElapsedTime(started);
        var cpu = Environment.CpuUsage.TotalTime - cpuBefore;
        var done = rows() - rowsBefore;
        return new Measured(done / elapsed.TotalSeconds, cpu.TotalMicroseconds / done);
    }

    /// <summary>One caller at a time, on one thread: medians of single runs, by turns.</summary>
    private static (double Raw, double Batched) Alone(ModelSession session, Samples samples, TimeSpan length)
    {
        var batcher = new Batcher(session, new BatchingOptions(), new ModelStatistics(), TimeProvider.System);
        var caller = new Caller(samples, 0);
        var (raw, batched) = (new List<double>(), new List<double>());
        for (var started = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(started) < length;)
        {
            var before = Stopwatch.GetTimestamp();
            session.Run(caller.Buffer, caller.Inputs).Dispose();
            raw.Add(Stopwatch.GetElapsedTime(before).TotalMicroseconds);
            before = Stopwatch.GetTimestamp();
            batcher.RunAsync(caller.Buffer, caller.Inputs, long.MaxValue, null, CancellationToken.None).AsTask().GetAwaiter().GetResult().Dispose();
            batched.Add(Stopwatch.GetElapsedTime(before).TotalMicroseconds);
        }
        return (Suite.Median(raw), Suite.Median(batched));
    }

    private readonly record struct Measured(double RowsPerSecond, double CpuMicroseconds);

    /// <summary>Somebody with one image, who asks again as soon as there is an answer.</summary>
    private sealed class Caller
    {
        private readonly float[] _expected = new float[1];

        public Caller(Samples samples, int image)
        {
            Buffer = new TensorBuffer();
            Inputs = [Images(samples, Buffer, image, 1)];
        }

        public TensorBuffer Buffer { get; }
        public Tensor[] Inputs { get; }
        public long Rows { get; private set; }

        public async Task AskAsync(Batcher batcher, Func<bool> stop)
        {
            while (!stop())
            {
                using var outputs = await batcher.RunAsync(Buffer, Inputs, long.MaxValue, null, CancellationToken.None);
                var first = outputs.Floats(0)[0];
                // Each must get its own row, whoever's stand beside it.
                if (Rows++ == 0) _expected[0] = first;
                else if (Math.Abs(first - _expected[0]) > 1e-3f * (1 + Math.Abs(first))) throw new BenchmarkException($"a caller was answered {first} and {_expected[0]} for the same image");
            }
        }
    }

    /// <summary>The session without a batcher.</summary>
    private sealed class RawSession(ModelSession session, Samples samples)
    {
        private long _rows;

        public Measured Measure(int size, int threads, TimeSpan length) => Batching.Measure(length, () => Interlocked.Read(ref _rows), stop =>
        {
            var all = Enumerable.Range(0, threads).Select(_ => new Thread(() =>
            {
                var buffer = new TensorBuffer();
                Tensor[] inputs = [Images(samples, buffer, 0, size)];
                while (!stop())
                {
                    session.Run(buffer, inputs).Dispose();
                    Interlocked.Add(ref _rows, size);
                }
            })).ToArray();
            foreach (var thread in all) thread.Start();
            foreach (var thread in all) thread.Join();
        });
    }

    private static Tensor Images(Samples samples, TensorBuffer buffer, int first, int count)
    {
        var tensor = new Tensor { Name = "image", Type = DataType.Fp32, Shape = [count, 1, 28, 28], Length = count * Samples.Pixels * sizeof(float) };
        tensor.Offset = buffer.Allocate(tensor.Length);
        var values = MemoryMarshal.Cast<byte, float>(buffer.Span(tensor.Offset, tensor.Length));
        for (var i = 0; i < values.Length; i++) values[i] = samples.Images[(first + i / Samples.Pixels) % samples.Images.Length][i % Samples.Pixels] / 255f;
        return tensor;
    }
}
