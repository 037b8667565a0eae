namespace Skiff.Ranking;

/// <summary>What a caller wants ranked, in neutral form.</summary>
public sealed class RankRequest
{
    public const int MostActions = 50;
    public const int LongestId = 256;

    internal FeatureReader Context { get; set; } = new();

    public List<RankAction> Actions { get; } = [];

    /// <summary>Actions that are not to be chosen.</summary>
    public List<string> Excluded { get; } = [];

    /// <summary>Whose event it is, for export and erasure; what is learnt is everybody's. Null for nobody's.</summary>
    public string? User { get; set; }

    /// <summary>Null for an id of ours.</summary>
    public string? EventId { get; set; }

    /// <summary>Whether the event counts only once it is activated.</summary>
    public bool Defers { get; set; }

    /// <summary>Places that are filled one after another, each with another action; none for one place.</summary>
    public List<RankSlot> Slots { get; } = [];
}

/// <summary>What may be chosen.</summary>
public sealed record RankAction(string Id)
{
    internal FeatureReader Features { get; } = new();
}

/// <summary>A place that an action is chosen for.</summary>
public sealed record RankSlot(string Id)
{
    internal FeatureReader Features { get; } = new();

    public List<string> Excluded { get; } = [];

    /// <summary>What the caller would have chosen.</summary>
    public string? Baseline { get; set; }
}

/// <param name="Probability">With which it was to be chosen.</param>
public readonly record struct RankedAction(string Id, double Probability);

/// <param name="Slot">Empty where there is only one.</param>
/// <param name="Ranking">The chosen action first, then by probability; what was excluded stands where the caller put it.</param>
public sealed record SlotDecision(string Slot, string Chosen, IReadOnlyList<RankedAction> Ranking);

public sealed record RankDecision(string EventId, IReadOnlyList<SlotDecision> Slots);
