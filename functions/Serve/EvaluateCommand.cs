using System.CommandLine;
using System.Globalization;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Personalization;

namespace Skiff.Serve;

/// <summary><c>skiff evaluate</c>: what other policies would have earned on the decisions that an app has made and had feedback on.</summary>
internal static class EvaluateCommand
{
    public static void Add(RootCommand root, Option<string> data, Option<string> tenant)
    {
        var app = new Argument<string>("APP");
        var member = new Option<string?>("--member") { Description = "The policy that always asks this member; without it each of them, and all evenly" };
        var evaluate = new Command("evaluate", "Judge other policies on the decisions of an app's own, without trying them on anybody") { app, member };
        evaluate.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            try
            {
                var found = await learning.Apps.GetAsync(arguments.GetRequiredValue(tenant), arguments.GetRequiredValue(app), cancellation);
                var decisions = await DecisionLog.ReadAsync(found, learning.State, new FeedbackLog(learning.Objects, learning.State, TimeProvider.System), cancellation);
                return Say(decisions, found.Document.Ensemble!.Members, arguments.GetValue(member));
            }
            catch (Exception e) when (e is RequestException or ModelFailedException)
            {
                throw new FormatException(e.Message, e);
            }
        }));
        root.Add(evaluate);
    }

    private static int Say(DecisionLog decisions, IReadOnlyList<string> members, string? only)
    {
        if (only is not null && !members.Contains(only)) throw new FormatException($"'{only}' is none of the app's members: {string.Join(", ", members)}");
        if (decisions.Count == 0) throw new FormatException("no feedback has come back on a decision of these members: there is nothing to judge by");
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{decisions.Count} decisions with feedback; share of right answers {decisions.Value:0.000}; 95% intervals"));
        Console.WriteLine($"{"policy",-24} {"chosen",7} {"IPS",22} {"SNIPS",22} {"doubly robust",22} {"worth",8} {"largest weight",15}");
        var judged = 0;
        var policies = members.Select((name, arm) => (Name: name, Target: members.Select((_, other) => other == arm ? 1.0 : 0.0).ToArray(), Chosen: decisions.Chosen(arm)));
        if (only is null) policies = policies.Append(("all evenly", [.. members.Select(_ => 1.0 / members.Count)], decisions.Count));
        foreach (var (name, target, chosen) in policies.Where(policy => only is null || policy.Name == only))
        {
            try
            {
                var (ips, snips, robust) = decisions.Judge(target);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-24} {chosen,7} {Text(ips),22} {Text(snips),22} {Text(robust),22} {ips.EffectiveCount,8:0.0} {ips.LargestWeight,15:0.0}"));
                judged++;
            }
            catch (NoOverlapException e)
            {
                Console.WriteLine($"{name,-24} {chosen,7} can't be judged: {e.Message}");
            }
        }
        return judged > 0 ? 0 : 1;
    }

    private static string Text(PolicyValue value) => string.Create(CultureInfo.InvariantCulture, $"{value.Value:0.000} [{value.Low:0.000}, {value.High:0.000}]");
}
