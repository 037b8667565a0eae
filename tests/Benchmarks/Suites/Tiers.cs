using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;

namespace Skiff.Benchmarks.Suites;

/// <summary>What a cascade saves the tier that is paid by the hour: <c>fashion</c> with its heaviest model there, the whole way from the request on, beside that model asked there for everything.</summary>
internal static class Tiers
{
    private const int Images = 2000; // in turn
    private const int Connections = 16;
    private const string ModelPath = "/v2/models/fm_big/infer";

    public static Command Command()
    {
        var seconds = new Option<double>("--seconds") { Description = "Of each way, after as many to warm up", HelpName = "N", DefaultValueFactory = _ => 8 };
        Suite.RequirePositive(seconds);
        return Suite.Create("tiers", "fashion with its heaviest model on the heavy tier, beside that model alone there.", [seconds], (parsed, report) =>
        {
            var cores = Cores.Split(); // before any other thread is started
            using var scratch = new ScratchFolder();
            var data = Path.Combine(scratch.Path, "data");
            var requests = new FashionRequests();
            var stages = requests.App["cascade"]!.AsArray();
            stages[^1]!["tier"] = "heavy";
            report.Text("# tiers\n");
            report.Text($"- {cores.Description}; one test image a request as JSON, {Connections} connections, {parsed.GetValue(seconds)} s each; the tier's processor time is that of its process, on the CPU");

            // The app is published by the server that asks the tier, so that one starts first, with an address that answers later.
            Suite.Progress("publishing");
            using (Servers.StartSkiffWithApp(cores, requests.WriteApp(scratch.Path), requests.Models, data))
            {
            }
            using var heavy = Servers.StartHeavy(cores, data, "fm_big");
            var alone = Measure(report, heavy, heavy, requests.OfModel(ModelPath, Images), parsed.GetValue(seconds), "fm_big alone there");
            var accuracyAlone = requests.AskModel(heavy, ModelPath);
            (double Rate, double APerTierSecond, double Sent) cascade;
            double accuracy, degraded;
            using (var server = Servers.StartSkiffWithApp(cores, requests.WriteApp(scratch.Path), [], data, [], ("SKIFF_HEAVY", $"http://{heavy.EndPoint}")))
            {
                cascade = Measure(report, server, heavy, requests.OfApp(Images), parsed.GetValue(seconds), "fashion, fm_big there");
                (accuracy, degraded) = requests.AskApp(server);
            }
            // Every row goes there: more than the tier can do, which is when rows of several callers go together.
            requests.App["cascade"] = new JsonArray(new JsonObject { ["model"] = "fm_big", ["tier"] = "heavy" });
            using var unsure = Servers.StartSkiffWithApp(cores, requests.WriteApp(scratch.Path), [], data, [], ("SKIFF_HEAVY", $"http://{heavy.EndPoint}"));
            var all = Measure(report, unsure, heavy, requests.OfApp(Images), parsed.GetValue(seconds), "every row there");

            report.Table(1, ["way", "requests/s", "tier ms a request", "requests a tier second", "sent there for 1,000", "accuracy %", "cut short %"],
            [
                ["fm_big alone there", $"{alone.Rate:0}", $"{1000 / alone.APerTierSecond:0.000}", $"{alone.APerTierSecond:0}", "1000", $"{100 * accuracyAlone:0.00}", "0"],
                ["fashion, fm_big there", $"{cascade.Rate:0}", $"{1000 / cascade.APerTierSecond:0.000}", $"{cascade.APerTierSecond:0}", $"{1000 * cascade.Sent:0}", $"{100 * accuracy:0.00}", $"{100 * degraded:0.00}"],
                ["every row there", $"{all.Rate:0}", $"{1000 / all.APerTierSecond:0.000}", $"{all.APerTierSecond:0}", $"{1000 * all.Sent:0}", "", ""],
            ]);
            report.Add("tiers/every row there, sent for 1,000", 1000 * all.Sent, "requests");
            report.Add("tiers/every row there, requests a tier second", all.APerTierSecond / alone.APerTierSecond, "× one by one");
            report.Add("tiers/requests a tier second", cascade.APerTierSecond / alone.APerTierSecond, "×", Goal.AtLeast(2.5));
            report.Add("tiers/accuracy lost", 100 * (accuracyAlone - accuracy), "points", Goal.AtMost(0.25));
            report.Add("tiers/cut short", 100 * degraded, "%", Goal.AtMost(0));
        });
    }

    /// <returns>Requests a second, requests a second of the tier's processor, and how many were sent to the tier for each.</returns>
    private static (double Rate, double APerTierSecond, double Sent) Measure(Report report, ServerProcess asked, ServerProcess tier, Workload workload, double seconds, string what)
    {
        Suite.Progress(what);
        using var client = new HttpClient { BaseAddress = new Uri($"http://{asked.EndPoint}") };
        using var generator = new LoadGenerator(asked, workload, Connections);
        generator.Run(TimeSpan.FromSeconds(seconds), verifyEvery: int.MaxValue);
        var (before, sent) = (tier.ProcessorTime, Sent());
        var load = generator.Run(TimeSpan.FromSeconds(seconds), verifyEvery: int.MaxValue);
        var used = (tier.ProcessorTime - before).TotalSeconds;
        report.Add($"tiers/{what}/rate", load.Requests / load.Elapsed.TotalSeconds, "1/s");
        return (load.Requests / load.Elapsed.TotalSeconds, load.Requests / used, asked == tier ? 1 : (Sent() - sent) / load.Requests);

        double Sent() => client.GetStringAsync("/metrics").GetAwaiter().GetResult().Split('\n')
            .Where(line => line.StartsWith("skiff_tier_requests_total ", StringComparison.Ordinal)).Sum(line => double.Parse(line.Split(' ')[1], CultureInfo.InvariantCulture));
    }
}
