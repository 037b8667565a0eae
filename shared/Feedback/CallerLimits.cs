using System.Collections.Concurrent;
using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>
/// How much each caller of an app has said lately, in this process: of several that learn, each counts for itself, and what comes again counts again. Not stored, unlike what a user has said: all of a caller's users
/// would meet at one item. The verdict is stored, with the feedback.
/// </summary>
internal sealed class CallerLimits
{
    private readonly ConcurrentDictionary<(string Tenant, string App, string Caller), Bucket> _buckets = new();

    /// <returns>False for what is more than so much an hour.</returns>
    public bool TryTake(FeedbackMessage message, double perHour)
    {
        var bucket = _buckets.GetOrAdd((message.Tenant, message.App, message.Caller!), _ => new Bucket());
        lock (bucket) return bucket.Said.TryTake(message.At, perHour);
    }

    private sealed class Bucket
    {
        public TokenBucket Said;
    }
}
