using System.Xml;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Apps;

/// <summary>Who chooses.</summary>
public enum RankMode
{
    /// <summary>The policy.</summary>
    Online,

    /// <summary>The caller, whose first action is answered; the model learns to choose as he does.</summary>
    Apprentice,
}

/// <summary>What several rewards of one event come to.</summary>
public enum RewardAggregation
{
    /// <summary>The first counts, and is learnt at once.</summary>
    Earliest,

    /// <summary>Their sum, learnt when the event's time is over.</summary>
    Sum,
}

/// <summary>An app that ranks actions by what it has learnt from rewards.</summary>
public sealed record RankDocument
{
    public static readonly TimeSpan ShortestWait = TimeSpan.FromSeconds(5), LongestWait = TimeSpan.FromDays(2);

    public RankPolicyDocument Policy { get; set; } = new();

    public RankMode Mode { get; set; }

    /// <summary>φ has 2^bits numbers. DynamoDB's items hold 15.</summary>
    public int Bits { get; set; } = 14;

    /// <summary>Pairs of namespaces whose features are crossed; <c>context</c> and <c>action</c> stand for all of either side.</summary>
    public IReadOnlyList<IReadOnlyList<string>> Interactions { get; set; } = [["context", "action"]];

    /// <summary>Whether an action's id is a feature of it, so that actions without others are told apart.</summary>
    public bool ActionIds { get; set; } = true;

    /// <summary>κ in P₀ = I/κ: how slowly a first reward is believed.</summary>
    public double PriorStrength { get; set; } = 0.1;

    /// <summary>How long an event's reward is waited for, an ISO 8601 duration.</summary>
    public string RewardWait { get; set; } = "PT10M";

    /// <summary>What an event is worth that nobody rewarded.</summary>
    public double DefaultReward { get; set; }

    public RewardAggregation Aggregation { get; set; }

    /// <summary>Over how many items the state is spread, so that none is hot. Fixed by an app's first version: what was learnt and what waits for its reward lies by it.</summary>
    public int Shards { get; set; } = 4;

    /// <summary>Azure Personalizer's, for its clients to read back: here a model is used as soon as it has learnt.</summary>
    public string ModelExport { get; set; } = "PT5M";

    /// <summary>Azure Personalizer's, for its clients to read back: how long feedback is kept is the store's setting.</summary>
    public int LogRetentionDays { get; set; } = 90;

    internal TimeSpan Wait => XmlConvert.ToTimeSpan(RewardWait);

    internal void Validate(AppDocument app)
    {
        AppDocument.Require(app.Cascade.Count == 0 && app.Ensemble is null && app.Head is null && app.Labels.Count == 0 && app.Input is null && !app.Cache.IsOn && app.Default is { Label: null, Output: null },
            "an app with 'rank' is made of that alone: leave 'input', 'labels', 'cascade', 'ensemble', 'head', 'cache' and 'default' out");
        AppDocument.Require(app.Feedback is null, "'feedback' is for apps that predict: in one that ranks, 'rank.reward_wait' and 'rank.default_reward' say what silence means");
        AppDocument.Require(Bits is >= 4 and <= 18, $"'rank.bits' is {Bits}: it takes 4 to 18");
        AppDocument.Require(Interactions.All(pair => pair is { Count: 2 } && pair.All(name => name is not null)), "'rank.interactions' takes pairs of namespaces, [[\"context\",\"action\"]]");
        AppDocument.Require(Interactions.Count <= 100, $"'rank.interactions' has {Interactions.Count} pairs: it takes at most 100");
        AppDocument.Require(PriorStrength is > 0 and <= 1e6, $"'rank.prior_strength' is {PriorStrength}: it takes a positive number up to 1000000");
        AppDocument.Require(DefaultReward is >= -1 and <= 1, $"'rank.default_reward' is {DefaultReward}: it takes -1 to 1");
        AppDocument.Require(Shards is >= 1 and <= 64, $"'rank.shards' is {Shards}: it takes 1 to 64");
        AppDocument.Require(TryReadWait(RewardWait, out _), $"'rank.reward_wait' is '{RewardWait}': it takes a duration such as \"PT10M\", from 5 seconds to 2 days");
        _ = Policy.Create();
    }

    internal FeatureSpace CreateSpace() => new(Bits, [.. Interactions.Select(pair => (pair[0], pair[1]))], ActionIds, PriorStrength);

    private static bool TryReadWait(string text, out TimeSpan wait)
    {
        try
        {
            wait = XmlConvert.ToTimeSpan(text);
        }
        catch (Exception e) when (e is FormatException or OverflowException)
        {
            wait = default;
        }
        return wait >= ShortestWait && wait <= LongestWait;
    }
}

/// <summary>How an app that ranks explores; constants that are left out have the policy's own defaults, ε the old service's.</summary>
public sealed record RankPolicyDocument
{
    /// <summary>In a million, in place of an ε of 0: what is never tried is never learnt, and nothing can be judged on what was logged.</summary>
    private const double LeastEpsilon = 1e-6;

    public ExplorationKind Kind { get; set; } = ExplorationKind.EpsilonGreedy;

    /// <summary>The part of the choices that is spread evenly; 0 is taken as one in a million.</summary>
    public double Epsilon { get; set; } = 0.2;

    /// <summary>Of LinUCB and Thompson: deviations of optimism.</summary>
    public double? Alpha { get; set; }

    /// <summary>Of Thompson: over how many draws its propensities are counted.</summary>
    public int? Draws { get; set; }

    /// <exception cref="FormatException">A constant is out of its range.</exception>
    internal Exploration Create()
    {
        AppDocument.Require(Alpha is null || Kind != ExplorationKind.EpsilonGreedy, "'rank.policy.alpha' is no constant of epsilon_greedy: leave it out");
        AppDocument.Require(Draws is null || Kind == ExplorationKind.Thompson, "'rank.policy.draws' is a constant of thompson: leave it out");
        AppDocument.Require(Epsilon is >= 0 and <= 1, $"'rank.policy.epsilon' is {Epsilon}: it takes 0 to 1");
        try
        {
            var policy = new Exploration { Kind = Kind, Epsilon = Math.Max(Epsilon, LeastEpsilon) };
            return policy with { Alpha = Alpha ?? policy.Alpha, Draws = Draws ?? policy.Draws };
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new FormatException($"a constant of 'rank.policy' is {e.ActualValue}: {e.Message.Split(" (Parameter")[0]}", e);
        }
    }
}
