using System.CommandLine;
using System.Diagnostics;
using System.Text;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What registered models cost those that are asked: a server for each number of them, all at once and taking turns. The model does next to nothing, so that whatever grows with their number shows.
/// </summary>
internal static class Scaling
{
    private const int WorkingSet = 64, Connections = 16, VerifyEvery = 64, Publishes = 11;
    private static readonly int[] Sizes = [1, 10, 100, 1_000, 10_000];

    public static Command Command()
    {
        var most = new Option<int>("--most") { Description = "Leave out stores of more models than this", HelpName = "N", DefaultValueFactory = _ => Sizes[^1] };
        var seconds = new Option<double>("--seconds") { Description = "Length of one measurement", HelpName = "N", DefaultValueFactory = _ => 0.4 };
        var rounds = new Option<int>("--rounds") { Description = "Measurements of each kind; their median is reported", HelpName = "N", DefaultValueFactory = _ => 9 };
        Suite.RequirePositive(most, seconds, rounds);
        return Suite.Create("scaling", "What a server does with 1 to 10,000 models registered.", [most, seconds, rounds], (parsed, report) =>
        {
            // First of all, so that every thread started from here on keeps off the servers' core.
            var cores = Cores.Split();
            Run(report, cores, [.. Sizes.Where(size => size <= parsed.GetValue(most))], TimeSpan.FromSeconds(parsed.GetValue(seconds)), parsed.GetValue(rounds));
        });
    }

    private static void Run(Report report, Cores cores, int[] sizes, TimeSpan length, int rounds)
    {
        report.Text("# scaling\n");
        report.Text($"- {cores.Description}; stores of files, a model of one matrix in each name; {Connections} connections, {rounds} rounds of {length.TotalSeconds} s, servers by turns");
        using var scratch = new ScratchFolder();
        var places = new List<Place>();
        try
        {
            foreach (var size in sizes) places.Add(new Place(cores, Path.Combine(scratch.Path, $"{size}"), size));
            for (var round = 0; round < rounds; round++)
            {
                Suite.Progress($"round {round + 1} of {rounds}");
                foreach (var place in places) place.Measure(length);
            }
            foreach (var place in places)
            {
                Suite.Progress($"{place.Models:N0} models: index, publishing, all of them");
                place.Finish();
            }
            Write(report, places);
        }
        finally
        {
            foreach (var place in places) place.Dispose();
        }
    }

    private static void Write(Report report, List<Place> places)
    {
        report.Heading("With so many models registered");
        report.Table(0, ["models", "start, ms", "requests/s to one", $"to {WorkingSet} in turn", "CPU µs a request", "in turn", "publish one more, ms", "its first answer, ms", "index, ms", "index, µs a model", "each asked once, ms a model", "memory, MiB", "after all were asked"],
            places.Select(place => new[]
            {
                $"{place.Models:N0}", Report.Number(place.StartMilliseconds, "0"), Report.Number(place.One, "0"), Report.Number(place.Several, "0"), Report.Number(place.OneCpu, "0.0"), Report.Number(place.SeveralCpu, "0.0"),
                Report.Number(place.PublishMilliseconds, "0.00"), Report.Number(place.FirstMilliseconds, "0.00"), Report.Number(place.IndexMilliseconds, "0.0"), Report.Number(1000 * place.IndexMilliseconds / place.Models, "0"),
                Report.Number(place.AllMilliseconds, "0.00"), Report.Number(place.MemoryBytes / (1 << 20), "0"), Report.Number(place.MemoryBytesAfter / (1 << 20), "0"),
            }));
        var (small, large) = (places[0], places[^1]);
        var ofWorkingSet = places.FirstOrDefault(place => place.Models >= WorkingSet) ?? large;
        report.Text($"\nThe largest against the smallest (in turn: against {ofWorkingSet.Models:N0}, the smallest that has {WorkingSet}): requests/s to one {Report.Number(large.One / small.One, "0.00")} ×, in turn "
            + $"{Report.Number(large.Several / ofWorkingSet.Several, "0.00")} ×, publishing {Report.Number(large.PublishMilliseconds / small.PublishMilliseconds, "0.00")} × the time. "
            + "Models beyond the memory budget make room for each other when all are asked, so there each costs a load and an eviction.");
        report.Add("scaling/one", large.One / small.One, "of the smallest store's requests/s", Goal.AtLeast(0.5));
        report.Add("scaling/in-turn", large.Several / ofWorkingSet.Several, "of the smallest store's requests/s", Goal.AtLeast(0.5));
        report.Add("scaling/one-cpu", large.OneCpu / small.OneCpu, "× the smallest store's CPU a request", Goal.AtMost(2));
        report.Add("scaling/in-turn-cpu", large.SeveralCpu / ofWorkingSet.SeveralCpu, "× the smallest store's CPU a request", Goal.AtMost(2));
        report.Add("scaling/publish", large.PublishMilliseconds / small.PublishMilliseconds, "× the time in the smallest store", Goal.AtMost(2));
        report.Add("scaling/first-answer", large.FirstMilliseconds / small.FirstMilliseconds, "× the time in the smallest store", Goal.AtMost(2));
        report.Add("scaling/start", large.StartMilliseconds / small.StartMilliseconds, "× the time with the smallest store", Goal.AtMost(2));
        report.Add("scaling/memory", large.MemoryBytes / small.MemoryBytes, "× the memory with the smallest store", Goal.AtMost(2));
        // Per model: a whole that grows linearly keeps this.
        var several = places.FirstOrDefault(place => place.Models >= 100) ?? large;
        report.Add("scaling/index", large.IndexMilliseconds / large.Models / (several.IndexMilliseconds / several.Models), $"× the time a model with {several.Models}", Goal.AtMost(2));
    }

    /// <summary>A store of so many models and a server on it.</summary>
    private sealed class Place : IDisposable
    {
        private const string Tenant = "default";

        private readonly ModelStore _store;
        private readonly Publisher _publisher;
        private readonly ServerProcess _server;
        private readonly HttpClient _http;
        private readonly Rates _one = new(), _several = new();

        public Place(Cores cores, string folder, int models)
        {
            Models = models;
            _store = new ModelStore(new FileObjectStore(Path.Combine(folder, "models")), TimeProvider.System);
            _publisher = new Publisher(_store, ModelLimits.Default);
            Suite.Progress($"{models:N0} models: publishing");
            FillAsync().GetAwaiter().GetResult();
            Suite.Progress($"{models:N0} models: starting");
            var assembly = Servers.SkiffAssembly(Samples.FindRepositoryRoot());
            // The first start of all reads the program from the disk: nobody's is measured cold.
            if (models == Sizes[0]) Start(cores, assembly, folder).Dispose();
            var started = Stopwatch.GetTimestamp();
            _server = Start(cores, assembly, folder);
            StartMilliseconds = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            _http = new HttpClient { BaseAddress = new Uri($"http://{_server.EndPoint}") };
            foreach (var set in new[] { 1, WorkingSet }) Load(set, TimeSpan.FromSeconds(1));
            MemoryBytes = Memory();
        }

        public int Models { get; }
        public double StartMilliseconds { get; }
        public double MemoryBytes { get; }
        public double MemoryBytesAfter { get; private set; }
        public double One => _one.PerSecond;
        public double Several => _several.PerSecond;
        public double OneCpu => _one.CpuMicroseconds;
        public double SeveralCpu => _several.CpuMicroseconds;
        public double PublishMilliseconds { get; private set; }
        public double FirstMilliseconds { get; private set; }
        public double IndexMilliseconds { get; private set; }
        public double AllMilliseconds { get; private set; }

        public void Measure(TimeSpan length)
        {
            _one.Add(_server, () => Load(1, length));
            _several.Add(_server, () => Load(WorkingSet, length));
        }

        /// <summary>What leaves traces, and so comes last.</summary>
        public void Finish()
        {
            IndexMilliseconds = Suite.Median(Enumerable.Range(0, 3).Select(_ => Time(() => Ask("/v2/repository/index", "{}"))));
            var published = Enumerable.Range(0, Publishes).Select(i => ($"new-{i}", Time(() => _publisher.PushAsync(Tenant, Model(i), $"new-{i}", null, CancellationToken.None).GetAwaiter().GetResult()))).ToArray();
            // The first of all waits for the compiler.
            PublishMilliseconds = Suite.Median(published.Select(one => one.Item2));
            FirstMilliseconds = Suite.Median(published.Select(one => Time(() => Ask($"/v2/models/{one.Item1}/infer", Body))));
            AllMilliseconds = Time(() =>
            {
                for (var i = 0; i < Models; i++) Ask($"/v2/models/{Name(i)}/infer", Body);
            }) / Models;
            MemoryBytesAfter = Memory();
        }

        private static ServerProcess Start(Cores cores, string assembly, string folder) => ServerProcess.Start(
            $"skiff on {folder}", cores, assembly, port => ["--no-samples", "--data", folder, "--urls", $"http://127.0.0.1:{port}"], "/v2/health/ready");

        public void Dispose()
        {
            _http.Dispose();
            _server.Dispose();
        }

        private const string Body = """{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}""";

        private static string Name(int index) => $"model-{index:d5}";

        /// <summary>One matrix; another one for each number.</summary>
        private static byte[] Model(int number) => new OnnxBuilder().Input("x", DataType.Fp32, -1, 4).Output("y", DataType.Fp32, -1, 2)
            .Initializer("w", [(float)number, 0, 0, 1, 1, 0, 0, 0], 4, 2).Node("MatMul", ["x", "w"], ["y"]).Build();

        /// <summary>Through the store's own doors; that each model runs is not tried again for each, as publishing would.</summary>
        private async Task FillAsync()
        {
            var (described, _) = await _publisher.PushAsync(Tenant, Model(0), Name(0), null, CancellationToken.None);
            await Parallel.ForAsync(1, Models, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (i, cancellation) =>
            {
                var manifest = await _store.PublishAsync(Tenant, described with { Name = Name(i) }, Model(i), cancellation);
                await _store.MoveAliasAsync(Tenant, manifest.Kind, manifest.Name, ModelStore.Live, manifest.Version, cancellation);
            });
        }

        /// <summary>Requests to so many models, spread over all names, in turn.</summary>
        private Load Load(int set, TimeSpan length)
        {
            var count = Math.Min(set, Models);
            var exchanges = Enumerable.Range(0, count).Select(i => (int)((long)i * Models / count))
                .Select(i => new Exchange(Encoding.ASCII.GetBytes($"POST /v2/models/{Name(i)}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {Body.Length}\r\n\r\n{Body}"), [i + 3, 2])).ToArray();
            using var generator = new LoadGenerator(_server, new Workload($"{count} of {Models} models", exchanges, InferRequests.JsonValues), Connections);
            return generator.Run(length, VerifyEvery);
        }

        private double Memory() => _server.Metric("process_resident_memory_bytes") ?? throw new BenchmarkException("the server says nothing of its memory.");

        private void Ask(string path, string body)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
            using var response = _http.Send(request, HttpCompletionOption.ResponseContentRead);
            if (!response.IsSuccessStatusCode) throw new BenchmarkException($"{path}: {(int)response.StatusCode} {response.Content.ReadAsStringAsync().GetAwaiter().GetResult()}");
        }

        /// <summary>Of one kind of load, over all rounds.</summary>
        private sealed class Rates
        {
            private readonly List<double> _rates = [];
            private double _microseconds;
            private long _requests;

            public double PerSecond => Suite.Median(_rates);

            /// <summary>The server's, of all rounds together: it is counted in steps of 10 ms.</summary>
            public double CpuMicroseconds => _microseconds / _requests;

            public void Add(ServerProcess server, Func<Load> run)
            {
                var before = server.ProcessorTime;
                var load = run();
                _microseconds += (server.ProcessorTime - before).TotalMicroseconds;
                _requests += load.Requests;
                _rates.Add(load.Requests / load.Elapsed.TotalSeconds);
            }
        }

        private static double Time(Action action)
        {
            var started = Stopwatch.GetTimestamp();
            action();
            return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        }
    }
}
