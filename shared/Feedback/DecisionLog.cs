using Skiff.Apps;
using Skiff.Feedback.Log;
using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>An app's decisions as feedback has come back on them: which of K members a policy chose, with what probability, and what that earned. What other policies are judged on (<see cref="OffPolicy"/>).</summary>
public sealed class DecisionLog
{
    private readonly List<int> _actions = [];
    private readonly List<double> _rewards = [];
    private readonly List<double> _logged = [];

    private DecisionLog(int arms) => Arms = arms;

    /// <summary>K.</summary>
    public int Arms { get; }

    public int Count => _actions.Count;

    /// <summary>What was earned, on average.</summary>
    public double Value => _rewards.Average();

    /// <summary>How often each was chosen.</summary>
    public int Chosen(int arm) => _actions.Count(action => action == arm);

    /// <summary>What is in the app's log and what the state store still has, each feedback once.</summary>
    /// <exception cref="FormatException">The app makes no decisions that another policy could be judged on.</exception>
    public static async Task<DecisionLog> ReadAsync(App app, IStateStore state, FeedbackLog log, CancellationToken cancellation)
    {
        if (app.Ensemble?.Policy is not { Chooses: true } policy) throw new FormatException($"app '{app.Name}' has no policy that chooses (exp3, epsilon_greedy, thompson): there are no decisions to judge another by");
        var decisions = new DecisionLog(app.Document.Ensemble!.Members.Count);
        var seen = new HashSet<string>();
        foreach (var kept in (await log.ReadAsync(app.Tenant, app.Name, cancellation)).Entries) Add(kept);
        // A policy that goes by contexts has its feedback there.
        var owner = policy.Per == PolicyPer.Context ? UserKey.OfContext(app.Tenant, app.Name, "").App : app.Name;
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(app.Tenant, owner), cancellation)) Add(kept);
        return decisions;

        void Add(KeptFeedback kept)
        {
            // Late is not wrong: the decision was made all the same.
            if (kept.Accepted.Message is not { Members: { } members, Propensity: { } propensity, Label: { } label } message || kept.Accepted.IsQuarantined) return;
            if (policy.Look(members, label) is not var (member, isRight) || !seen.Add(message.FeedbackId)) return;
            decisions._actions.Add(member);
            decisions._logged.Add(propensity);
            decisions._rewards.Add(isRight ? 1 : 0);
        }
    }

    /// <summary>What a policy would have earned that chooses each of the K with a fixed probability: by inverse propensity, self-normalised, and doubly robust with a cross-fitted mean for each.</summary>
    /// <param name="target">π, K.</param>
    /// <exception cref="NoOverlapException">It does too much that was not logged.</exception>
    public (PolicyValue Ips, PolicyValue Snips, PolicyValue DoublyRobust) Judge(IReadOnlyList<double> target)
    {
        double[] rewards = [.. _rewards], logged = [.. _logged], taken = [.. _actions.Select(action => target[action])];
        var ones = new float[Count];
        ones.AsSpan().Fill(1);
        var predicted = RewardModel.CrossFit(ones, _actions.ToArray(), rewards, Arms, ridge: 1);
        double[] direct = [.. Enumerable.Range(0, Count).Select(i => Enumerable.Range(0, Arms).Sum(arm => target[arm] * predicted[i * Arms + arm]))];
        double[] own = [.. Enumerable.Range(0, Count).Select(i => predicted[i * Arms + _actions[i]])];
        return (OffPolicy.Ips(rewards, logged, taken), OffPolicy.Snips(rewards, logged, taken), OffPolicy.DoublyRobust(rewards, logged, taken, direct, own));
    }
}
