using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary><c>skiff simulate</c> and <c>skiff plan</c> as processes.</summary>
public sealed class SimulateTests : IDisposable
{
    private readonly ScratchFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Policies_AreComparedOnTheSameRequests_AndTheSeedDecides()
    {
        string[] command = ["simulate", "--requests", "20000", "--policy", "random", "bounded"];
        var one = await SkiffProcess.RunAsync(command);
        var again = await SkiffProcess.RunAsync(command);
        var other = await SkiffProcess.RunAsync([.. command, "--seed", "2"]);

        Assert.True(one.ExitCode == 0 && one.Error == "", one.Error);
        Assert.StartsWith("20,000 requests of 10,000 users for 1 models, to 8 instances, seed 1\n", one.Output);
        Assert.Equal(one.Output, again.Output);
        Assert.NotEqual(one.Output.Split('\n')[3], other.Output.Split('\n')[3]);
        Assert.True(HitRate(one, "bounded") > HitRate(one, "random"), one.Output);
        Assert.DoesNotContain("least-loaded", one.Output);
    }

    [Fact]
    public async Task Trace_IsPlayed()
    {
        File.WriteAllText(_folder["trace.csv"], "time,user,model\n" + string.Concat(Enumerable.Range(0, 100).Select(i => $"{i},ann,m\n")));
        var result = await SkiffProcess.RunAsync("simulate", "--trace", _folder["trace.csv"], "--policy", "platform", "--heavy", "2", "--escalate", "0.5", "--warm-up", "0");

        Assert.True(result.ExitCode == 0, result.Error);
        Assert.StartsWith("100 requests of 1 users for 1 models, to 8 instances and 2 heavy replicas", result.Output);
        Assert.Equal(0.99, HitRate(result, "platform"));
    }

    [Fact]
    public async Task WhatCannotBeSimulatedOrPlanned_IsRefusedInOneLine()
    {
        File.WriteAllText(_folder["bad.csv"], "0,a\nsoon,b\n");
        foreach (var (says, command) in new (string, string[])[]
        {
            ("front tier: instances are from 1 to 65,535", ["simulate", "--instances", "0"]),
            ("front tier: service time is above 0 and at most a day", ["simulate", "--service", "1e300"]),
            ("the rate is above 0", ["simulate", "--rate", "0"]),
            ("the rate is so low", ["simulate", "--rate", "1e-9"]),
            ("users and models are from 1", ["simulate", "--users", "0"]),
            ("there is no file", ["simulate", "--trace", _folder["none.csv"]]),
            ("bad.csv: line 2: 'soon' is no time; it takes seconds", ["simulate", "--trace", _folder["bad.csv"]]),
            ("is a folder; --trace takes a file", ["simulate", "--trace", _folder.Path]),
            ("the day is from 0.001 to 1,000,000,000 seconds", ["simulate", "--swing", "1", "--day", "1e12"]),
            ("the rate is above 0 and at most 10,000,000", ["simulate", "--rate", "1e15", "--swing", "1", "--requests", "10"]),
            ("--heavy is at least 0", ["simulate", "--heavy", "-1"]),
            ("the share of requests that go on is from 0 to 1", ["simulate", "--heavy", "1", "--escalate", "2"]),
            ("the rate is above 0", ["plan", "--rate", "-1"]),
            ("the quantile is between 0 and 1", ["plan", "--rate", "1", "--quantile", "1"]),
        })
        {
            var result = await SkiffProcess.RunAsync(command);
            var what = $"{string.Join(' ', command)} → {result.ExitCode}: {result.Output}{result.Error}";
            Assert.True(result.ExitCode == 1 && result.Output == "", what);
            Assert.True(result.ErrorLines is [var line] && line.StartsWith("skiff: ", StringComparison.Ordinal) && line.Contains(says, StringComparison.Ordinal), what);
        }
    }

    [Fact]
    public async Task Plan_NamesTheCheapestMixFirst_OrSaysThatThereIsNone()
    {
        var plan = await SkiffProcess.RunAsync("plan", "--rate", "20000", "--heavy-on-replica", "1", "--workers", "4");
        Assert.True(plan.ExitCode == 0, plan.Error);
        Assert.StartsWith("replicas alone", plan.Output.Split('\n')[3]);
        Assert.Contains("functions alone", plan.Output);

        var none = await SkiffProcess.RunAsync("plan", "--rate", "20", "--objective", "0.1");
        Assert.Equal(1, none.ExitCode);
        Assert.Contains("nothing does that", none.Output);
    }

    [Fact]
    public async Task Plan_PrintsWhatTheReadmeShows()
    {
        var readme = await File.ReadAllTextAsync(Path.Combine(Repository.Root, "README.md"), TestContext.Current.CancellationToken);
        var shown = readme[readme.IndexOf("$ skiff plan ", StringComparison.Ordinal)..];
        var lines = shown[..shown.IndexOf("```", StringComparison.Ordinal)].Split('\n', 2);
        var plan = await SkiffProcess.RunAsync(lines[0].Split(' ')[2..]);

        Assert.Equal(lines[1], plan.Output);
    }

    private static double HitRate(CommandResult result, string policy) =>
        double.Parse(result.Output.Split('\n').Single(line => line.StartsWith(policy, StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture);
}
