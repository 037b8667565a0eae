using System.CommandLine;
using System.Globalization;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Ranking;

namespace Skiff.Serve;

/// <summary><c>skiff replay</c>: learns an app's whole history again, to see that its heads are what it makes, or to move them to another version of the feature model.</summary>
internal static class ReplayCommand
{
    public static void Add(RootCommand root, Option<string> data, Option<string> tenant)
    {
        var app = new Argument<string>("APP");
        var theta = new Option<int?>("--theta") { Description = "Version of the feature model to move every head to; without it the heads are verified", HelpName = "VERSION" };
        var skipMissing = new Option<bool>("--skip-missing") { Description = "Leave out feedback that has no input to make new features of, rather than refuse" };
        var rebuild = new Option<bool>("--rebuild") { Description = "Put what the feedback gives under the app's settings now in the place of what was learnt, though it is something else: after settings have changed, or, of an app that ranks, without what erased users have taught" };
        var replay = new Command("replay", "Learn all feedback of an app again: verify its heads, or move them to another version of the feature model") { app, theta, skipMissing, rebuild };
        replay.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            var name = arguments.GetRequiredValue(app);
            var to = arguments.GetValue(theta);
            try
            {
                var found = await learning.Apps.GetAsync(arguments.GetRequiredValue(tenant), name, cancellation);
                var log = new FeedbackLog(learning.Objects, learning.State, TimeProvider.System);
                var isRebuilt = arguments.GetValue(rebuild);
                if (found.Document.Rank is not null)
                {
                    if (to is not null) throw new FormatException($"app '{name}' ranks by features of its own and has no feature model: there is no --theta to move to");
                    return Say(name, await new RankReplay(found, learning.State, log).RunAsync(isRebuilt, cancellation));
                }
                if (found.Head is null) throw new FormatException($"app '{name}' has no head and doesn't rank: there is nothing to replay");
                var report = await new FeedbackReplay(found, learning.State, log, learning.Store, learning.Models).RunAsync(to, arguments.GetValue(skipMissing), isRebuilt, Progress, cancellation);
                return Say(name, to, isRebuilt, report);
            }
            catch (Exception e) when (e is RequestException or ModelFailedException)
            {
                throw new FormatException(e.Message, e);
            }
        }));
        root.Add(replay);
    }

    private static int Say(string app, int? theta, bool rebuilds, ReplayReport report)
    {
        Console.WriteLine($"app {app}: {report.Feedback} feedbacks of {report.Users} users replayed; {report.Erased} entries of erased users passed over");
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{report.Reproduced} of {report.Users} heads reproduced, relative difference up to {report.Worst:0.0e0}"));
        if (theta is not null || rebuilds) Console.WriteLine($"{report.Swapped} heads are {(theta is null ? "what their feedback gives" : $"on version {theta}")} now{(report.Missing > 0 ? $"; {report.Missing} feedbacks without an input were left out" : "")}");
        return report.Reproduced == report.Users || rebuilds ? 0 : 1;
    }

    private static int Say(string app, RankReplayReport report)
    {
        Console.WriteLine($"app {app}: {report.Feedback} messages of its events replayed");
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{report.Reproduced} of {report.Shards} shards reproduced, relative difference up to {report.Worst:0.0e0}"));
        if (report.Rebuilt > 0) Console.WriteLine($"{report.Rebuilt} shards are what their log makes now");
        return report.Reproduced == report.Shards || report.Rebuilt > 0 ? 0 : 1;
    }

    private static void Progress(int done, int all)
    {
        if (Console.IsErrorRedirected ? done == all : done % Math.Max(1, all / 100) == 0 || done == all) Console.Error.Write(Console.IsErrorRedirected ? $"{done} of {all} users\n" : $"\r{done} of {all} users{(done == all ? "\n" : "")}");
    }
}
