using System.CommandLine;
using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>What one label costs: to compute, to have durably, and beside fitting everything again.</summary>
internal static class Update
{
    private const int D = Speaker.Dimensions, K = Speaker.Classes;

    public static Command Command()
    {
        var events = new Option<int>("--events") { Description = "Feedbacks that are learnt one at a time, and five times as many in batches", HelpName = "N", DefaultValueFactory = _ => 6000 };
        Suite.RequirePositive(events);
        return Suite.Create("update", "One update of a head: compute, durable through queue and store, and beside batch refits.", [events], (parsed, report) =>
        {
            report.Text("# update\n");
            var speaker = Speaker.LoadAll()[0];
            var update = WriteCompute(report, speaker);
            WriteFilms(report);
            WriteDurableAsync(report, speaker, parsed.GetValue(events)).GetAwaiter().GetResult();
            report.Text($"\nPublished beside it: 440 µs an update without storage, 7.1 s a retraining (Velox, CIDR 2015); ours {Report.Number(update, "0.0")} µs.");
        });
    }

    private static double WriteCompute(Report report, Speaker speaker)
    {
        var head = speaker.Open(Speaker.Plain);
        float[] weights = [.. head.InitialWeights], covariance = [.. head.InitialCovariance], target = new float[K], scratch = new float[2 * D];
        var plain = Measure(i =>
        {
            target.AsSpan().Clear();
            target[speaker.Labels[i % Speaker.Clips]] = 1;
            RidgeHead.Update(weights, covariance, speaker[i % Speaker.Clips], target, scratch);
        }, 20_000);
        var rows = new List<string[]> { Row("RidgeHead.Update", plain) };
        var whole = new (string Name, HeadDocument Document)[]
        {
            ("a head's whole learning, nothing on", Speaker.Plain),
            ("guards and detector on", Speaker.Plain with { Guards = GuardDocument.Default, DetectChanges = true }),
            ("and forgetting", Speaker.Plain with { Guards = GuardDocument.Default with { PerUserHour = null }, DetectChanges = true, Forgetting = 0.99 }),
            ("diagonal form", Speaker.Plain with { Form = HeadForm.Diagonal }),
        };
        foreach (var (name, document) in whole)
        {
            var learning = new LearningHead(speaker.Open(document with { Guards = document.Guards with { PerUserHour = null } }), null);
            rows.Add(Row(name, Measure(i => speaker.Learn(learning, i % Speaker.Clips, speaker.Labels[i % Speaker.Clips]), 20_000)));
        }
        var refit = Measure(_ => Refit(speaker, head), 30);
        rows.Add(Row($"batch refit at {Speaker.Adapting} labels", refit));
        report.Heading($"Compute, d = {D}, {K} classes");
        report.Text("The median of 15 rounds; one thread.\n");
        report.Table(1, ["what", "µs", "allocated B"], rows);
        report.Add("update/compute", plain.Microseconds, "µs", Goal.AtMost(10));
        report.Add("update/allocated", plain.Bytes, "B", Goal.AtMost(0));
        report.Add("update/batch refit ÷ update", refit.Microseconds / plain.Microseconds, "ratio", Goal.AtLeast(100));
        return plain.Microseconds;

        static string[] Row(string name, (double Microseconds, double Bytes) cost) => [name, Report.Number(cost.Microseconds, "0.00"), Report.Number(cost.Bytes, "0")];
    }

    /// <summary>A = κG + Σφφᵀ and its inverse, and w of every class: what a head needs in order to answer and to go on from there.</summary>
    private static void Refit(Speaker speaker, Head head)
    {
        var a = new double[D * D];
        var b = new double[K * D];
        for (var i = 0; i < a.Length; i++) a[i] = head.Document.PriorStrength * speaker.Prior.Gram[i];
        var phi = new double[D];
        for (var k = 0; k < K; k++)
        {
            for (var i = 0; i < D; i++) phi[i] = head.InitialWeights[k * D + i];
            for (var i = 0; i < D; i++) b[k * D + i] = TensorPrimitives.Dot<double>(a.AsSpan(i * D, D), phi);
        }
        for (var clip = 0; clip < Speaker.Adapting; clip++)
        {
            for (var i = 0; i < D; i++) phi[i] = speaker[clip][i];
            for (var i = 0; i < D; i++) TensorPrimitives.MultiplyAdd<double>(phi, phi[i], a.AsSpan(i * D, D), a.AsSpan(i * D, D));
            var own = b.AsSpan(speaker.Labels[clip] * D, D);
            TensorPrimitives.Add<double>(own, phi, own);
        }
        var lower = Cholesky.Factor(a, D);
        Cholesky.InvertPacked(lower, D);
        for (var k = 0; k < K; k++) Cholesky.Solve(lower, D, b.AsSpan(k * D, D));
    }

    private static void WriteFilms(Report report)
    {
        Suite.Progress("films: fitting θ and all heads again");
        var ratings = Rating.ReadAll();
        var prior = Prior.Parse(File.ReadAllBytes(Repository.Sample("films/mt_priors.json")));
        var head = Head.FromPrior(new HeadDocument { Features = "f", Kind = HeadKind.Regression, Guards = GuardDocument.Off }, prior.Dimensions, 1, prior);
        var random = new Random(1);
        var phi = Enumerable.Range(0, prior.Dimensions).Select(_ => random.NextSingle() - 0.5f).ToArray();
        float[] weights = [.. head.InitialWeights], covariance = [.. head.InitialCovariance], target = new float[1], scratch = new float[prior.Dimensions];
        var update = Measure(_ =>
        {
            target[0] = 1;
            RidgeHead.Update(weights, covariance, phi, target, scratch);
        }, 20_000);
        var (seconds, rmse) = FilmFit.Run(ratings, prior);
        report.Heading("Films: one rating learnt, beside fitting θ and all heads again");
        report.Text($"Refit: ten sweeps of alternating least squares, 32 factors, over the {ratings.Count} ratings that are shipped (θ was made from many times as many), then every user's head by Cholesky; it leaves an RMSE of {Report.Number(rmse, "0.00")} on what it was fitted to.\n");
        report.Table(1, ["what", "µs"], [["update, d = 34", Report.Number(update.Microseconds, "0.00")], ["refit", Report.Number(seconds * 1e6, "0")]]);
        report.Add("update/films/refit of θ and all heads ÷ update", seconds * 1e6 / update.Microseconds, "ratio", Goal.AtLeast(1e4));
    }

    private static async Task WriteDurableAsync(Report report, Speaker speaker, int events)
    {
        report.Heading("Durable: through the queue (FULL), learnt and committed, SQLite");
        report.Text($"One at a time: sent, received, learnt, committed, {events} times, the first half of them not counted; in batches: {5 * events} feedbacks of 16 users, each user's standing together, until all are learnt, flushed and gone from the queue.\n");
        var rows = new List<string[]>();
        foreach (var synchronous in new[] { "NORMAL", "FULL" })
        {
            Suite.Progress($"durable, state {synchronous}");
            using var folder = new ScratchFolder();
            var objects = new FileObjectStore(Path.Combine(folder.Path, "models"));
            using var state = new SqliteStateStore(Path.Combine(folder.Path, "state.db"), synchronous);
            await using var queue = new SqliteFeedbackQueue(Path.Combine(folder.Path, "queue.db"));
            var engine = new Engine(new EngineParts { Objects = objects, State = state, Queue = queue, Keys = ApiKeys.Parse(null), Secrets = ["a secret of this benchmark"], Logging = NullLoggerFactory.Instance });
            var publisher = new Publisher(engine.Store, Models.ModelLimits.Default);
            await publisher.PushAsync(ApiKeys.DefaultTenant, File.ReadAllBytes(Repository.Sample($"digits/digits-body-without-{speaker.Name}.onnx")), "digits_body", "live", CancellationToken.None);
            await publisher.PushAsync(ApiKeys.DefaultTenant, File.ReadAllBytes(Repository.Sample($"digits/{speaker.Name}-prior.json")), "digits_prior", "live", CancellationToken.None);
            await publisher.PushAppAsync(ApiKeys.DefaultTenant, File.ReadAllBytes(Repository.Sample("digits/app.json")), CancellationToken.None);

            var process = Process.GetCurrentProcess();
            var times = new List<double>();
            var warm = events / 2;
            TimeSpan cpu = default;
            for (var i = 0; i < events; i++)
            {
                if (i == warm) cpu = process.TotalProcessorTime;
                var message = Message(speaker, "alone" + i % 16, $"{synchronous}-{i}", i);
                var started = Stopwatch.GetTimestamp();
                await queue.SendAsync([message], CancellationToken.None);
                var received = await queue.ReceiveAsync(512, CancellationToken.None);
                await engine.Learner.LearnAsync([.. received.Select(each => each.Message)], CancellationToken.None);
                if (i >= warm) times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
            }
            process.Refresh();
            var aloneCpu = (process.TotalProcessorTime - cpu).TotalMilliseconds / times.Count;

            var messages = Enumerable.Range(0, 5 * events).Select(i => Message(speaker, $"u{i / (5 * events / 16 + 1)}", $"{synchronous}-b{i}", i)).ToArray();
            var sending = Stopwatch.GetTimestamp();
            foreach (var chunk in messages.Chunk(1024)) await queue.SendAsync(chunk, CancellationToken.None);
            var sent = Stopwatch.GetElapsedTime(sending);
            process.Refresh();
            cpu = process.TotalProcessorTime;
            var learning = Stopwatch.GetTimestamp();
            var done = new List<ReceivedFeedback>();
            for (var count = 0; count < messages.Length;)
            {
                var received = await queue.ReceiveAsync(512, CancellationToken.None);
                await engine.Learner.LearnAsync([.. received.Select(each => each.Message)], CancellationToken.None);
                done.AddRange(received);
                count += received.Count;
                if (done.Count < queue.MostUncompleted && count < messages.Length) continue;
                await state.FlushAsync(CancellationToken.None);
                await queue.CompleteAsync(done, CancellationToken.None);
                done.Clear();
            }
            var learnt = Stopwatch.GetElapsedTime(learning);
            process.Refresh();
            var batchCpu = (process.TotalProcessorTime - cpu).TotalMicroseconds / messages.Length;
            var head = await state.ReadHeadAsync(new UserKey(ApiKeys.DefaultTenant, "digits", "u0"), CancellationToken.None) ?? throw new BenchmarkException("nothing was learnt");
            if (head.Weights.Updates != messages.Count(message => message.User == "u0")) throw new BenchmarkException($"u0 has learnt {head.Weights.Updates} of its {messages.Count(message => message.User == "u0")} labels");

            var rate = messages.Length / learnt.TotalSeconds;
            rows.Add([synchronous, Report.Number(Suite.Median(times), "0.000"), Report.Number(times.Order().ElementAt(times.Count * 99 / 100), "0.000"), Report.Number(rate, "0"), Report.Number(messages.Length / (sent + learnt).TotalSeconds, "0"),
                Report.Number(aloneCpu, "0.000"), Report.Number(batchCpu, "0.0")]);
            report.Add($"update/durable/{synchronous}/median", Suite.Median(times), "ms", synchronous == "NORMAL" ? Goal.AtMost(0.4) : null);
            report.Add($"update/durable/{synchronous}/events/s in batches", rate, "1/s", synchronous == "NORMAL" ? Goal.AtLeast(20_000) : null);
        }
        report.Table(1, ["state", "one event, median ms", "p99 ms", "batched: learnt/s", "batched: sent and learnt/s", "one event, CPU ms", "batched, CPU µs an event"], rows);
    }

    private static FeedbackMessage Message(Speaker speaker, string user, string id, int i) => new()
    {
        Tenant = ApiKeys.DefaultTenant,
        App = "digits",
        User = user,
        FeedbackId = id,
        Label = speaker.Labels[i % Speaker.Clips],
        FeaturesVersion = 1,
        PriorVersion = 1,
        Features = MemoryMarshal.AsBytes(speaker[i % Speaker.Clips]).ToArray(),
        At = DateTimeOffset.UnixEpoch.AddSeconds(i),
    };

    private static (double Microseconds, double Bytes) Measure(Action<int> action, int count)
    {
        for (var i = 0; i < count; i++) action(i);
        var times = new List<double>();
        var before = GC.GetAllocatedBytesForCurrentThread();
        var bytes = 0.0;
        for (var round = 0; round < 15; round++)
        {
            before = GC.GetAllocatedBytesForCurrentThread();
            var started = Stopwatch.GetTimestamp();
            for (var i = 0; i < count; i++) action(i);
            times.Add(Stopwatch.GetElapsedTime(started).TotalMicroseconds / count);
            bytes = (double)(GC.GetAllocatedBytesForCurrentThread() - before) / count;
        }
        return (Suite.Median(times), bytes);
    }

    /// <summary>θ and all heads anew, as the sample's own script makes them: biases by eight sweeps, factors by ten of alternating least squares.</summary>
    private static class FilmFit
    {
        private const int Factors = 32, Sweeps = 10, BiasSweeps = 8;
        private const double Ridge = 5, ItemBiasRidge = 8, UserBiasRidge = 5;

        public static (double Seconds, double Rmse) Run(List<Rating> ratings, Prior prior)
        {
            var started = Stopwatch.GetTimestamp();
            var users = ratings.Select(rating => rating.User).Distinct().ToList();
            var userAt = users.Select((user, index) => (user, index)).ToDictionary(pair => pair.user, pair => pair.index);
            var u = ratings.Select(rating => userAt[rating.User]).ToArray();
            var i = ratings.Select(rating => rating.Item).ToArray();
            var items = i.Max() + 1;
            var r = ratings.Select(rating => rating.Value - prior.Offset).ToArray();
            double[] userBias = new double[users.Count], itemBias = new double[items];
            for (var sweep = 0; sweep < BiasSweeps; sweep++)
            {
                Biases(i, u, r, userBias, itemBias, ItemBiasRidge);
                Biases(u, i, r, itemBias, userBias, UserBiasRidge);
            }
            var random = new Random(1);
            var q = Enumerable.Range(0, items * Factors).Select(_ => (random.NextDouble() - 0.5) * 0.35).ToArray();
            var p = new double[users.Count * Factors];
            var error = r.Select((value, n) => value - userBias[u[n]] - itemBias[i[n]]).ToArray();
            var (ofUser, ofItem) = (Groups(u, users.Count), Groups(i, items));
            for (var sweep = 0; sweep < Sweeps; sweep++)
            {
                Solve(ofUser, i, q, p, error);
                Solve(ofItem, u, p, q, error);
            }
            // Every user's head over the new features.
            var d = Factors + 2;
            var squared = 0.0;
            for (var user = 0; user < users.Count; user++)
            {
                var a = new double[d * d];
                var b = new double[d];
                for (var j = 0; j < d; j++)
                {
                    a[j * d + j] = prior.Precision(j);
                    b[j] = prior.Precision(j) * prior.Weights[j];
                }
                var rows = ofUser[user].Select(n => (double[])[1, itemBias[i[n]], .. q.AsSpan(i[n] * Factors, Factors)]).ToArray();
                for (var n = 0; n < rows.Length; n++) Add(a, b, rows[n], r[ofUser[user][n]]);
                var lower = Cholesky.Factor(a, d);
                Cholesky.Solve(lower, d, b);
                Cholesky.InvertPacked(lower, d);
                for (var n = 0; n < rows.Length; n++) squared += Math.Pow(TensorPrimitives.Dot<double>(rows[n], b) - r[ofUser[user][n]], 2);
            }
            return (Stopwatch.GetElapsedTime(started).TotalSeconds, Math.Sqrt(squared / r.Length));
        }

        private static void Biases(int[] of, int[] other, double[] r, double[] others, double[] biases, double ridge)
        {
            var counts = new double[biases.Length];
            biases.AsSpan().Clear();
            for (var n = 0; n < r.Length; n++)
            {
                biases[of[n]] += r[n] - others[other[n]];
                counts[of[n]]++;
            }
            for (var k = 0; k < biases.Length; k++) biases[k] /= counts[k] + ridge;
        }

        private static int[][] Groups(int[] of, int count)
        {
            var groups = Enumerable.Range(0, count).Select(_ => new List<int>()).ToArray();
            for (var n = 0; n < of.Length; n++) groups[of[n]].Add(n);
            return [.. groups.Select(group => group.ToArray())];
        }

        private static void Solve(int[][] groups, int[] other, double[] others, double[] ours, double[] error)
        {
            for (var g = 0; g < groups.Length; g++)
            {
                var a = new double[Factors * Factors];
                var b = ours.AsSpan(g * Factors, Factors);
                b.Clear();
                for (var k = 0; k < Factors; k++) a[k * Factors + k] = Ridge;
                foreach (var n in groups[g]) Add(a, b, others.AsSpan(other[n] * Factors, Factors), error[n]);
                Cholesky.Solve(Cholesky.Factor(a, Factors), Factors, b);
            }
        }

        private static void Add(double[] a, Span<double> b, ReadOnlySpan<double> x, double y)
        {
            for (var k = 0; k < x.Length; k++) TensorPrimitives.MultiplyAdd(x, x[k], a.AsSpan(k * x.Length, x.Length), a.AsSpan(k * x.Length, x.Length));
            TensorPrimitives.MultiplyAdd(x, y, b, b);
        }
    }
}
