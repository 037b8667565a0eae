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
    private const int MostActions = 10;

    public static void Add(RootCommand root, Option<string> data, Option<string> tenant)
    {
        var app = new Argument<string>("APP");
        var member = new Option<string?>("--always", "--member") { Description = "The policy that always chooses this member or action; without it each of them (of actions the ten that were chosen most), all evenly, and of an app that ranks also its own order and its own best", HelpName = "NAME" };
        var evaluate = new Command("evaluate", "Judge other policies on the decisions of an app's own, without trying them on anybody") { app, member };
        evaluate.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            try
            {
                var found = await learning.Apps.GetAsync(arguments.GetRequiredValue(tenant), arguments.GetRequiredValue(app), cancellation);
                var decisions = await DecisionLog.ReadAsync(found, learning.State, new FeedbackLog(learning.Objects, learning.State, TimeProvider.System), DateTimeOffset.UtcNow, cancellation);
                return Say(decisions, found.Document.Rank is not null, arguments.GetValue(member));
            }
            catch (Exception e) when (e is RequestException or ModelFailedException)
            {
                throw new FormatException(e.Message, e);
            }
        }));
        root.Add(evaluate);
    }

    private static int Say(DecisionLog decisions, bool ranks, string? only)
    {
        if (decisions.Count == 0) throw new FormatException("no feedback has come back on a decision that another policy could be judged on: there is nothing to judge by");
        var arms = Enumerable.Range(0, decisions.Arms.Count).Where(arm => decisions.Arms[arm] is not null).OrderByDescending(arm => ranks ? decisions.Chosen(arm) : -arm).ToList();
        if (only is not null && !arms.Exists(arm => decisions.Arms[arm] == only)) throw new FormatException($"'{only}' was never chosen; there are {string.Join(", ", arms.Take(MostActions).Select(arm => decisions.Arms[arm]))}");
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{decisions.Count} decisions with feedback; {(ranks ? "mean reward" : "share of right answers")} {decisions.Value:0.000}; 95% intervals"));
        Console.WriteLine($"{"policy",-24} {"chosen",7} {"IPS",22} {"SNIPS",22} {"doubly robust",22} {"worth",8} {"largest weight",15}");
        var judged = 0;
        foreach (var arm in arms.Where(arm => only is null || decisions.Arms[arm] == only).Take(ranks ? MostActions : arms.Count)) Judge(decisions.Arms[arm]!, decisions.With(arm), decisions.Chosen(arm), DecisionLog.Always(arm));
        if (only is not null) return judged > 0 ? 0 : 1;
        Judge("all evenly", decisions, decisions.Count, DecisionLog.Evenly);
        if (ranks)
        {
            Judge("the caller's first", decisions, decisions.Count, DecisionLog.First);
            Judge("its own, not exploring", decisions, decisions.Count, DecisionLog.Best);
        }
        return judged > 0 ? 0 : 1;

        void Judge(string name, DecisionLog on, int chosen, Func<LoggedDecision, double[]> policy)
        {
            try
            {
                var (ips, snips, robust) = on.Judge(policy);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-24} {chosen,7} {Text(ips),22} {Text(snips),22} {Text(robust),22} {ips.EffectiveCount,8:0.0} {ips.LargestWeight,15:0.0}"));
                judged++;
            }
            catch (NoOverlapException e)
            {
                Console.WriteLine($"{name,-24} {chosen,7} can't be judged: {e.Message}");
            }
        }
    }

    private static string Text(PolicyValue value) => string.Create(CultureInfo.InvariantCulture, $"{value.Value:0.000} [{value.Low:0.000}, {value.High:0.000}]");
}
