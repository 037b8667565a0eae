using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What becomes of a server that is asked more than it can do: <c>fashion</c>, 16 rows a request, open loop at shares of its capacity, which is the highest rate at which 99% are answered within the objective
/// and nothing is degraded. Beside it the endpoint that a good engineer writes in an afternoon, with the heaviest of the app's models, at the same shares of its own capacity.
/// </summary>
internal static class Overload
{
    private const int RowsARequest = 16;
    private const int MostConnections = 256;
    private const double Settles = 1; // seconds of each level that come first
    private const double Grace = 0.010; // seconds beyond the objective in which a reply still counts
    private static readonly double[] Levels = [0.5, 0.8, 1, 2, 3];

    public static Command Command()
    {
        var seconds = new Option<double>("--seconds") { Description = "Length of one level, after its first second", HelpName = "N", DefaultValueFactory = _ => 4 };
        var probe = new Option<double>("--probe") { Description = "Length of one try when capacity is looked for", HelpName = "N", DefaultValueFactory = _ => 1.5 };
        var warmUp = new Option<double>("--warm-up") { Description = "Seconds of load that come first, for each server", HelpName = "N", DefaultValueFactory = _ => 5 };
        var rate = new Option<double?>("--capacity") { Description = "Requests a second that are taken for each server's capacity, instead of looking for it: where the machine is too busy to tell", HelpName = "N" };
        var only = new Option<string[]>("--only") { Description = "Measure these servers only", DefaultValueFactory = _ => [Servers.Skiff, Servers.Baseline], AllowMultipleArgumentsPerToken = true };
        only.AcceptOnlyFromAmong(Servers.Skiff, Servers.Baseline);
        Suite.RequirePositive(seconds, probe, warmUp, rate);
        return Suite.Create("overload", "Half to three times of what a server can do: who is answered, how soon, how well; beside a plain baseline.", [seconds, probe, warmUp, rate, only], (parsed, report) =>
        {
            var cores = Cores.Split(); // before any other thread is started
            var folder = Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion");
            var run = new Run(report, cores, folder, parsed.GetValue(seconds), parsed.GetValue(probe), parsed.GetValue(warmUp));
            run.Describe();
            run.MeasureConstant();
            foreach (var name in parsed.GetValue(only)!) run.Measure(name, parsed.GetValue(rate));
        });
    }

    private sealed class Run
    {
        private readonly Report _report;
        private readonly Cores _cores;
        private readonly string _folder;
        private readonly double _seconds;
        private readonly double _probe;
        private readonly double _warmUp;
        private readonly JsonNode _app;
        private readonly string[] _models;
        private readonly Idx _images;
        private readonly Idx _labels;
        private readonly double _objective;
        private double _refusalSeconds; // of processor time

        public Run(Report report, Cores cores, string folder, double seconds, double probe, double warmUp)
        {
            (_report, _cores, _folder, _seconds, _probe, _warmUp) = (report, cores, folder, seconds, probe, warmUp);
            _app = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "app.json")))!;
            _models = [.. _app["cascade"]!.AsArray().Select(stage => Path.Combine(folder, (string)stage!["model"]! + ".onnx"))];
            _objective = (double)_app["objective_ms"]! / 1000;
            _images = Idx.Read(Path.Combine(folder, "test-images-idx3-ubyte.gz"));
            _labels = Idx.Read(Path.Combine(folder, "test-labels-idx1-ubyte.gz"));
        }

        public void Describe()
        {
            _report.Text("# overload\n");
            _report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.ProcessArchitecture}");
            _report.Text($"- {_cores.Description}");
            _report.Text($"- {(string)_app["name"]!}, cache off, objective {_objective * 1000} ms, {RowsARequest} test images a request as JSON; Poisson arrivals, latency from the intended moment; {_seconds} s a level after a first second");
        }

        /// <summary>What it costs to read such a request and say something that needs no thought: the least that a refusal can cost.</summary>
        public void MeasureConstant()
        {
            using var server = Servers.StartChild(Servers.Constant, _cores, _models[0]);
            var workload = Requests("/v2/models/fm_mlp/infer", InferBody);
            using var generator = new LoadGenerator(server, workload, 16);
            generator.Run(TimeSpan.FromSeconds(Math.Min(2, _warmUp)), verifyEvery: int.MaxValue);
            var before = server.ProcessorTime;
            var load = generator.Run(TimeSpan.FromSeconds(2), verifyEvery: int.MaxValue);
            _refusalSeconds = (server.ProcessorTime - before).TotalSeconds / load.Requests;
            _report.Text($"- reading a request of {workload.Exchanges[0].Request.Length / 1024} KiB and answering a constant costs {_refusalSeconds * 1e6:0.0} µs of processor time");
            _report.Add("overload/constant/cpu", _refusalSeconds * 1e6, "µs");
        }

        public void Measure(string name, double? given)
        {
            using var scratch = new ScratchFolder();
            using var server = Start(name, scratch.Path);
            var workload = name == Servers.Skiff ? Requests("/apps/fashion/predict", AppBody) : Requests("/v2/models/fm_mlp/infer", InferBody);
            Suite.Progress($"warming up {name}");
            double alone;
            using (var generator = new LoadGenerator(server, workload, 1))
            {
                generator.Run(TimeSpan.FromSeconds(_warmUp), verifyEvery: int.MaxValue);
                var load = generator.Run(TimeSpan.FromSeconds(_probe), verifyEvery: int.MaxValue);
                alone = load.Requests / load.Elapsed.TotalSeconds;
            }
            new OpenLoop(server, workload, MostConnections).Run(alone, _warmUp / 2, seed: 1); // what only company runs
            var capacity = given ?? FindCapacity(server, workload, alone);
            _report.Heading($"{name}: capacity {(given is null ? "" : "said to be ")}{capacity:0} requests/s");
            _report.Add($"overload/{name}/capacity", capacity, "1/s");
            var rows = new List<string[]>();
            foreach (var level in Levels)
            {
                Suite.Progress($"{name}, {level} × {capacity:0} requests a second");
                var arrivals = new OpenLoop(server, workload, MostConnections).Run(level * capacity, Settles + _seconds, seed: (int)(level * 10));
                rows.Add(Report(name, level, capacity, [.. arrivals.Where(arrival => arrival.Intended >= Settles)], new Seen(this, [.. arrivals.Where(arrival => arrival.Intended < Settles)], Settles)));
                CoolDown(server);
            }
            _report.Table(1,
                ["× capacity", "offered/s", "goodput/s", "p50 ms", "p99 ms", "p99 it says", $"honest within {(_objective + Grace) * 1000:0} ms", "… in the first second", "rows degraded", "rows default", "refused", "no reply", "accuracy"], rows);
            _report.Text($"\nGoodput: requests with a model's label in every row, within {_objective * 1000} ms. p50 and p99 are of all replies; \"it says\": by its own latency_ms, which begins when somebody has read the request's head. Accuracy is of all rows that got a label.");
        }

        private string[] Report(string name, double level, double capacity, List<Arrival> arrivals, Seen first)
        {
            var seen = new Seen(this, arrivals, _seconds);
            var key = string.Create(CultureInfo.InvariantCulture, $"overload/{name}/{level}");
            var isSkiff = name == Servers.Skiff;
            _report.Add($"{key}/p99", seen.P99 * 1000, "ms", isSkiff && level <= 0.8 ? Goal.AtMost(10) : null);
            _report.Add($"{key}/goodput", seen.Goodput, "1/s");
            _report.Add($"{key}/honest", seen.Honest, "share", isSkiff && level == Levels[^1] ? Goal.AtLeast(0.999) : null);
            _report.Add($"{key}/accuracy", seen.Accuracy, "share");
            if (level == Levels[^1])
            {
                // G served and kC − G refused fill the core: G/C + (kC − G)·c = 1.
                var left = capacity * (1 - level * capacity * _refusalSeconds) / (1 - capacity * _refusalSeconds);
                _report.Add($"{key}/goodput of what refusing leaves", left > 0 ? seen.Goodput / left : null, "ratio", isSkiff ? Goal.AtLeast(0.9) : null);
            }
            return
            [
                $"{level}", $"{arrivals.Count / _seconds:0}", $"{seen.Goodput:0}", $"{seen.P50 * 1000:0.0}", $"{seen.P99 * 1000:0.0}", isSkiff ? $"{seen.P99Said:0.0}" : "", $"{seen.Honest:0.00%}", $"{first.Honest:0.0%}",
                $"{seen.Degraded:0.0%}", $"{seen.Defaults:0.0%}", $"{seen.Refused:0.0%}", $"{seen.Missing:0.0%}", $"{seen.Accuracy:0.0%}",
            ];
        }

        /// <summary>Goes up by thirds, or down, until a rate is met and the next is not, then looks in between.</summary>
        private double FindCapacity(ServerProcess server, Workload workload, double start)
        {
            var (met, missed) = (0.0, double.PositiveInfinity);
            for (var tries = 0; tries < 12 && (met == 0 || missed / met > 1.06); tries++)
            {
                var rate = tries == 0 ? start : met == 0 ? missed * 0.75 : double.IsInfinity(missed) ? met * 1.33 : (met + missed) / 2;
                Suite.Progress($"{server.Name}: is {rate:0} a second met?");
                // Of a hundred requests the 99th percentile is the worst but one: what somebody else did to the machine must happen twice to count.
                if (IsMet(server, workload, rate, tries) || IsMet(server, workload, rate, tries + 50)) met = rate;
                else missed = rate;
            }
            return met > 0 ? met : throw new BenchmarkException($"{server.Name} met no rate down to {missed:0} a second: the machine is too busy to tell its capacity");
        }

        private bool IsMet(ServerProcess server, Workload workload, double rate, int seed)
        {
            var arrivals = new OpenLoop(server, workload, MostConnections).Run(rate, 0.3 + _probe, 100 + seed);
            var seen = new Seen(this, [.. arrivals.Where(arrival => arrival.Intended >= 0.3)], _probe);
            Suite.Progress($"    p99 {seen.P99 * 1000:0.0} ms, {seen.Degraded:0.0%} of rows degraded, {seen.Refused + seen.Missing:0.0%} of requests refused or not answered");
            CoolDown(server);
            return seen.P99 <= _objective && seen is { Degraded: 0, Defaults: 0, Refused: 0, Missing: 0 };
        }

        /// <summary>Until the server has done with what nobody waits for any more.</summary>
        private static void CoolDown(ServerProcess server)
        {
            for (var i = 0; i < 100; i++)
            {
                var before = server.ProcessorTime;
                Thread.Sleep(200);
                if ((server.ProcessorTime - before).TotalMilliseconds < 40) return;
            }
        }

        private ServerProcess Start(string name, string scratch)
        {
            if (name == Servers.Baseline) return Servers.StartChild(name, _cores, _models[^1]);
            // Every image comes again and again: kept answers would be all there is to see.
            _app["cache"] = false;
            var file = Path.Combine(scratch, "app.json");
            File.WriteAllText(file, _app.ToJsonString());
            return Servers.StartSkiffWithApp(_cores, file, _models, Path.Combine(scratch, "data"));
        }

        private Workload Requests(string path, Func<int, string> body) => new("json", [.. Enumerable.Range(0, _images.Count / RowsARequest).Select(request =>
        {
            var text = Encoding.UTF8.GetBytes(body(request));
            return new Exchange([.. Encoding.ASCII.GetBytes($"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {text.Length}\r\n\r\n"), .. text], []);
        })], null);

        private string AppBody(int request) => $$"""{"inputs":[{{string.Join(",", RowsOf(request).Select(row => $"[{Pixels(row)}]"))}}]}""";

        private string InferBody(int request) =>
            $$"""{"inputs":[{"name":"{{(string)_app["input"]!["name"]!}}","shape":[{{RowsARequest}},1,28,28],"datatype":"FP32","data":[{{string.Join(",", RowsOf(request).Select(row => $"[{Pixels(row)}]"))}}]}]}""";

        private static IEnumerable<int> RowsOf(int request) => Enumerable.Range(request * RowsARequest, RowsARequest);

        private string Pixels(int row) => string.Join(",", _images[row].ToArray().Select(pixel => (pixel / 255f).ToString("R", CultureInfo.InvariantCulture)));

        /// <summary>What callers saw.</summary>
        private sealed class Seen
        {
            private readonly Run _run;
            private readonly List<Arrival> _arrivals;
            private readonly double _span;
            private readonly List<double> _said = [];
            private int _rows;
            private int _labelled;
            private int _right;
            private int _degraded;
            private int _defaults;
            private int _refused;
            private int _good;
            private int _honest;

            public Seen(Run run, List<Arrival> arrivals, double span)
            {
                (_run, _arrivals, _span) = (run, arrivals, span);
                _arrivals.Sort((one, other) => one.Seconds.CompareTo(other.Seconds));
                foreach (var arrival in arrivals) Add(arrival);
            }

            public double P50 => At(0.5);

            public double P99 => At(0.99);

            /// <summary>Of <c>latency_ms</c>, which counts from when the handler has the request.</summary>
            public double P99Said => _said.Count == 0 ? 0 : _said.Order().ElementAt((int)(0.99 * _said.Count));

            public double Goodput => _good / _span;

            public double Honest => (double)_honest / _arrivals.Count;

            public double Degraded => (double)_degraded / Math.Max(_rows, 1);

            public double Defaults => (double)_defaults / Math.Max(_rows, 1);

            public double Refused => (double)_refused / _arrivals.Count;

            public double Missing => (double)_arrivals.Count(arrival => arrival.Status == 0) / _arrivals.Count;

            public double Accuracy => (double)_right / Math.Max(_labelled, 1);

            private double At(double share) => _arrivals[Math.Max(0, (int)Math.Ceiling(share * _arrivals.Count) - 1)].Seconds;

            private void Add(Arrival arrival)
            {
                if (arrival.Status == 0) return;
                var isHonest = arrival.Status == 200 || (arrival.Status == 503 && arrival.HasRetryAfter);
                if (isHonest && arrival.Seconds <= _run._objective + Grace) _honest++;
                if (arrival.Status != 200)
                {
                    if (!isHonest) throw new BenchmarkException($"status {arrival.Status}: {Encoding.UTF8.GetString(arrival.Body)}");
                    _refused++;
                    return;
                }
                using var reply = JsonDocument.Parse(arrival.Body);
                var all = reply.RootElement.TryGetProperty("predictions", out var predictions) ? FromApp(predictions, arrival.Index) : FromModel(reply.RootElement, arrival.Index);
                if (all && arrival.Seconds <= _run._objective) _good++;
            }

            /// <returns>Whether a model labelled every row.</returns>
            private bool FromApp(JsonElement predictions, int request)
            {
                var all = true;
                var row = request * RowsARequest;
                _said.Add(predictions[0].GetProperty("latency_ms").GetDouble());
                foreach (var prediction in predictions.EnumerateArray())
                {
                    _rows++;
                    var isDefault = prediction.GetProperty("is_default").GetBoolean();
                    if (isDefault) _defaults++;
                    else if (prediction.TryGetProperty("degraded", out _)) _degraded++;
                    all &= !isDefault;
                    if (prediction.GetProperty("label") is { ValueKind: JsonValueKind.Number } label) Count(label.GetInt32(), row);
                    row++;
                }
                return all;
            }

            private bool FromModel(JsonElement reply, int request)
            {
                var logits = reply.GetProperty("outputs")[0].GetProperty("data").EnumerateArray().Select(value => value.GetSingle()).ToArray();
                var classes = logits.Length / RowsARequest;
                for (var i = 0; i < RowsARequest; i++)
                {
                    _rows++;
                    var scores = logits.AsSpan(i * classes, classes);
                    var best = 0;
                    for (var k = 1; k < classes; k++) best = scores[k] > scores[best] ? k : best;
                    Count(best, request * RowsARequest + i);
                }
                return true;
            }

            private void Count(int label, int row)
            {
                _labelled++;
                if (label == _run._labels.Values[row]) _right++;
            }
        }
    }
}
