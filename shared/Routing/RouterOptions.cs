namespace Skiff.Routing;

/// <summary>How requests are spread over replicas, and what is done about those that fail or are late.</summary>
public sealed record RouterOptions
{
    /// <summary>ε: a replica gets at most 1 + ε of the mean. Infinite for no bound.</summary>
    public double Slack { get; init; } = 0.2;

    /// <summary>Over how many requests a replica, on average, its share is counted. Counts are halved when twice as many have come.</summary>
    public int Window { get; init; } = 256;

    /// <summary>Requests above the bound that do no harm: among a handful a share says nothing.</summary>
    public int Grace { get; init; } = 4;

    /// <summary>Whether a replica that has the model is preferred to one that must load it first.</summary>
    public bool PrefersWarm { get; init; } = true;

    /// <summary>For how long what a replica said of its load counts.</summary>
    public TimeSpan ReportAge { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Whether one that is left out for being late is asked all the same where there is no other.</summary>
    public bool AsksLateOnes { get; init; }

    /// <summary>Whether slow replicas are tried with copies of requests, which may end after the request itself: for hosts that aren't frozen then. The others try them with requests.</summary>
    public bool TriesByCopies { get; init; } = true;

    /// <summary>Failures in a row that open a circuit; one that shows nobody listens opens it at once.</summary>
    public int Failures { get; init; } = 3;

    /// <summary>How long a circuit stays open at first. Twice as long each time that the trial fails, up to <see cref="LongestPause"/>.</summary>
    public TimeSpan Pause { get; init; } = TimeSpan.FromSeconds(0.5);

    public TimeSpan LongestPause { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Second attempts, by failure or lateness, as a share of requests.</summary>
    public double RetryShare { get; init; } = 0.1;

    /// <summary>Second attempts that are saved up at most, and had at the start.</summary>
    public int RetryReserve { get; init; } = 10;

    /// <summary>Attempts a request, the first one counted, and not the one that is made since another is late.</summary>
    public int Attempts { get; init; } = 3;

    /// <summary>A request that takes longer than this share of the others is late, and is asked of another replica too. 1 for never.</summary>
    public double HedgeQuantile { get; init; } = 0.95;

    /// <summary>Never sooner.</summary>
    public TimeSpan ShortestHedge { get; init; } = TimeSpan.FromMilliseconds(2);

    /// <summary>What is late while too little is known of the others; null for nothing.</summary>
    public TimeSpan? FirstHedge { get; init; }

    /// <exception cref="ArgumentException">One is out of its range.</exception>
    public RouterOptions Validate()
    {
        Require(Slack > 0, "Slack is above 0");
        Require(Window is >= 1 and <= 1 << 20, "Window is from 1 to 1,048,576");
        Require(Grace is >= 1 and <= 1 << 20, "Grace is from 1 to 1,048,576");
        Require(Failures >= 1, "Failures is at least 1");
        Require(Pause > TimeSpan.Zero && LongestPause >= Pause, "Pause is above 0 and at most LongestPause");
        Require(RetryShare is >= 0 and <= 1, "RetryShare is from 0 to 1");
        Require(RetryReserve is >= 0 and <= 1000, "RetryReserve is from 0 to 1,000");
        Require(Attempts is >= 1 and <= 10, "Attempts is from 1 to 10");
        Require(HedgeQuantile is >= 0.5 and <= 1, "HedgeQuantile is from 0.5 to 1");
        return this;

        static void Require(bool holds, string rule)
        {
            if (!holds) throw new ArgumentException(rule);
        }
    }
}
