using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// Feedback while the process is killed at random moments: what was acknowledged is learnt, once, and the heads are those that a replay of the feedback in commit order gives.
/// All of it is looked at from outside, through the exports of the users.
/// </summary>
internal static class Crash
{
    private const double Tolerance = 1e-6;

    public static Command Command()
    {
        var feedbacks = new Option<int>("--feedbacks") { Description = "Feedback that is sent, duplicates included", HelpName = "N", DefaultValueFactory = _ => 20_000 };
        var kills = new Option<int>("--kills") { Description = "How often the process is killed", HelpName = "N", DefaultValueFactory = _ => 100 };
        var users = new Option<int>("--users") { Description = "Users that the feedback is of", HelpName = "N", DefaultValueFactory = _ => 50 };
        var seed = new Option<int>("--seed") { Description = "Of the feedback, its order and the moments", HelpName = "N", DefaultValueFactory = _ => 1 };
        Suite.RequirePositive(feedbacks, kills, users);
        return Suite.Create("crash", "Feedback to a process that is killed at random moments: what is lost, what counts twice, and whether the heads are those of a replay.",
            [feedbacks, kills, users, seed],
            (parsed, report) => RunAsync(report, new CrashPlan(parsed.GetValue(feedbacks), 0.2, parsed.GetValue(users), parsed.GetValue(kills), parsed.GetValue(seed))).GetAwaiter().GetResult());
    }

    private static async Task RunAsync(Report report, CrashPlan plan)
    {
        report.Text("# crash\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.ProcessArchitecture}");
        report.Text($"- {plan.Feedbacks:n0} feedbacks of {plan.Users} users in random order, {plan.Duplicates:p0} of them duplicates, seed {plan.Seed}; skiff on its embedded stores, killed (SIGKILL) {plan.Kills} times");
        report.Text("- what was not acknowledged is sent again; γ = 1");
        using var folder = new ScratchFolder();
        var watch = Stopwatch.StartNew();
        var result = await new CrashRun(folder.Path, plan).RunAsync(kills => { if (kills % 10 == 0) Suite.Progress($"{kills} kills"); }, CancellationToken.None);

        report.Heading("Result");
        report.Table(1, ["", "found", "goal"],
        [
            ["feedback ids", $"{result.Different:n0}", ""],
            ["requests, repetitions after a kill included", $"{result.Requests:n0}", ""],
            ["kills", $"{result.Kills}", ""],
            ["seconds", $"{watch.Elapsed.TotalSeconds:0}", ""],
            ["lost", $"{result.Lost}", "0"],
            ["twice", $"{result.Twice}", "0"],
            ["relative difference to a replay in commit order", $"{result.InCommitOrder:0.0e0}", $"≤ {Tolerance:0e0}"],
            ["relative difference to a replay in another order", $"{result.InOrderOfIds:0.0e0}", $"≤ {Tolerance:0e0}"],
        ]);
        report.Add("lost", result.Lost, "", Goal.AtMost(0));
        report.Add("twice", result.Twice, "", Goal.AtMost(0));
        report.Add("difference in commit order", result.InCommitOrder, "", Goal.AtMost(Tolerance));
        report.Add("difference in another order", result.InOrderOfIds, "", Goal.AtMost(Tolerance));
    }
}
