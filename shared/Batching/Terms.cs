using Skiff.Cascades;
using Skiff.Routing;

namespace Skiff.Batching;

/// <summary>On what terms a request is run: until when, before whom, and how hard pressed its app is.</summary>
/// <param name="Deadline">A timestamp after which nothing is begun for it; <see cref="long.MaxValue"/> for none.</param>
/// <param name="Priority">One of <see cref="Priorities"/>.</param>
/// <param name="Pressure">Of its app; null where nothing is dimmed.</param>
/// <param name="Trace">What it is part of, for whoever is asked elsewhere for its sake; null for none.</param>
public readonly record struct Terms(long Deadline, int Priority = Priorities.Normal, Pressure? Pressure = null, TraceParent? Trace = null)
{
    /// <summary>As long as it takes.</summary>
    public static Terms Patient => long.MaxValue;

    public static implicit operator Terms(long deadline) => new(deadline);
}

/// <summary>Levels of priority: 1 comes first, 5 last.</summary>
public static class Priorities
{
    public const int Highest = 1;
    public const int Normal = 3;
    public const int Lowest = 5;

    /// <param name="given">As a request says it; 0 for <see cref="Normal"/>.</param>
    /// <exception cref="RequestException">There is no such level.</exception>
    public static int Check(long given) => given switch
    {
        0 => Normal,
        >= Highest and <= Lowest => (int)given,
        _ => throw RequestException.Invalid($"'priority' is {given}: it takes {Highest}, which comes first, to {Lowest}, or 0 for {Normal}"),
    };
}
