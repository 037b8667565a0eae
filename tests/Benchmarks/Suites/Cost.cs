using System.CommandLine;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What AWS would bill: the functions' own programs, run between a Runtime API and services that speak the real protocols, use what is counted here; list prices make a bill of it,
/// which stands beside instances that are always on.
/// </summary>
internal static class Cost
{
    public static Command Command()
    {
        var memory = new Option<int>("--memory") { Description = "Megabytes of each function, 128 to 10240", HelpName = "MB", DefaultValueFactory = _ => 1769 };
        var predictions = new Option<double>("--predictions") { Description = "Predictions that the bill is for", HelpName = "N", DefaultValueFactory = _ => 1_000_000 };
        var feedbacks = new Option<double>("--feedbacks") { Description = "Feedback that the bill is for", HelpName = "N", DefaultValueFactory = _ => 100_000 };
        var architecture = new Option<string>("--architecture") { Description = "Whose price of a GB-second: x86_64 or arm64", DefaultValueFactory = _ => "x86_64" };
        var roundTrip = new Option<double>("--round-trip") { Description = "Milliseconds that a call to a service takes in AWS, instead of what those that stand in for them took here", HelpName = "MS", DefaultValueFactory = _ => 5 };
        var measure = new Option<int>("--measure") { Description = "Predictions that are measured; a fifth as many feedbacks", HelpName = "N", DefaultValueFactory = _ => 2000 };
        var functions = new Option<string?>("--functions") { Description = "Folder of the published functions, with Predict/bootstrap and Feedback/bootstrap, instead of those that were built", HelpName = "DIR" };
        architecture.AcceptOnlyFromAmong("x86_64", "arm64");
        Suite.RequirePositive(memory, predictions, feedbacks, roundTrip, measure);

        return Suite.Create("cost", "The bill of predictions and feedback on functions, beside instances that are always on.",
            [memory, predictions, feedbacks, architecture, roundTrip, measure, functions],
            (parsed, report) =>
            {
                var usage = CostMeasurement.RunAsync(parsed.GetValue(measure), parsed.GetValue(functions)).GetAwaiter().GetResult();
                var bill = new Bill(usage, parsed.GetValue(memory), parsed.GetValue(architecture)!, parsed.GetValue(roundTrip), parsed.GetValue(feedbacks) / parsed.GetValue(predictions));
                CostReport.Write(report, bill, parsed.GetValue(predictions), parsed.GetValue(feedbacks));
            });
    }
}
