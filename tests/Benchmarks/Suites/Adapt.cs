using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using Skiff.Apps;
using Skiff.Personalization;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// How fast heads come to know their users, over HTTP alone. Digits: each speaker is a user of an app whose body and prior never heard that speaker; 300 clips are predicted and then given feedback on, the last 200 measure.
/// Films: 384 users, every rating predicted and then given.
/// </summary>
internal static class Adapt
{
    private static readonly int[] Measured = [0, 10, 40, 80, 300];
    private static readonly Dictionary<int, double> Goals = new() { [10] = 0.72, [40] = 0.87, [300] = 0.95 };

    public static Command Command()
    {
        var orders = new Option<int>("--orders") { Description = "Orders of each speaker's clips that prior strengths are compared on", HelpName = "N", DefaultValueFactory = _ => 10 };
        Suite.RequirePositive(orders);
        return Suite.Create("adapt", "Accuracy after 0 to 300 labels and the error of ratings, over HTTP; what the prior gives a new user.", [orders], (parsed, report) =>
        {
            report.Text("# adapt\n");
            var speakers = Speaker.LoadAll();
            WriteStrengths(report, speakers, parsed.GetValue(orders));
            using var folder = new ScratchFolder();
            WriteServedAsync(report, speakers, folder.Path).GetAwaiter().GetResult();
        });
    }

    private static void WriteStrengths(Report report, Speaker[] speakers, int orders)
    {
        HeadDocument[] candidates =
        [
            .. from strength in new[] { 0.08, 0.05, 0.03, 0.02, 0.01, 0.005 }
               from fade in new PriorFadeDocument?[] { null, new() { By = 4, Labels = 40 }, new() { By = 8, Labels = 80 }, new() { By = 8, Labels = 40 } }
               select Speaker.Plain with { PriorStrength = strength, PriorFade = fade },
        ];
        var losses = candidates.Select(_ => new List<double>()).ToArray();
        foreach (var speaker in speakers)
        {
            var streams = Enumerable.Range(0, orders).Select(seed => StreamOf(speaker, Speaker.Order(seed, Speaker.Adapting))).ToList();
            var rows = PriorStrength.Losses([.. candidates.Select(speaker.Open)], streams);
            // A speaker is one user, in however many orders: orders of the same clips say nothing of how users differ.
            for (var i = 0; i < rows.Length; i++) losses[i].Add(rows[i].Average());
        }
        double[][] table = [.. losses.Select(row => row.ToArray())];
        var chosen = PriorStrength.Choose(table);
        var shipped = Array.FindIndex(candidates, candidate => candidate.PriorStrength == Speaker.Shipped.PriorStrength && candidate.PriorFade == Speaker.Shipped.PriorFade);
        report.Heading("Prior strength by prequential loss");
        report.Text($"The adapting clips alone, {orders} orders a speaker; share of labels that were wrong before they were learnt, the n-th counting 1/(n + 9). Chosen: the strongest within a standard error (over speakers) of the best. The last columns are the held-out clips in their own order; nothing is chosen by them.\n");
        report.Table(2, ["strength", "fades by, over labels", "loss", "chosen", "shipped", "held out at 10", "at 40", "at 300"], candidates.Select((candidate, i) => (string[])
        [
            Report.Number(candidate.PriorStrength, "0.###"), candidate.PriorFade is { } fade ? $"{fade.By}, {fade.Labels}" : "", Report.Number(table[i].Average(), "0.0000"), i == chosen ? "*" : "", i == shipped ? "*" : "",
            .. HeldOut(speakers, candidate).Select(accuracy => Report.Number(accuracy, "0.0000")),
        ]));
        report.Add("adapt/prior strength/shipped loss − best loss", shipped < 0 ? null : table[shipped].Average() - table.Min(row => row.Average()), "share");
    }

    private static IEnumerable<double> HeldOut(Speaker[] speakers, HeadDocument document)
    {
        var heads = speakers.Select(speaker => (speaker, new LearningHead(speaker.Open(document), null))).ToArray();
        for (var clip = 0; clip < Speaker.Adapting; clip++)
        {
            foreach (var (speaker, head) in heads) speaker.Learn(head, clip, speaker.Labels[clip]);
            if (clip + 1 is 10 or 40 or Speaker.Adapting) yield return heads.Average(pair => pair.speaker.Accuracy(pair.Item2.Weights, Enumerable.Range(Speaker.Adapting, Speaker.Clips - Speaker.Adapting)));
        }
    }

    private static ExampleStream StreamOf(Speaker speaker, int[] clips) => new([.. clips.Select(clip => speaker[clip].ToArray())], [.. clips.Select(clip =>
    {
        var target = new float[Speaker.Classes];
        target[speaker.Labels[clip]] = 1;
        return target;
    })]);

    private static async Task WriteServedAsync(Report report, Speaker[] speakers, string data)
    {
        await using var server = await SkiffServer.StartAsync(data);
        Suite.Progress("digits over HTTP");
        var process = Process.GetCurrentProcess();
        var cpu = process.TotalProcessorTime;
        var shared = await Task.WhenAll(speakers.Select(speaker => AdaptAsync(server, speaker, "shared", withPrior: true)));
        var digitsCpu = (process.TotalProcessorTime - cpu) / speakers.Length;
        var alone = await Task.WhenAll(speakers.Select(speaker => AdaptAsync(server, speaker, "alone", withPrior: false)));

        report.Heading("Digits: accuracy on the 200 held-out clips");
        report.Table(1, ["labels", .. speakers.Select(speaker => speaker.Name), "mean", "without sharing (no prior)"], Measured.Select((labels, i) =>
        {
            var mean = shared.Average(curve => curve.Held[i]);
            report.Add($"adapt/digits/accuracy at {labels}", mean, "share", Goals.TryGetValue(labels, out var goal) ? Goal.AtLeast(goal) : null);
            return (string[])[$"{labels}", .. shared.Select(curve => Report.Number(curve.Held[i], "0.000")), Report.Number(mean, "0.00000"), Report.Number(alone.Average(curve => curve.Held[i]), "0.00000")];
        }));
        double first = shared.Average(curve => curve.First), without = alone.Average(curve => curve.First);
        report.Text($"\nA new user's first ten answers: {Report.Number(first, "0.000")} right with what others taught the prior, {Report.Number(without, "0.000")} without.");
        report.Add("adapt/digits/first ten answers, shared − alone", first - without, "share", Goal.AtLeast(0));

        Suite.Progress("films over HTTP");
        cpu = process.TotalProcessorTime;
        var (rmse, users) = await FilmsAsync(server);
        var filmsCpu = (process.TotalProcessorTime - cpu) / users;
        report.Heading("Films");
        report.Text($"{users} users, RMSE {Report.Number(rmse, "0.0000")}");
        report.Add("adapt/films/RMSE", rmse, "stars", Goal.AtMost(1.490));

        report.Heading("A user's share");
        report.Text("CPU: server and client together, in one process, 300 labels (digits) or about 45 (films), predictions and answers of every look included. State: w, P and memory as they are stored.\n");
        report.Table(1, ["app", "CPU ms", "state B"], [["digits", Report.Number(digitsCpu.TotalMilliseconds, "0"), $"{StateBytes(65, 10)}"], ["films", Report.Number(filmsCpu.TotalMilliseconds, "0"), $"{StateBytes(34, 1)}"]]);
        report.Add("adapt/digits/state of a user", StateBytes(65, 10), "B");
        report.Add("adapt/digits/CPU of a user", digitsCpu.TotalMilliseconds, "ms");
        report.Add("adapt/films/state of a user", StateBytes(34, 1), "B");
        report.Add("adapt/films/CPU of a user", filmsCpu.TotalMilliseconds, "ms");
    }

    private static int StateBytes(int d, int outputs) => sizeof(float) * (d * outputs + RidgeHead.PackedLength(d)) + HeadMemory.Length;

    private static async Task<(double[] Held, double First)> AdaptAsync(SkiffServer server, Speaker speaker, string kind, bool withPrior)
    {
        var name = $"digits_{kind}_{speaker.Name}";
        await server.PushAsync($"body_{name}", await File.ReadAllBytesAsync(Repository.Sample($"digits/digits-body-without-{speaker.Name}.onnx")));
        var app = AppDocument.Parse(Encoding.UTF8.GetBytes(Patient.AppWithout(Patient.Sample("digits/app.json"))));
        // Without a prior κ is that of an identity: of the size of a clip's |φ|², which a few labels outweigh.
        var head = withPrior ? app.Head! with { Features = $"body_{name}", Prior = $"prior_{name}" } : app.Head! with { Features = $"body_{name}", Prior = null, PriorStrength = 100, PriorFade = null };
        if (withPrior) await server.PushAsync($"prior_{name}", await File.ReadAllBytesAsync(Repository.Sample($"digits/{speaker.Name}-prior.json")));
        await server.PushAppAsync(Encoding.UTF8.GetString((app with { Name = name, Head = head }).ToJson()));

        var clips = Idx.Read(Repository.Sample($"digits/{speaker.Name}-logmel-idx3-ubyte.gz"));
        var path = $"/apps/{name}";
        var held = new List<double>();
        var right = 0;
        for (var i = 0; i <= Speaker.Adapting; i++)
        {
            if (Measured.Contains(i)) held.Add(await MeasureAsync(server, path, speaker, clips));
            if (i == Speaker.Adapting) break;
            var answer = await PostAsync(server, $"{path}/predict", $$"""{"user":"{{speaker.Name}}","input":{{Input(clips, i)}}}""", HttpStatusCode.OK);
            if (i < 10 && answer.GetProperty("label").GetInt32() == speaker.Labels[i]) right++;
            await PostAsync(server, $"{path}/feedback", $$"""{"id":"{{answer.GetProperty("id").GetString()}}","label":{{speaker.Labels[i]}}}""", HttpStatusCode.Accepted);
        }
        return ([.. held], right / 10.0);
    }

    private static async Task<double> MeasureAsync(SkiffServer server, string path, Speaker speaker, Idx clips)
    {
        var inputs = string.Join(',', Enumerable.Range(Speaker.Adapting, clips.Count - Speaker.Adapting).Select(i => Input(clips, i)));
        var answer = await PostAsync(server, $"{path}/predict", $$"""{"user":"{{speaker.Name}}","inputs":[{{inputs}}]}""", HttpStatusCode.OK);
        return answer.GetProperty("predictions").EnumerateArray().Select((prediction, i) => prediction.GetProperty("label").GetInt32() == speaker.Labels[Speaker.Adapting + i] ? 1.0 : 0).Average();
    }

    private static async Task<(double Rmse, int Users)> FilmsAsync(SkiffServer server)
    {
        await server.PushAsync("mt_item_features", await File.ReadAllBytesAsync(Repository.Sample("films/mt_item_features.onnx")));
        await server.PushAsync("mt_priors", await File.ReadAllBytesAsync(Repository.Sample("films/mt_priors.json")));
        await server.PushAppAsync(Patient.Sample("films/app.json"));
        var users = Rating.ReadAll().GroupBy(rating => rating.User).ToList();
        double squared = 0;
        var gate = new Lock();
        await Parallel.ForEachAsync(users, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (user, _) =>
        {
            foreach (var (id, item, value) in user)
            {
                var answer = await PostAsync(server, "/apps/films/predict", $$"""{"user":"u{{id}}","input":[{{item}}]}""", HttpStatusCode.OK);
                lock (gate) squared += Math.Pow(answer.GetProperty("output").GetDouble() - value, 2);
                await PostAsync(server, "/apps/films/feedback", $$"""{"id":"{{answer.GetProperty("id").GetString()}}","value":{{value}}}""", HttpStatusCode.Accepted);
            }
        });
        return (Math.Sqrt(squared / users.Sum(user => user.Count())), users.Count);
    }

    private static async Task<JsonElement> PostAsync(SkiffServer server, string path, string json, HttpStatusCode expected)
    {
        var (status, body) = await server.PostAsync(path, json);
        return status == expected ? body : throw new BenchmarkException($"{path} answered {status}: {body}");
    }

    private static string Input(Idx clips, int clip)
    {
        var json = new StringBuilder("[");
        foreach (var value in clips[clip]) json.Append(json.Length > 1 ? "," : "").Append(CultureInfo.InvariantCulture, $"{(value - 128) / 42f}");
        return json.Append(']').ToString();
    }
}
