using System.CommandLine;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using Skiff.Benchmarks.Injection;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// Many operations of the stores on a network that fails: each completes or fails clearly within its deadline, and what is in the stores at the end is what a clean run of the same
/// operations leaves: nothing lost, nothing twice.
/// </summary>
internal static class Faults
{
    public static Command Command()
    {
        var operations = new Option<int>("--operations") { Description = "Operations of a run, on S3, DynamoDB and SQS", HelpName = "N", DefaultValueFactory = _ => 10_000 };
        var rate = new Option<double>("--rate") { Description = "Share of requests that meet a fault, above 0 and up to 0.5", HelpName = "N", DefaultValueFactory = _ => 0.1 };
        var seed = new Option<int>("--seed") { Description = "Of the operations and of the faults", HelpName = "N", DefaultValueFactory = _ => 1 };
        var workers = new Option<int>("--workers") { Description = "Operations under way at once", HelpName = "N", DefaultValueFactory = _ => 32 };
        Suite.RequirePositive(operations, rate, workers);
        rate.Validators.Add(given =>
        {
            if (given.Tokens is [{ Value: var text }] && double.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out var value) && value > 0.5)
                given.AddError($"--rate is '{text}'; it takes a number above 0 and up to 0.5.");
        });

        return Suite.Create("faults", "Our stores through injected faults: what fails unclearly, is late, lost or there twice; starts moto_server and dynoxide.",
            [operations, rate, seed, workers],
            (parsed, report) =>
            {
                var plan = new Operations(parsed.GetValue(operations), parsed.GetValue(workers), parsed.GetValue(seed));
                RunAsync(report, plan, parsed.GetValue(rate), parsed.GetValue(seed), parsed.GetValue(workers)).GetAwaiter().GetResult();
            });
    }

    private static async Task RunAsync(Report report, Operations operations, double rate, int seed, int workers)
    {
        Describe(report, operations, rate, seed, workers);
        await using var emulators = await Emulators.StartAsync(objects: true, state: true);
        Suite.Progress("the clean run");
        var clean = await RunAsync(emulators, operations, 0, seed);
        var expected = operations.Expected();
        if (State.Differences(expected, clean.State) is [var first, ..] differences)
            throw new BenchmarkException($"without faults {differences.Count} entries are not what was written, so nothing can be said of faults. The first is {first}.");
        Suite.Progress("the run with faults");
        var faulty = await RunAsync(emulators, operations, rate, seed);
        Write(report, operations, clean, faulty, State.Differences(clean.State, faulty.State));
    }

    private static async Task<Outcome> RunAsync(Emulators emulators, Operations operations, double rate, int seed)
    {
        // A batch of one message is shorter than two of its bodies, which are written as text within text.
        var body = JavaScriptEncoder.Default.Encode(System.Text.Encoding.UTF8.GetString(FaultRun.Message("000000-0", "000000-0").Serialize()));
        var injector = new Injector(rate, seed) { LeastBatchBytes = 2 * body.Length };
        await using var services = await FaultyServices.StartAsync(emulators, operations.ByWorker.Count, injector.Next);
        var tally = new Tally();
        var run = new FaultRun(services, operations, tally);
        var state = await run.RunAsync();
        return new Outcome(run, tally, injector, state);
    }

    private static void Describe(Report report, Operations operations, double rate, int seed, int workers)
    {
        report.Text("# faults\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.ProcessArchitecture}");
        report.Text($"- {Environment.ProcessorCount} cores for everything, the services and the proxies included");
        var kinds = string.Join(", ", Enum.GetValues<Kind>().Select(kind => $"{operations.Of(kind).Count():n0} {kind}"));
        report.Text($"- {operations.All.Count():n0} operations ({kinds}), {workers} at once; every request meets a fault with probability {rate:0.###}, seed {seed}");
        report.Text($"- hasty options: an attempt takes {FaultyServices.HastyS3.AttemptTimeout.TotalSeconds} s at most; received messages are hidden for {FaultyServices.HastySqs.Visibility.TotalSeconds} s");
        report.Text($"- so a call's deadline, all attempts and their pauses and 3 s for .NET to let go of an answer and for a busy machine, is {FaultyServices.S3Deadline.TotalSeconds} s on S3, "
            + $"{FaultyServices.DynamoDeadline.TotalSeconds} s on DynamoDB, {FaultyServices.SqsDeadline.TotalSeconds} s on SQS and {FaultyServices.SendDeadline.TotalSeconds} s for a send, whose refused part is sent again");
        report.Text("- what failed clearly the caller asks for again, until it is done: nobody knows whether it was");
    }

    private static void Write(Report report, Operations operations, Outcome clean, Outcome faulty, IReadOnlyList<string> differences)
    {
        var services = Enum.GetValues<Service>();
        report.Heading("Requests and faults");
        report.Table(1, ["", .. services.Select(service => $"{service}"), "all"],
        [
            Row("requests, clean run", clean.Injector.Requests),
            Row("requests, with faults", faulty.Injector.Requests),
            Row("faults", faulty.Injector.Faults),
            .. Injector.Kinds.Select(kind => Row($"… {Words(kind)}", service => faulty.Injector.Count(service, kind))),
        ]);

        report.Heading("What came of it");
        report.Table(1, ["", "clean run", "with faults"],
        [
            Both("operations", _ => operations.All.Count()),
            Both("completed", _ => operations.All.Count()),
            Both("… after the caller had asked again", outcome => outcome.Run.Repeated),
            Both("calls of the stores", outcome => outcome.Tally.Calls),
            Both("… failed clearly", outcome => outcome.Tally.Failed),
            Both("… failed unclearly", outcome => outcome.Tally.Unclear),
            Both("… said what is not so", outcome => outcome.Tally.Wrong),
            Both("… over their deadline", outcome => outcome.Tally.Late),
            Both("messages that came after their completion", outcome => outcome.Run.Again),
            ["entries of the stores that differ from the clean run's", "", $"{differences.Count} of {clean.State.Count:n0}"],
            ["slowest call", .. new[] { clean, faulty }.Select(outcome => $"{outcome.Tally.Slowest.Took.TotalSeconds:0.0} s ({outcome.Tally.Slowest.What})")],
            ["seconds", .. new[] { clean, faulty }.Select(outcome => Report.Number(outcome.Run.Took.TotalSeconds, "0.0"))],
        ]);
        WriteFailures(report, clean.Tally, faulty.Tally);
        foreach (var oddity in clean.Tally.Oddities.Concat(faulty.Tally.Oddities).Concat(differences.Take(10))) report.Text($"- {oddity}");

        var requests = (double)services.Sum(faulty.Injector.Requests) / services.Sum(clean.Injector.Requests);
        var seconds = faulty.Run.Took / clean.Run.Took;
        report.Text($"\nOverhead of retries: {Report.Number(requests, "0.00")} times the clean run's requests, {Report.Number(seconds, "0.00")} times its time, most of it waiting for answers that stall.");

        report.Add("faults/operations", operations.All.Count(), "operations");
        report.Add("faults/injected", services.Sum(faulty.Injector.Faults), "faults");
        report.Add("faults/failed-clearly", faulty.Tally.Failed, "calls");
        report.Add("faults/unclear", faulty.Tally.Unclear, "calls", Goal.AtMost(0));
        report.Add("faults/wrong-answers", faulty.Tally.Wrong, "calls", Goal.AtMost(0));
        report.Add("faults/over-deadline", faulty.Tally.Late, "calls", Goal.AtMost(0));
        report.Add("faults/state-differences", differences.Count + faulty.Run.Again, "entries", Goal.AtMost(0));
        report.Add("faults/slowest", faulty.Tally.Slowest.Took.TotalSeconds, "s");
        report.Add("faults/requests", requests, "ratio");
        report.Add("faults/seconds", seconds, "ratio");

        string[] Row(string title, Func<Service, int> count) => [title, .. services.Select(service => $"{count(service):n0}"), $"{services.Sum(count):n0}"];

        string[] Both(string title, Func<Outcome, int> count) => [title, $"{count(clean):n0}", $"{count(faulty):n0}"];
    }

    private static void WriteFailures(Report report, Tally clean, Tally faulty)
    {
        var failures = clean.Failures.Keys.Union(faulty.Failures.Keys).OrderByDescending(faulty.Failures.GetValueOrDefault).ThenByDescending(clean.Failures.GetValueOrDefault).ToArray();
        if (failures.Length == 0) return;
        report.Heading("What failed clearly");
        report.Table(2, ["call", "because of", "clean run", "with faults"],
            failures.Select(failure => new[] { failure.What, failure.Cause, $"{clean.Failures.GetValueOrDefault(failure):n0}", $"{faulty.Failures.GetValueOrDefault(failure):n0}" }));
    }

    private static string Words(Fault fault) => fault switch
    {
        Fault.ServerError => "server errors (500)",
        Fault.SlowDown => "requests to slow down",
        Fault.Skew => "clocks an hour wrong",
        Fault.Reset => "connections reset before the service saw anything",
        Fault.LostAnswer => "answers lost",
        Fault.Truncate => "answers that broke off",
        Fault.Stall => "answers that stalled",
        Fault.Conflict => "conflicts (409)",
        Fault.Partial => "batches refused in part",
        _ => $"{fault}",
    };

    private sealed record Outcome(FaultRun Run, Tally Tally, Injector Injector, SortedDictionary<string, string> State);
}
