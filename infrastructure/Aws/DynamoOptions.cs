namespace Skiff.Aws;

/// <summary>How patient we are with DynamoDB, and how long it keeps accepted feedback.</summary>
public sealed record DynamoOptions
{
    public static DynamoOptions Default { get; } = new();

    /// <summary>What one attempt may take, the answer's body included. A call takes at most (this + <see cref="LongestDelay"/>) × <see cref="MostAttempts"/>.</summary>
    public TimeSpan AttemptTimeout { get; init; } = TimeSpan.FromSeconds(2);

    public int MostAttempts { get; init; } = 8;

    /// <summary>The wait before attempt n + 1 is drawn evenly from zero to this × 2ⁿ⁻¹ ("full jitter"), so that those who were refused together don't come back together.</summary>
    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromMilliseconds(25);

    public TimeSpan LongestDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>
    /// How long accepted feedback is kept, and with it how late a second delivery is still noticed. A queue keeps a message 14 days at most and its dead-letter queue as long again.
    /// </summary>
    public TimeSpan FeedbackHorizon { get; init; } = TimeSpan.FromDays(30);

    /// <summary>Whether predictions, too, read consistently: they then see every commit that was acknowledged before, and cost twice. Learning always does.</summary>
    public bool ConsistentPredictions { get; init; }

    /// <exception cref="ArgumentException">A setting is out of its range.</exception>
    internal DynamoOptions Validated()
    {
        Require(AttemptTimeout > TimeSpan.Zero, nameof(AttemptTimeout), AttemptTimeout, "more than zero");
        Require(MostAttempts > 0, nameof(MostAttempts), MostAttempts, "at least 1");
        Require(FirstDelay > TimeSpan.Zero, nameof(FirstDelay), FirstDelay, "more than zero");
        Require(LongestDelay >= FirstDelay, nameof(LongestDelay), LongestDelay, $"{nameof(FirstDelay)} or more");
        Require(FeedbackHorizon >= TimeSpan.FromDays(1), nameof(FeedbackHorizon), FeedbackHorizon, "a day or more");
        return this;
    }

    private static void Require(bool holds, string setting, object value, string allowed)
    {
        if (!holds) throw new ArgumentException($"{setting} is {value}: it takes {allowed}");
    }
}
