namespace Skiff.Serving;

/// <summary>What was answered and why, as far as feedback will need it.</summary>
public sealed record Decision
{
    public required string Tenant { get; init; }
    public required string App { get; init; }
    public required int AppVersion { get; init; }

    /// <summary>Empty when the request named nobody.</summary>
    public required string User { get; init; }

    /// <summary>The label that was answered, -1 for none.</summary>
    public required int Label { get; init; }

    /// <summary>The probability with which the policy chose this answer.</summary>
    public float Propensity { get; init; } = 1;

    public int FeaturesVersion { get; init; }
    public int PriorVersion { get; init; }

    /// <summary>φ, d.</summary>
    public float[] Features { get; init; } = [];

    /// <summary>What the global models said, K; empty for nothing.</summary>
    public float[] Base { get; init; } = [];

    /// <summary>Whose policy answered, where it goes by contexts; empty for none.</summary>
    public string Context { get; init; } = "";

    /// <summary>What an ensemble's members said, as its policy keeps it; empty without a policy.</summary>
    public byte[] Members { get; init; } = [];

    /// <summary>When it was made; null in ids of an earlier version of this program.</summary>
    public DateTimeOffset? Made { get; init; }

    /// <summary>Until when feedback counts, where silence is feedback after that; null where it says nothing.</summary>
    public DateTimeOffset? Due { get; init; }

    public required DateTimeOffset Expires { get; init; }
}
