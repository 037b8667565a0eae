using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Planning.Simulation;
using Skiff.Selection;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What users with state cost those who ask: <c>films</c> (a head of d = 34) over SQLite files of 1 to 100,000 users, in process, taking turns. Who asks is drawn from all of them, so nobody's pages are likelier
/// to be at hand than they must be.
/// </summary>
internal static class Users
{
    private const string Tenant = "default", AppName = "films";
    private const int Batch = 1000;
    private static readonly int[] Sizes = [1, 100, 10_000, 100_000];

    public static Command Command()
    {
        var most = new Option<int>("--most") { Description = "Leave out files of more users than this", HelpName = "N", DefaultValueFactory = _ => Sizes[^1] };
        var rounds = new Option<int>("--rounds") { Description = "Measurements of each kind; their median is reported", HelpName = "N", DefaultValueFactory = _ => 7 };
        var operations = new Option<int>("--operations") { Description = "Operations of a measurement", HelpName = "N", DefaultValueFactory = _ => 2000 };
        Suite.RequirePositive(most, rounds, operations);
        return Suite.Create("users", "Predictions and updates with state of 1 to 100,000 users on disk.", [most, rounds, operations], (parsed, report) =>
            RunAsync(report, [.. Sizes.Where(size => size <= parsed.GetValue(most))], parsed.GetValue(rounds), parsed.GetValue(operations)).GetAwaiter().GetResult());
    }

    private static async Task RunAsync(Report report, int[] sizes, int rounds, int operations)
    {
        report.Text("# users\n");
        report.Text($"- {AppName}: a head of 34 features; an update is a look for its feedback id, a read of the whole head and its commit (SQLite, synchronous=NORMAL), one piece of feedback at a time; a prediction runs the model, reads the weights from the store (nothing is kept) and seals the decision");
        report.Text($"- {rounds} rounds of {operations:N0} operations one after the other, files by turns; {Environment.ProcessorCount} cores");
        using var scratch = new ScratchFolder();
        using var local = new LocalApps();
        await local.PushAsync("mt_item_features", await File.ReadAllBytesAsync(Repository.Sample("films/mt_item_features.onnx")));
        await local.PushAsync("mt_priors", await File.ReadAllBytesAsync(Repository.Sample("films/mt_priors.json")));
        var app = await local.PushAppAsync(await File.ReadAllTextAsync(Repository.Sample("films/app.json")));
        var places = new List<Place>();
        try
        {
            foreach (var size in sizes)
            {
                Suite.Progress($"{size:N0} users: filling");
                var place = new Place(local, app, Path.Combine(scratch.Path, $"{size}.db"), size);
                places.Add(place);
                await place.FillAsync();
            }
            foreach (var place in places) await place.MeasureAsync(operations, isWarmUp: true);
            for (var round = 0; round < rounds; round++)
            {
                Suite.Progress($"round {round + 1} of {rounds}");
                foreach (var place in places) await place.MeasureAsync(operations, isWarmUp: false);
            }
            Write(report, places);
            await places[^1].LookUpAsync(report, operations);
        }
        finally
        {
            foreach (var place in places) place.Dispose();
        }
    }

    private static void Write(Report report, List<Place> places)
    {
        report.Heading("With state of so many users");
        report.Table(0, ["users", "predictions/s", "updates/s", "a prediction, median µs", "an update, median µs", "file, bytes a user", "filled, µs a user"], places.Select(place => new[]
        {
            $"{place.Users:N0}", Report.Number(place.Predictions, "0"), Report.Number(place.Updates, "0"), Report.Number(place.PredictionMicroseconds, "0"), Report.Number(place.UpdateMicroseconds, "0"),
            Report.Number((double)place.FilledBytes / place.Users, "0"), Report.Number(place.FillMicroseconds, "0"),
        }));
        var (small, large) = (places[0], places[^1]);
        report.Text($"\nBytes a user are the head (weights 136, covariance 2,380) and one piece of feedback, with keys, indexes and what pages leave empty. The largest against the smallest: predictions/s "
            + $"{Report.Number(large.Predictions / small.Predictions, "0.00")} ×, updates/s {Report.Number(large.Updates / small.Updates, "0.00")} ×.");
        report.Add("users/predictions", large.Predictions / small.Predictions, "of the smallest file's rate", Goal.AtLeast(0.5));
        report.Add("users/updates", large.Updates / small.Updates, "of the smallest file's rate", Goal.AtLeast(0.5));
        report.Add("users/prediction-time", large.PredictionMicroseconds / small.PredictionMicroseconds, "× the smallest file's median", Goal.AtMost(2));
        report.Add("users/update-time", large.UpdateMicroseconds / small.UpdateMicroseconds, "× the smallest file's median", Goal.AtMost(2));
        report.Add("users/bytes", (double)large.FilledBytes / large.Users, "bytes a user");
    }

    /// <summary>A file of so many users, and who predicts and learns on it.</summary>
    private sealed class Place : IDisposable
    {
        private readonly string _path;
        private readonly App _app;
        private readonly SqliteStateStore _state;
        private readonly Predictor _predictor;
        private readonly FeedbackLearner _learner;
        private readonly Random _random = new(34);
        private readonly TensorBuffer _buffer = new();
        private readonly List<double> _predictions = [], _updates = [], _predictionTimes = [], _updateTimes = [];
        private int _feedback;

        public Place(LocalApps local, App app, string path, int users)
        {
            (Users, _path, _app) = (users, path, app);
            _state = new SqliteStateStore(path);
            var cascades = new CascadeCache(new PredictionCache(0), local.Models, new CacheStatistics(), local.Time);
            _predictor = new Predictor(local.Models, cascades, new HeadCache(_state, 0, local.Time), new PendingFeedback(), new DecisionSeal(["sixteen characters"], local.Time), new PredictorOptions(), local.Time);
            var apps = new AppHost(local.Store, local.Models, TimeSpan.FromDays(1), local.Time, NullLogger<AppHost>.Instance);
            _learner = new FeedbackLearner(apps, _state, new FeedbackStatistics(), NullLogger<FeedbackLearner>.Instance);
        }

        public int Users { get; }
        public long FilledBytes { get; private set; }
        public double FillMicroseconds { get; private set; }
        public double Predictions => Suite.Median(_predictions);
        public double Updates => Suite.Median(_updates);
        public double PredictionMicroseconds => Suite.Median(_predictionTimes);
        public double UpdateMicroseconds => Suite.Median(_updateTimes);

        /// <summary>Everybody has a head that learnt once. The store's own commits, many users in each.</summary>
        public async Task FillAsync()
        {
            var started = Stopwatch.GetTimestamp();
            var head = _app.Head!;
            for (var first = 0; first < Users; first += Batch)
            {
                var commits = Enumerable.Range(first, Math.Min(Batch, Users - first)).Select(number => new UserCommit
                {
                    User = KeyOf(number),
                    ExpectedTag = null,
                    Head = new HeadState(
                        new HeadWeights { FeaturesVersion = 1, PriorVersion = head.PriorVersion, Updates = 1, Offset = head.Offset, Weights = head.InitialWeights, Tag = "" },
                        head.InitialCovariance),
                    Accepted = [new AcceptedFeedback(Message(number), true, null)],
                });
                foreach (var made in await _state.CommitAsync([.. commits], CancellationToken.None))
                {
                    if (!made) throw new BenchmarkException("two users have one name.");
                }
            }
            await _state.FlushAsync(CancellationToken.None);
            FillMicroseconds = Stopwatch.GetElapsedTime(started).TotalMicroseconds / Users;
            FilledBytes = new FileInfo(_path).Length;
        }

        public async Task MeasureAsync(int operations, bool isWarmUp)
        {
            var predictions = await TimeAsync(operations, PredictAsync);
            var updates = await TimeAsync(operations, UpdateAsync);
            if (isWarmUp) return;
            _predictions.Add(predictions.Rate);
            _predictionTimes.Add(predictions.Median);
            _updates.Add(updates.Rate);
            _updateTimes.Add(updates.Median);
        }

        /// <summary>Looks for heads alone: kept, checked by version, and from the store; and how often users by Zipf's law are found in so much memory.</summary>
        public async Task LookUpAsync(Report report, int operations)
        {
            Suite.Progress("lookups");
            report.Heading($"Heads that are kept, {Users:N0} users");
            var (week, never) = (new HeadCacheDocument(true, TimeSpan.FromDays(7).TotalMilliseconds), new HeadCacheDocument(true, 0));
            var all = new HeadCache(_state, long.MaxValue, TimeProvider.System);
            var keys = Enumerable.Range(0, Math.Min(Users, 1000)).Select(i => KeyOf((int)((long)i * 7919 % Users))).ToArray();
            foreach (var key in keys) await all.ReadAsync(key, week, isFresh: false, CancellationToken.None);
            var rows = new List<string[]>();
            foreach (var (name, how, source) in new[] { ("from the store", HeadCacheDocument.Off, HeadSource.Store), ("kept, its version checked", never, HeadSource.Checked), ("kept", week, HeadSource.Kept) })
            {
                var times = new double[15];
                for (var round = 0; round < times.Length; round++)
                {
                    var started = Stopwatch.GetTimestamp();
                    for (var i = 0; i < operations; i++)
                    {
                        if ((await all.ReadAsync(keys[i % keys.Length], how, isFresh: false, CancellationToken.None)).Source != source) throw new BenchmarkException("a head came from elsewhere than it was looked for.");
                    }
                    times[round] = Stopwatch.GetElapsedTime(started).TotalMicroseconds / operations;
                }
                rows.Add([name, Report.Number(Suite.Median([.. times]), "0.00")]);
                report.Add($"users/lookup, {name}", Suite.Median([.. times]), "µs");
            }
            report.Table(0, ["a head", "µs a lookup"], rows);

            report.Text("");
            var (zipf, random, bytes) = (new Zipf(Users, 1), new SeededRandom(34), all.UsedBytes / keys.Length);
            var found = new List<string[]>();
            foreach (var share in new[] { 1, 16 })
            {
                // Of all users one in so many has room; the age is not reached, so this is what memory alone loses.
                var cache = new HeadCache(_state, Math.Max(1, Users / share) * bytes, TimeProvider.System);
                for (var i = 0; i < 2 * Users; i++) await cache.ReadAsync(KeyOf(zipf.Next(ref random)), week, isFresh: false, CancellationToken.None);
                var before = Kept(cache);
                const int Counted = 100_000;
                for (var i = 0; i < Counted; i++) await cache.ReadAsync(KeyOf(zipf.Next(ref random)), week, isFresh: false, CancellationToken.None);
                var hits = (double)(Kept(cache) - before) / Counted;
                found.Add([share == 1 ? "all" : $"1/{share}", Report.Number(cache.UsedBytes / 1048576.0, "0.0"), Report.Number(hits, "0.000")]);
                report.Add($"users/hit rate, room for 1/{share}", hits, "share");
            }
            report.Table(0, ["room for, of the users", "MiB", "hit rate"], found);
            report.Text($"\nUsers are drawn by Zipf's law (exponent 1); a head is counted as {bytes:N0} bytes; two draws for each user went before, so some come for the first time.");

            static long Kept(HeadCache cache) => cache.Reads(Tenant).Single().Reads[(int)HeadSource.Kept];
        }

        public void Dispose() => _state.Dispose();

        private static async Task<(double Rate, double Median)> TimeAsync(int operations, Func<Task> run)
        {
            var times = new double[operations];
            var started = Stopwatch.GetTimestamp();
            for (var i = 0; i < operations; i++)
            {
                var begun = Stopwatch.GetTimestamp();
                await run();
                times[i] = Stopwatch.GetElapsedTime(begun).TotalMicroseconds;
            }
            return (operations / Stopwatch.GetElapsedTime(started).TotalSeconds, Suite.Median(times));
        }

        private async Task PredictAsync()
        {
            _buffer.Clear();
            var input = new Tensor { Name = _app.Document.Input.Name, Type = DataType.Int64, Shape = [1], Length = sizeof(long) };
            input.Offset = _buffer.Allocate(input.Length);
            MemoryMarshal.Write(_buffer.Span(input.Offset, input.Length), (long)_random.Next(2666));
            var result = await _predictor.PredictAsync(
                new PredictRequest { App = _app, Buffer = _buffer, Input = input, User = KeyOf(_random.Next(Users)).User, Arrived = Stopwatch.GetTimestamp() }, CancellationToken.None);
            if (result.Predictions[0].Output is not { } output || !double.IsFinite(output)) throw new BenchmarkException("a prediction has no output.");
        }

        private async Task UpdateAsync() => await _learner.LearnAsync([Message(_random.Next(Users))], CancellationToken.None);

        /// <summary>Names come in no order, as people's do: neighbours in the file are strangers.</summary>
        private static UserKey KeyOf(int number) => new(Tenant, AppName, $"user-{(uint)number * 2654435761u:x8}");

        private FeedbackMessage Message(int number) => new()
        {
            Tenant = Tenant,
            App = AppName,
            User = KeyOf(number).User,
            FeedbackId = $"feedback-{_feedback++}",
            Value = 1 + _random.Next(10),
            FeaturesVersion = 1,
            PriorVersion = _app.Head!.PriorVersion,
            Features = MemoryMarshal.AsBytes<float>([.. Enumerable.Range(0, 34).Select(i => i == 0 ? 1f : _random.NextSingle() - 0.5f)]).ToArray(),
            At = DateTimeOffset.UnixEpoch,
        };
    }
}
