using Microsoft.AspNetCore.Http;
using Skiff.Routing;

namespace Skiff.Serving;

/// <summary>
/// When an answer is due: at the nearest of the app's objective and what the caller says, in milliseconds or microseconds from the request's arrival. After it nothing is begun; what is under way may end.
/// </summary>
internal static class Deadline
{
    /// <param name="arrived">When the request arrived; this and what is returned are timestamps of <paramref name="time"/>.</param>
    /// <param name="objective">Of the app, where it counts.</param>
    /// <param name="milliseconds"><c>deadline_ms</c>; null for none.</param>
    /// <param name="microseconds"><c>timeout</c>; 0 for none.</param>
    /// <returns><see cref="long.MaxValue"/> where nobody asks for anything.</returns>
    public static long Of(long arrived, TimeSpan? objective, double? milliseconds, long microseconds, TimeProvider time)
    {
        var nearest = objective is { } span ? After(arrived, span.TotalSeconds, time) : long.MaxValue;
        if (milliseconds is { } ms) nearest = Math.Min(nearest, After(arrived, ms / 1e3, time));
        return microseconds > 0 ? Math.Min(nearest, After(arrived, microseconds / 1e6, time)) : nearest;
    }

    /// <summary>The nearer of what a body says and what whoever passed the request on has left, which it says in a header.</summary>
    /// <param name="milliseconds"><c>deadline_ms</c>; null for none.</param>
    public static double? Nearest(double? milliseconds, HttpRequest request)
    {
        var left = ReplicaClient.TimeLeft(request)?.TotalMilliseconds;
        return milliseconds is { } own && left is { } others ? Math.Min(own, others) : milliseconds ?? left;
    }

    /// <param name="microseconds"><c>timeout</c>; 0 for none.</param>
    public static long Nearest(long microseconds, HttpRequest request)
    {
        // 0 means none: who has nothing left says the least that is something.
        if (ReplicaClient.TimeLeft(request) is not { } left) return microseconds;
        var others = Math.Max(1, (long)left.TotalMicroseconds);
        return microseconds > 0 ? Math.Min(microseconds, others) : others;
    }

    private static long After(long start, double seconds, TimeProvider time)
    {
        var at = start + seconds * time.TimestampFrequency;
        return at < long.MaxValue ? (long)at : long.MaxValue;
    }
}
