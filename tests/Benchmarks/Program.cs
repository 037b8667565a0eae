using System.CommandLine;
using Skiff.Benchmarks;
using Skiff.Benchmarks.Bare;
using Skiff.Benchmarks.Baseline;
using Skiff.Benchmarks.Suites;
using Skiff.Store;

// The suites. A new one is a file in Suites/ and a line here.
Command[] suites =
[
    Throughput.Command(),
    ColdStart.Command(),
    Warm.Command(),
    Batching.Command(),
    Stores.Command(),
    Faults.Command(),
    Cost.Command(),
    Selection.Command(),
    Ensemble.Command(),
    CascadeTuning.Command(),
    Cache.Command(),
    Anytime.Command(),
    Overload.Command(),
    Scaling.Command(),
    Users.Command(),
    Routing.Command(),
    Simulate.Command(),
    Failover.Command(),
    Tiers.Command(),
    Gpu.Command(),
    Update.Command(),
    Adapt.Command(),
    Drift.Command(),
    Bandit.Command(),
    Rank.Command(),
    Poison.Command(),
    Stability.Command(),
    Crash.Command(),
];

var list = new Option<bool>("--list") { Description = "Name the suites and stop; so does giving none." };
var root = new RootCommand("Measures Skiff beside what it is compared with, in one run on one machine.") { list, ChildServer.Command(), RangeServer.Command() };
foreach (var suite in suites) root.Add(suite);
Skiff.Serve.CommandLineNumbers.ReadStrictly(root);
root.SetAction(_ =>
{
    foreach (var suite in suites) Console.WriteLine($"{suite.Name,-12} {suite.Description}");
});

// A suite ends with 0 whatever it measured: only what could not run, or answered wrongly, is a failure.
try
{
    return root.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception failure) when (failure is BenchmarkException or StoreException)
{
    Console.Error.WriteLine($"failed: {failure.Message}");
    return 1;
}
