using System.Collections.Concurrent;
using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>
/// Who has feedback under way in this process, so that the next prediction of that user can wait for it, the moment that learning takes: you read your own writes.
/// Across processes there is no such promise.
/// </summary>
public sealed class PendingFeedback
{
    private readonly ConcurrentDictionary<UserKey, Entry> _users = new();

    public void Add(FeedbackMessage message)
    {
        var user = message.Owner;
        while (true)
        {
            var entry = _users.GetOrAdd(user, _ => new Entry());
            lock (entry)
            {
                if (entry.IsGone) continue;
                entry.Ids[message.FeedbackId] = entry.Ids.GetValueOrDefault(message.FeedbackId) + 1;
                return;
            }
        }
    }

    /// <summary>A message that was not added, left over from an earlier process, ends nobody's wait.</summary>
    public void Remove(FeedbackMessage message)
    {
        var user = message.Owner;
        if (!_users.TryGetValue(user, out var entry)) return;
        lock (entry)
        {
            if (entry.IsGone || !entry.Ids.TryGetValue(message.FeedbackId, out var count)) return;
            if (count > 1) entry.Ids[message.FeedbackId] = count - 1;
            else entry.Ids.Remove(message.FeedbackId);
            if (entry.Ids.Count > 0) return;
            entry.IsGone = true;
            _users.TryRemove(user, out _);
        }
        entry.Done.TrySetResult();
    }

    /// <summary>Waits until nothing of a user is under way, or for a while.</summary>
    public async ValueTask WaitAsync(UserKey user, TimeSpan atMost, TimeProvider time, CancellationToken cancellation)
    {
        if (!_users.TryGetValue(user, out var entry)) return;
        try
        {
            await entry.Done.Task.WaitAsync(atMost, time, cancellation);
        }
        catch (TimeoutException)
        {
            // The answer is then a little behind, which is better than late.
        }
    }

    private sealed class Entry
    {
        public readonly TaskCompletionSource Done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        public readonly Dictionary<string, int> Ids = [];
        public bool IsGone;
    }
}
