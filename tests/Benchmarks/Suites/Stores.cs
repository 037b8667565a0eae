using System.CommandLine;
using System.Runtime.InteropServices;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What our stores take on top of the services: state in DynamoDB beside the SDK's bare calls, objects in S3 beside bare ranged downloads. Same requests, same process, by
/// turns. The emulators are quicker than the real services, so that our own share looks larger here than it is there.
/// </summary>
internal static class Stores
{
    public static Command Command()
    {
        var rounds = new Option<int>("--rounds") { Description = "Rounds of each way to read and write state; their median is reported", HelpName = "N", DefaultValueFactory = _ => 30 };
        var operations = new Option<int>("--operations") { Description = "Operations of a round", HelpName = "N", DefaultValueFactory = _ => 100 };
        var downloads = new Option<int>("--downloads") { Description = "Rounds, of one download, of each way to fetch an object", HelpName = "N", DefaultValueFactory = _ => 15 };
        var size = new Option<int>("--size") { Description = "Size of the object in MiB", HelpName = "N", DefaultValueFactory = _ => 64 };
        var warmUp = new Option<double>("--warm-up") { Description = "Seconds of each kind that come first", HelpName = "N", DefaultValueFactory = _ => 4 };
        var only = new Option<string[]>("--only") { Description = "Measure these only", DefaultValueFactory = _ => ["state", "objects"], AllowMultipleArgumentsPerToken = true };
        only.AcceptOnlyFromAmong("state", "objects");
        Suite.RequirePositive(rounds, operations, downloads, size, warmUp);
        size.Validators.Add(given =>
        {
            if (given.Tokens is [{ Value: var text }] && int.TryParse(text, out var value) && value > 1024) given.AddError($"--size is '{text}'; it takes 1 to 1024.");
        });

        Option[] options = [rounds, operations, downloads, size, warmUp, only];
        return Suite.Create("stores", "Our DynamoDB and S3 stores beside the SDK's bare calls; starts moto_server and dynoxide.", options, (parsed, report) =>
        {
            var parts = parsed.GetValue(only)!;
            var warm = TimeSpan.FromSeconds(parsed.GetValue(warmUp));
            report.Text("# stores\n");
            report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.ProcessArchitecture}");
            report.Text($"- {Cores.Shared.Description}; CPU and allocation are this process's, the services run in others");
            RunAsync().GetAwaiter().GetResult();

            async Task RunAsync()
            {
                await using var emulators = await Emulators.StartAsync(objects: parts.Contains("objects"), state: parts.Contains("state"));
                if (parts.Contains("state")) await StateStores.MeasureAsync(report, emulators.Dynamo, parsed.GetValue(rounds), parsed.GetValue(operations), warm);
                // moto itself, not its one-at-a-time lane for conditional writes: nobody writes meanwhile.
                if (parts.Contains("objects")) await ObjectStores.MeasureAsync(report, emulators.Moto.Sqs!, parsed.GetValue(size) << 20, parsed.GetValue(downloads), warm);
            }
        });
    }
}
