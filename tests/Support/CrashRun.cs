using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Support;

/// <summary>What is sent to a server that is killed again and again.</summary>
/// <param name="Feedbacks">Sent in all, those that come twice included; in a random order.</param>
/// <param name="Duplicates">The share of them that repeats another.</param>
/// <param name="Kills">At random moments: after some of a round's answers, a few milliseconds later.</param>
public sealed record CrashPlan(int Feedbacks, double Duplicates, int Users, int Kills, int Seed);

/// <summary>What is in the state at the end.</summary>
/// <param name="Different">Feedback ids that were given, each of which should be there once.</param>
/// <param name="Requests">That were sent, repetitions after a kill included.</param>
/// <param name="Twice">Ids that are there more than once, and updates of a head beyond its feedback.</param>
/// <param name="InCommitOrder">The largest relative difference of a head to a replay of its feedback in the order of commits.</param>
/// <param name="InOrderOfIds">The same to a replay in another order.</param>
public sealed record CrashResult(int Different, int Requests, int Kills, int Lost, int Twice, double InCommitOrder, double InOrderOfIds);

/// <summary>Sends feedback to <c>skiff</c> as a process of its own, kills it (SIGKILL) at random moments, starts it again, and looks at what became of the feedback from outside.</summary>
public sealed class CrashRun(string data, CrashPlan plan)
{
    private const int Inputs = 8, Labels = 3, Senders = 8;

    private const string Document = """
        {"name":"crash","input":{"name":"x","type":"FP32","shape":[8]},"labels":["a","b","c"],"head":{"features":"crash_body","kind":"classes","prior_strength":1,"guards":false}}
        """;

    private readonly Random _random = new(plan.Seed);
    private int _acknowledged;
    private int _requests;

    /// <param name="progress">Called with the number of kills so far.</param>
    public async Task<CrashResult> RunAsync(Action<int> progress, CancellationToken cancellation)
    {
        await PublishAsync(cancellation);
        var (ids, bodies) = Feedback();
        var open = new ConcurrentQueue<string>(bodies);
        for (var kill = 0; kill < plan.Kills; kill++)
        {
            var killAfter = _random.Next(open.Count / (plan.Kills - kill + 1) + 1);
            var delay = TimeSpan.FromMilliseconds(_random.NextDouble() * 20);
            await using var server = await SkiffProcess.ServeAsync(data, "--no-samples");
            _acknowledged = 0;
            var sending = SendAsync(server.Client, open, cancellation);
            while (Volatile.Read(ref _acknowledged) < killAfter && !sending.IsCompleted) await Task.Delay(1, cancellation);
            await Task.Delay(delay, cancellation);
            await server.KillAsync();
            await sending;
            progress(kill + 1);
        }
        await using var last = await SkiffProcess.ServeAsync(data, "--no-samples");
        await SendAsync(last.Client, open, cancellation);
        return await LookAsync(last.Client, ids, cancellation);
    }

    private async Task PublishAsync(CancellationToken cancellation)
    {
        var publisher = new Publisher(new ModelStore(new FileObjectStore(Path.Combine(data, "models")), TimeProvider.System), ModelLimits.Default);
        await publisher.PushAsync("default", OnnxBuilder.Identity(DataType.Fp32, -1, Inputs), "crash_body", "live", cancellation);
        await publisher.PushAppAsync("default", Encoding.UTF8.GetBytes(Document), cancellation);
    }

    private (string[] Ids, string[] Bodies) Feedback()
    {
        var different = plan.Feedbacks - (int)(plan.Feedbacks * plan.Duplicates);
        string[] ids = [.. Enumerable.Range(0, different).Select(i => $"f{i:d6}")];
        string[] bodies =
        [
            .. ids.Select((id, i) =>
            {
                var input = string.Join(',', Enumerable.Range(0, Inputs).Select(_ => (_random.NextDouble() * 2 - 1).ToString("f3", CultureInfo.InvariantCulture)));
                return $$"""{"user":"u{{i % plan.Users}}","input":[{{input}}],"label":{{_random.Next(Labels)}},"feedback_id":"{{id}}"}""";
            }),
        ];
        bodies = [.. bodies, .. Enumerable.Range(0, plan.Feedbacks - different).Select(_ => bodies[_random.Next(different)])];
        _random.Shuffle(bodies);
        return (ids, bodies);
    }

    /// <summary>Sends until there is nothing more, or nobody who answers. What was not acknowledged is sent again, as callers do who don't know what became of it.</summary>
    private Task SendAsync(HttpClient client, ConcurrentQueue<string> open, CancellationToken cancellation) => Task.WhenAll(Enumerable.Range(0, Senders).Select(_ => Task.Run(
        async () =>
        {
            while (open.TryDequeue(out var body))
            {
                Interlocked.Increment(ref _requests);
                try
                {
                    using var content = new StringContent(body, Encoding.UTF8, "application/json");
                    using var response = await client.PostAsync("/apps/crash/feedback", content, cancellation);
                    if (response.StatusCode != HttpStatusCode.Accepted) throw new InvalidOperationException($"feedback was answered {(int)response.StatusCode}: {await response.Content.ReadAsStringAsync(cancellation)}");
                    Interlocked.Increment(ref _acknowledged);
                }
                catch (HttpRequestException)
                {
                    open.Enqueue(body);
                    return;
                }
            }
        },
        cancellation)));

    private async Task<CrashResult> LookAsync(HttpClient client, string[] ids, CancellationToken cancellation)
    {
        // What was accepted last may still be on its way to the heads; when nothing more arrives for a while, nothing will.
        var (users, found, patience) = (await ExportAsync(client, cancellation), -1, 0);
        while (Count(users) < ids.Length && patience < 20)
        {
            patience = Count(users) == found ? patience + 1 : 0;
            found = Count(users);
            await Task.Delay(250, cancellation);
            users = await ExportAsync(client, cancellation);
        }

        var kept = users.SelectMany(user => user.Feedback.Select(feedback => feedback.Id)).ToList();
        var updates = users.Sum(user => user.Updates - user.Feedback.Count(feedback => feedback.Learnt));
        return new CrashResult(
            ids.Length, _requests, plan.Kills, ids.Except(kept).Count(), kept.Count - kept.Distinct().Count() + (int)Math.Abs(updates),
            users.Max(user => user.Difference(user.Feedback)), users.Max(user => user.Difference(user.Feedback.OrderBy(feedback => feedback.Id, StringComparer.Ordinal))));

        static int Count(List<User> users) => users.Sum(user => user.Feedback.Count);
    }

    private async Task<List<User>> ExportAsync(HttpClient client, CancellationToken cancellation)
    {
        var users = new List<User>();
        for (var i = 0; i < plan.Users; i++)
        {
            using var response = await client.GetAsync($"/apps/crash/users/u{i}", cancellation);
            if (response.StatusCode == HttpStatusCode.NotFound) continue;
            response.EnsureSuccessStatusCode();
            using var json = JsonDocument.Parse(await response.Content.ReadAsStreamAsync(cancellation));
            users.Add(new User(json.RootElement));
        }
        return users;
    }

    private sealed class Given(JsonElement json)
    {
        public string Id { get; } = json.GetProperty("feedback_id").GetString()!;
        public bool Learnt { get; } = json.GetProperty("learnt").GetBoolean();
        public int Label { get; } = json.GetProperty("label").GetInt32();
        public float[] Features { get; } = Floats(json.GetProperty("features"));
    }

    private sealed class User
    {
        private readonly float[] _state;

        public User(JsonElement json)
        {
            Feedback = [.. json.GetProperty("feedback").EnumerateArray().Select(feedback => new Given(feedback))];
            if (!json.TryGetProperty("head", out var head))
            {
                _state = [];
                return;
            }
            Updates = head.GetProperty("updates").GetInt64();
            _state = [.. Floats(head.GetProperty("weights")), .. Floats(head.GetProperty("covariance"))];
        }

        public IReadOnlyList<Given> Feedback { get; }
        public long Updates { get; }

        /// <summary>Of the head to one that learns the same feedback in an order: ‖difference‖ / ‖head‖, of weights and covariance together.</summary>
        public double Difference(IEnumerable<Given> order)
        {
            const int d = Inputs + 1;
            var weights = new float[Labels * d];
            var covariance = new float[RidgeHead.PackedLength(d)];
            for (int i = 0, at = 0; i < d; at += d - i, i++) covariance[at] = 1;
            var scratch = new float[d];
            foreach (var feedback in order.Where(feedback => feedback.Learnt))
            {
                var target = new float[Labels];
                target[feedback.Label] = 1;
                RidgeHead.Update(weights, covariance, feedback.Features, target, scratch);
            }
            float[] replayed = [.. weights, .. covariance];
            if (_state.Length != replayed.Length) return double.PositiveInfinity;
            var difference = _state.Zip(replayed, (a, b) => ((double)a - b) * ((double)a - b)).Sum();
            return Math.Sqrt(difference / replayed.Sum(value => (double)value * value));
        }
    }

    private static float[] Floats(JsonElement json) => [.. json.EnumerateArray().Select(value => value.GetSingle())];
}
