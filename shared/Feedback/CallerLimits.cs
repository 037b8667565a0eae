using System.Collections.Concurrent;
using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>
/// How much each caller of an app has said lately, in this process: of several that learn, each counts for itself. What comes again, by a retry of the caller or of ours, counts once and has the verdict that it had. Not stored, unlike what a user has said: all of a caller's users
/// would meet at one item. The verdict is stored, with the feedback.
/// </summary>
internal sealed class CallerLimits
{
    private const int MostRemembered = 65_536;

    private readonly ConcurrentDictionary<(string Tenant, string App, string Caller), Bucket> _buckets = new();
    private readonly Dictionary<(string Tenant, string App, string FeedbackId), bool> _verdicts = [];
    private readonly Queue<(string, string, string)> _remembered = [];

    /// <returns>False for what is more than so much an hour.</returns>
    public bool TryTake(FeedbackMessage message, double perHour)
    {
        var id = (message.Tenant, message.App, message.FeedbackId);
        lock (_verdicts)
        {
            if (_verdicts.TryGetValue(id, out var verdict)) return verdict;
        }
        var bucket = _buckets.GetOrAdd((message.Tenant, message.App, message.Caller!), _ => new Bucket());
        bool isTaken;
        lock (bucket) isTaken = bucket.Said.TryTake(message.At, perHour);
        lock (_verdicts)
        {
            if (!_verdicts.TryAdd(id, isTaken)) return _verdicts[id];
            _remembered.Enqueue(id);
            if (_remembered.Count > MostRemembered) _verdicts.Remove(_remembered.Dequeue());
        }
        return isTaken;
    }

    private sealed class Bucket
    {
        public TokenBucket Said;
    }
}
