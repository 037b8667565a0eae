using System.Security.Cryptography;
using System.Text;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Store;

namespace Skiff.Feedback;

/// <summary>Marks feedback that nobody has given yet: it is what a decision's silence will have said.</summary>
/// <param name="Shard">Where it waits.</param>
/// <param name="Due">Until when somebody may say something else.</param>
public sealed record Silence(int Shard, DateTimeOffset Due);

/// <summary>
/// Silence as feedback. A decision's message, complete, waits among the events of a shard. When it is due it goes into the queue like any other, behind all that its user has said till then, and under the same feedback id as the
/// user's own word would have: of the two the first counts. So nothing here needs to happen once: begun or sent a second time it is known by its id.
/// </summary>
/// <remarks>Over several shards, so that no item is hot; apart from the users, or nobody could find what is due.</remarks>
public static class ImplicitFeedback
{
    private const int Shards = 4;
    private const int MostAttempts = 10;
    private const int MostBytesAtOnce = 1 << 20;

    // Of one length, as that is what is taken off again. The head's message and the policy's may wait in one shard.
    private const string OfUser = "silence-u:", OfContext = "silence-c:";

    /// <summary>For feedback that was accepted in time, by a clock that is a little behind, and is not in the queue yet.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(1);

    /// <summary>What is to be sent when a decision is made.</summary>
    /// <param name="message">As feedback on it will be.</param>
    public static FeedbackMessage Waiting(FeedbackMessage message, DateTimeOffset due) => message with
    {
        FeedbackId = (message.Context is null ? OfUser : OfContext) + message.FeedbackId,
        Implicit = true,
        Silence = new Silence(RankMessage.ShardOf(message.Owner.User, Shards), due),
    };

    /// <summary>Has those that wait for it begin, but for those of users who were erased after their decision.</summary>
    /// <returns>The other messages.</returns>
    /// <exception cref="StoreException">They can't be kept: try again.</exception>
    internal static async Task<IReadOnlyList<FeedbackMessage>> BeginAsync(IReadOnlyList<FeedbackMessage> messages, IStateStore state, FeedbackStatistics statistics, CancellationToken cancellation)
    {
        if (!messages.Any(message => message.Silence is not null)) return messages;
        if (state is not IEventStore events) throw new StoreException("the state store keeps no events: nothing can wait there") { IsPermanent = true };
        foreach (var shard in messages.Where(message => message.Silence is not null).GroupBy(message => message.Owner))
        {
            var erased = await ErasedAsync(shard, state, cancellation);
            var begun = shard.Except(erased).ToList();
            var waiting = begun.Select(message => new WaitingEvent(IdOf(message.FeedbackId), message.Silence!.Due, 1, message.Serialize()) { User = message.Context is null ? message.User : null }).DistinctBy(one => one.Id);
            foreach (var some in Chunks(waiting, MostAtOnce(state))) await BeginAsync(shard.Key, some, state, events, cancellation);
            // Nor is a commit conditional on erasures: who was erased while it was made, or before it failed to be heard of, is found here.
            erased.AddRange(await ErasedAsync(begun, state, cancellation));
            statistics.Of(shard.Key.Tenant).AddErased(erased.Count);
            foreach (var ids in erased.Select(message => IdOf(message.FeedbackId)).Distinct().Chunk(MostAtOnce(state)))
            {
                await LetGoAsync(shard.Key, await events.ReadEventsAsync(shard.Key, ids, cancellation), state, cancellation);
            }
        }
        return [.. messages.Where(message => message.Silence is null)];
    }

    /// <summary>Sends what is due, and lets go of it.</summary>
    /// <returns>How many were sent.</returns>
    public static async Task<int> PassAsync(string tenant, string app, IStateStore state, IFeedbackQueue queue, TimeProvider time, CancellationToken cancellation)
    {
        if (state is not IEventStore events) return 0;
        var sent = 0;
        for (var shard = 0; shard < Shards; shard++)
        {
            var (owner, now) = (UserKey.OfSilence(tenant, app, shard), time.GetUtcNow());
            while (await events.FindDueAsync(owner, now - Grace, MostAtOnce(state), cancellation) is { Count: > 0 } due)
            {
                await queue.SendAsync([.. due.Select(waiting => Said(FeedbackMessage.Read(waiting.Body), now))], cancellation);
                sent += due.Count;
                await LetGoAsync(owner, due, state, cancellation);
            }
        }
        return sent;
    }

    /// <summary>What can't be read any more is for the learner to keep.</summary>
    private static FeedbackMessage Said(FeedbackMessage message, DateTimeOffset now) =>
        message.Fault is null ? message with { FeedbackId = message.FeedbackId[OfUser.Length..], Silence = null, At = now } : message;

    private static async Task BeginAsync(UserKey shard, List<WaitingEvent> waiting, IStateStore state, IEventStore events, CancellationToken cancellation)
    {
        for (var attempt = 1; attempt <= MostAttempts; attempt++)
        {
            var known = (await events.ReadEventsAsync(shard, [.. waiting.Select(one => one.Id)], cancellation)).Select(one => one.Id).ToHashSet();
            waiting.RemoveAll(one => known.Contains(one.Id));
            if (waiting.Count == 0 || (await state.CommitAsync([Change(shard, waiting.Select(one => new EventChange(null, one)))], cancellation))[0]) return;
        }
        throw new StoreException($"decisions that wait for feedback could not be kept: others kept the same {MostAttempts} times in a row");
    }

    /// <returns>The messages of users who were erased after the decision.</returns>
    private static async Task<List<FeedbackMessage>> ErasedAsync(IEnumerable<FeedbackMessage> messages, IStateStore state, CancellationToken cancellation)
    {
        var erased = new List<FeedbackMessage>();
        foreach (var user in messages.Where(message => message.Context is null && message.User.Length > 0).GroupBy(message => new UserKey(message.Tenant, message.App, message.User)))
        {
            if ((await state.ReadUserAsync(user.Key, cancellation)).Erasure is { } erasure) erased.AddRange(user.Where(message => message.Since <= erasure.At));
        }
        return erased;
    }

    /// <summary>Together, or where another was faster with some of them, each by itself.</summary>
    private static async Task LetGoAsync(UserKey shard, IReadOnlyList<WaitingEvent> waiting, IStateStore state, CancellationToken cancellation)
    {
        if (waiting.Count == 0 || (await state.CommitAsync([Change(shard, waiting.Select(one => new EventChange(one, null)))], cancellation))[0]) return;
        await state.CommitAsync([.. waiting.Select(one => Change(shard, [new EventChange(one, null)]))], cancellation);
    }

    private static UserCommit Change(UserKey shard, IEnumerable<EventChange> changes) => new() { User = shard, ExpectedTag = null, Head = null, Accepted = [], Events = [.. changes] };

    private static IEnumerable<List<WaitingEvent>> Chunks(IEnumerable<WaitingEvent> waiting, int most)
    {
        var (some, bytes) = (new List<WaitingEvent>(), 0);
        foreach (var one in waiting)
        {
            if (some.Count > 0 && (some.Count == most || bytes + one.Body.Length > MostBytesAtOnce))
            {
                yield return some;
                (some, bytes) = ([], 0);
            }
            some.Add(one);
            bytes += one.Body.Length;
        }
        if (some.Count > 0) yield return some;
    }

    /// <summary>Two writes each, in one transaction.</summary>
    private static int MostAtOnce(IStateStore state) => Math.Clamp(state.MostPerCommit / 4, 1, 512);

    /// <summary>Decisions' ids are long.</summary>
    private static string IdOf(string feedbackId) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(feedbackId)).AsSpan(0, 16));
}
