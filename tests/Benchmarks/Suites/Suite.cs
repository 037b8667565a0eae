using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Skiff.Benchmarks.Suites;

/// <summary>A suite is a command: its own options, <c>--json</c>, and a report that is printed as it runs and written when it has.</summary>
internal static class Suite
{
    public static Command Create(string name, string description, Option[] options, Action<ParseResult, Report> run)
    {
        var json = new Option<string?>("--json") { Description = "Also write the figures to this file.", HelpName = "FILE" };
        var command = new Command(name, description) { json };
        foreach (var option in options) command.Add(option);
        command.SetAction(parsed =>
        {
            // An interrupted run still takes its servers down: leaving by Exit, unlike dying of a signal, raises ProcessExit.
            using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, _ => Environment.Exit(130));
            using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, _ => Environment.Exit(143));
            var report = new Report();
            run(parsed, report);
            report.Goals();
            if (parsed.GetValue(json) is { } path) report.WriteJson(path);
        });
        return command;
    }

    /// <summary>Refuses zero, negative numbers and what is no number when the command line is parsed.</summary>
    public static void RequirePositive(params Option[] options)
    {
        foreach (var option in options)
        {
            option.Validators.Add(given =>
            {
                if (given.Tokens is [{ Value: var text }] && !(double.TryParse(text, CultureInfo.InvariantCulture, out var value) && value > 0))
                    given.AddError($"{option.Name} is '{text}'; it takes a number above 0.");
            });
        }
    }

    /// <summary>Says where a run is: beside the report, not in it.</summary>
    public static void Progress(string text) => Console.Error.WriteLine($"... {text}");

    /// <summary>The middle value; of an even number, the mean of the two in the middle.</summary>
    public static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        var middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}
