namespace Skiff.Planning.Simulation;

/// <summary>How a tier chooses the instance that answers.</summary>
public enum Placement
{
    Random,
    RoundRobin,

    /// <summary>Fewest requests; of several, one by chance.</summary>
    LeastLoaded,

    /// <summary>The router without its bound.</summary>
    Hash,

    /// <summary>The router.</summary>
    Bounded,

    /// <summary>The router, to where the model is loaded.</summary>
    Warm,

    /// <summary>What a function platform does by itself: the idle instance that was used last, else a new one, else the requests wait in one line.</summary>
    Platform,
}

public enum ServiceTime
{
    Constant,
    Exponential,
}

/// <summary>Instances of one kind. Times are seconds.</summary>
public sealed record TierOptions
{
    public const int MostInstances = 65_535;
    private const double MostSeconds = 86_400;

    public int Instances { get; init; } = 8;
    public Placement Placement { get; init; } = Placement.Bounded;

    /// <summary>Route by the model rather than by the user.</summary>
    public bool ByModel { get; init; }

    /// <summary>ε of the router's bound.</summary>
    public double Slack { get; init; } = 0.2;

    /// <summary>Requests that one instance runs at once; more wait there, first come first served.</summary>
    public int Concurrency { get; init; } = 1;

    public ServiceTime Distribution { get; init; } = ServiceTime.Exponential;

    /// <summary>Mean time of a request that finds everything in memory.</summary>
    public double Service { get; init; } = 0.01;

    /// <summary>More for a user whose state is not here.</summary>
    public double Miss { get; init; }

    /// <summary>More for a model that is not loaded here.</summary>
    public double Load { get; init; }

    /// <summary>More where the instance must start first.</summary>
    public double ColdStart { get; init; }

    /// <summary>How long an idle instance lives; infinite for one that is always there.</summary>
    public double KeepAlive { get; init; } = double.PositiveInfinity;

    /// <summary>Instances that live whatever happens, and are started before the first request.</summary>
    public int Provisioned { get; init; }

    /// <summary>Users that an instance keeps, least recently used out first; 0 for none, so that each request misses.</summary>
    public int CachedUsers { get; init; }

    /// <summary>Models that an instance keeps loaded, likewise.</summary>
    public int LoadedModels { get; init; } = 1;

    /// <summary>What the router knows the instances by, to make the choices of a real run; null for names of their own.</summary>
    internal IReadOnlyList<Uri>? Addresses { get; init; }

    /// <exception cref="ArgumentException">One is out of its range.</exception>
    public void Validate(string tier)
    {
        Require(Instances is >= 1 and <= MostInstances, $"instances are from 1 to {MostInstances:N0}");
        Require(Slack > 0, "slack is above 0");
        Require(Concurrency is >= 1 and <= 10_000, "concurrency is from 1 to 10,000");
        Require(Service is > 0 and <= MostSeconds, "service time is above 0 and at most a day");
        Require(Miss is >= 0 and <= MostSeconds && Load is >= 0 and <= MostSeconds && ColdStart is >= 0 and <= MostSeconds, "times of misses, loads and cold starts are from 0 to a day");
        Require(KeepAlive >= 0, "keep-alive is at least 0");
        Require(Provisioned >= 0 && Provisioned <= Instances, "provisioned instances are from 0 to all");
        Require(CachedUsers is >= 0 and <= 1 << 24, "cached users are from 0 to 16,777,216");
        Require((long)CachedUsers * Instances <= 1 << 28, "cached users of all instances together are at most 268,435,456");
        Require(LoadedModels is >= 1 and <= 1024, "loaded models are from 1 to 1,024");

        void Require(bool holds, string rule)
        {
            if (!holds) throw new ArgumentException($"{tier}: {rule}");
        }
    }
}

/// <summary>A run: a tier that gets every request, and one behind it for those that the first declines.</summary>
public sealed record SimulationOptions
{
    public required TierOptions Front { get; init; }

    /// <summary>Null for none.</summary>
    public TierOptions? Heavy { get; init; }

    /// <summary>Share of requests that go on to the heavy tier.</summary>
    public double Escalated { get; init; }

    /// <summary>Share of the requests, the first ones, that fill caches and are not counted.</summary>
    public double WarmUp { get; init; } = 0.1;

    public ulong Seed { get; init; } = 1;

    /// <exception cref="ArgumentException">Something is out of its range.</exception>
    public void Validate()
    {
        Front.Validate("front tier");
        Heavy?.Validate("heavy tier");
        if (Escalated is not (>= 0 and <= 1)) throw new ArgumentException("the share of requests that go on is from 0 to 1");
        if (Escalated > 0 && Heavy is null) throw new ArgumentException("requests that go on need a heavy tier");
        if (WarmUp is not (>= 0 and < 1)) throw new ArgumentException("the warm-up is a share from 0 to below 1");
    }
}
