namespace Skiff.Ranking;

/// <summary>What happened to an event.</summary>
public enum EventKind
{
    /// <summary>It began: actions were ranked.</summary>
    Ranked,

    /// <summary>What was ranked has been shown, after all.</summary>
    Activated,

    Rewarded,

    /// <summary>Time passed in which nobody else said anything, and events may be due.</summary>
    Passed,
}

/// <summary>The part of a <see cref="Feedback.FeedbackMessage"/> that is about an app that ranks: all of an event's messages go to one shard, in order.</summary>
public sealed record RankMessage
{
    public required EventKind Kind { get; init; }

    public required int Shard { get; init; }

    /// <summary>Empty where time passed.</summary>
    public string Event { get; init; } = "";

    /// <summary>Of an event that begins: until when its reward is waited for.</summary>
    public DateTimeOffset? Due { get; init; }

    /// <summary>Of an event that begins: whether it counts only once it is activated.</summary>
    public bool Deferred { get; init; }

    /// <summary>Of an event that begins: whether the caller's own order was answered.</summary>
    public bool Apprentice { get; init; }

    /// <summary>Of an event that begins: what its features mean (<see cref="FeatureSpace.Id"/>).</summary>
    public uint Space { get; init; }

    /// <summary>Of an event that begins: what was chosen, in one place or in several.</summary>
    public IReadOnlyList<ChosenAction>? Chosen { get; init; }

    /// <summary>Of an event that is rewarded.</summary>
    public IReadOnlyList<SlotReward>? Rewards { get; init; }

    /// <summary>The shard that an event lies in, the same in every process.</summary>
    public static int ShardOf(string id, int shards) => (int)(VowpalHash.Murmur(System.Text.Encoding.UTF8.GetBytes(id), 0) % (uint)shards);
}

/// <param name="Slot">Empty where there is only one.</param>
/// <param name="Features">φ(x, a), as <see cref="SparseVector"/> writes it.</param>
/// <param name="Propensity">The probability with which it was chosen.</param>
/// <param name="Difference">As an apprentice: φ of it less φ of another action that was not chosen; null where there was no other.</param>
/// <param name="Agreed">As an apprentice: whether the model would have chosen it too.</param>
/// <param name="Candidates">Among what it was chosen (<see cref="LoggedCandidates"/>); null in events of before.</param>
public sealed record ChosenAction(string Slot, string Action, byte[] Features, double Propensity, byte[]? Difference = null, bool? Agreed = null, byte[]? Candidates = null);

/// <param name="Slot">Empty where there is only one.</param>
public sealed record SlotReward(string Slot, double Value);
