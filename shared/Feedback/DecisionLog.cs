using Skiff.Apps;
using Skiff.Ensembles;
using Skiff.Feedback.Log;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Feedback;

/// <summary>A decision that another policy can be judged on.</summary>
/// <param name="Arms">What there was to choose from, in the caller's order, by numbers that the log gives.</param>
/// <param name="Chosen">The place of the choice among them.</param>
/// <param name="Propensity">With which it was chosen.</param>
/// <param name="Propensities">All of p; null where only that of the choice was kept.</param>
public sealed record LoggedDecision(int[] Arms, int Chosen, double Propensity, double[]? Propensities, double Reward);

/// <summary>An app's decisions as feedback has come back on them: what was chosen, among what, with what probability, and what that earned. What other policies are judged on (<see cref="OffPolicy"/>).</summary>
public sealed class DecisionLog
{
    private readonly List<LoggedDecision> _decisions = [];
    private readonly List<string?> _names = [];

    private DecisionLog()
    {
    }

    public int Count => _decisions.Count;

    /// <summary>The names of the arms; null for an action that never was chosen, of which only a hash was kept.</summary>
    public IReadOnlyList<string?> Arms => _names;

    /// <summary>What was earned, on average.</summary>
    public double Value => _decisions.Average(decision => decision.Reward);

    /// <summary>Each with the same probability.</summary>
    public static double[] Evenly(LoggedDecision decision) => [.. decision.Arms.Select(_ => 1.0 / decision.Arms.Length)];

    /// <summary>Always what the caller put first.</summary>
    public static double[] First(LoggedDecision decision) => [.. decision.Arms.Select((_, place) => place == 0 ? 1.0 : 0)];

    /// <summary>What the app's policy held for best then, without exploring; ties share alike. It takes all of p.</summary>
    public static double[] Best(LoggedDecision decision)
    {
        var best = decision.Propensities!.Max();
        var ties = decision.Propensities!.Count(p => p == best);
        return [.. decision.Propensities!.Select(p => p == best ? 1.0 / ties : 0)];
    }

    /// <summary>Always one arm.</summary>
    public static Func<LoggedDecision, double[]> Always(int arm) => decision => [.. decision.Arms.Select(one => one == arm ? 1.0 : 0)];

    /// <summary>How often an arm was chosen.</summary>
    public int Chosen(int arm) => _decisions.Count(decision => decision.Arms[decision.Chosen] == arm);

    /// <summary>The decisions in which an arm could be chosen: only they say anything of a policy that always does.</summary>
    public DecisionLog With(int arm)
    {
        var some = new DecisionLog();
        some._names.AddRange(_names);
        some._decisions.AddRange(_decisions.Where(decision => decision.Arms.Contains(arm)));
        return some;
    }

    /// <summary>What is in the app's log and what the state store still has, each feedback once.</summary>
    /// <param name="now">Events whose time is not over by then are left out.</param>
    /// <exception cref="FormatException">The app makes no decisions that another policy could be judged on; the message says why.</exception>
    public static async Task<DecisionLog> ReadAsync(App app, IStateStore state, FeedbackLog log, DateTimeOffset now, CancellationToken cancellation)
    {
        const string takes = "It takes an ensemble whose policy chooses (exp3, epsilon_greedy, thompson), or an app that ranks";
        var decisions = new DecisionLog();
        switch (app)
        {
            case { Document.Rank: { Mode: RankMode.Apprentice } }:
                throw new FormatException($"app '{app.Name}' is an apprentice: it does what its caller would, always, so nothing was tried that another policy could be judged by");
            case { Document.Rank: { } rank }:
                decisions.AddEvents(rank, await log.ReadWithStateAsync(app.Tenant, app.Name, UserKey.OfShard("", app.Name, 0).App, cancellation), now);
                break;
            case { Ensemble.Policy: { Chooses: true } policy }:
                // A policy that goes by contexts has its feedback there.
                var part = policy.Per == PolicyPer.Context ? UserKey.OfContext("", app.Name, "").App : app.Name;
                decisions._names.AddRange(app.Document.Ensemble!.Members);
                foreach (var kept in await log.ReadWithStateAsync(app.Tenant, app.Name, part, cancellation)) decisions.Add(policy, kept.Accepted);
                break;
            case { Ensemble.Policy: not null }:
                throw new FormatException($"app '{app.Name}' weights all its members (exp4): none is chosen, so there is no choice to judge another policy by. {takes}");
            default:
                throw new FormatException($"app '{app.Name}' has no policy that chooses: it always answers what it holds for best, so nothing was tried that another policy could be judged by. {takes}");
        }
        return decisions;
    }

    /// <summary>What a policy would have earned: by inverse propensity, self-normalised, and doubly robust with a cross-fitted mean for each arm.</summary>
    /// <param name="policy">π over what a decision could choose from.</param>
    /// <exception cref="NoOverlapException">It does too much that was not logged.</exception>
    public (PolicyValue Ips, PolicyValue Snips, PolicyValue DoublyRobust) Judge(Func<LoggedDecision, double[]> policy)
    {
        double[][] target = [.. _decisions.Select(policy)];
        double[] rewards = [.. _decisions.Select(decision => decision.Reward)], logged = [.. _decisions.Select(decision => decision.Propensity)];
        double[] taken = [.. _decisions.Select((decision, i) => target[i][decision.Chosen])];
        var means = new CrossFittedMeans(_decisions, _names.Count);
        double[] direct = [.. _decisions.Select((decision, i) => decision.Arms.Select((arm, place) => target[i][place] == 0 ? 0 : target[i][place] * means.Of(i, arm)).Sum())];
        double[] own = [.. _decisions.Select((decision, i) => means.Of(i, decision.Arms[decision.Chosen]))];
        return (OffPolicy.Ips(rewards, logged, taken), OffPolicy.Snips(rewards, logged, taken), OffPolicy.DoublyRobust(rewards, logged, taken, direct, own));
    }

    private void Add(EnsemblePolicy policy, AcceptedFeedback accepted)
    {
        // Late is not wrong: the decision was made all the same.
        if (accepted.Message is not { Members: { } members, Propensity: { } propensity, Label: { } label } || accepted.IsQuarantined) return;
        if (policy.Look(members, label) is not var (member, isRight)) return;
        _decisions.Add(new LoggedDecision([.. Enumerable.Range(0, _names.Count)], member, propensity, null, isRight ? 1 : 0));
    }

    /// <summary>Events that were shown and whose reward is settled, by what came in time or by the default.</summary>
    private void AddEvents(RankDocument rank, IReadOnlyList<KeptFeedback> history, DateTimeOffset now)
    {
        var events = new Dictionary<string, (FeedbackMessage Began, bool IsActive, Dictionary<string, double> Rewards)>();
        foreach (var message in history.Where(kept => kept.Accepted.Message.Rank is { Event.Length: > 0 }).OrderBy(kept => kept.Accepted.Message.At).Select(kept => kept.Accepted.Message))
        {
            var said = message.Rank!;
            if (said.Kind == EventKind.Ranked) events.TryAdd(said.Event, (message, !said.Deferred, []));
            if (!events.TryGetValue(said.Event, out var known) || message.At >= known.Began.Rank!.Due) continue;
            if (said.Kind == EventKind.Activated) events[said.Event] = known with { IsActive = true };
            foreach (var reward in said.Rewards ?? [])
            {
                var before = known.Rewards.GetValueOrDefault(reward.Slot);
                if (rank.Aggregation == RewardAggregation.Sum || !known.Rewards.ContainsKey(reward.Slot)) known.Rewards[reward.Slot] = before + reward.Value;
            }
        }
        var arms = new Dictionary<uint, int>();
        foreach (var (began, isActive, rewards) in events.Values)
        {
            // One that still waits would count only if it had been rewarded already.
            if (!isActive || began.Rank!.Apprentice || began.Rank.Due > now) continue;
            foreach (var place in began.Rank.Chosen ?? [])
            {
                if (place.Candidates is null) continue;
                var (ids, propensities) = LoggedCandidates.Read(place.Candidates);
                var chosen = LoggedCandidates.HashOf(place.Action);
                int[] numbers = [.. ids.Select(NumberOf)];
                _names[NumberOf(chosen)] = place.Action;
                _decisions.Add(new LoggedDecision(numbers, Array.IndexOf(ids, chosen), place.Propensity, propensities, rewards.TryGetValue(place.Slot, out var reward) ? reward : rank.DefaultReward));
            }
        }

        int NumberOf(uint id)
        {
            if (arms.TryGetValue(id, out var number)) return number;
            _names.Add(null);
            return arms[id] = _names.Count - 1;
        }
    }

    /// <summary>q̂(a): an arm's mean reward over the decisions of the other folds, drawn towards 0 by one decision, so that no decision is judged by a mean that has seen it.</summary>
    private sealed class CrossFittedMeans
    {
        private const int Folds = 5;

        private readonly double[] _sums;
        private readonly double[] _counts;
        private readonly int _arms;

        public CrossFittedMeans(IReadOnlyList<LoggedDecision> decisions, int arms)
        {
            (_arms, _sums, _counts) = (arms, new double[Folds * arms], new double[Folds * arms]);
            for (var i = 0; i < decisions.Count; i++)
            {
                for (var fold = 0; fold < Folds; fold++)
                {
                    if (i % Folds == fold) continue;
                    var at = fold * arms + decisions[i].Arms[decisions[i].Chosen];
                    _sums[at] += decisions[i].Reward;
                    _counts[at]++;
                }
            }
        }

        public double Of(int decision, int arm) => _sums[decision % Folds * _arms + arm] / (_counts[decision % Folds * _arms + arm] + 1);
    }
}
