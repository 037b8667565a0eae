using Skiff.Personalization;

namespace Skiff.Ranking;

/// <summary>An event that was ranked and whose reward is not settled yet, as a store keeps it.</summary>
/// <param name="Id">The caller's, or ours; counts within its owner, a shard.</param>
/// <param name="Due">When its time for a reward is over; never changes.</param>
/// <param name="Version">Rises by 1 with every change, from 1; what a change is conditional on.</param>
public sealed record WaitingEvent(string Id, DateTimeOffset Due, long Version, byte[] Body)
{
    /// <summary>Whom it is about; null where it names nobody.</summary>
    public string? User { get; init; }
}

/// <summary>A change of an event, part of a <see cref="UserCommit"/>: it begins (no before), it is another now, or it is settled (no after).</summary>
/// <param name="Before">As it was read: if it has changed since, the commit is refused.</param>
public sealed record EventChange(WaitingEvent? Before, WaitingEvent? After)
{
    public string Id => (After ?? Before)!.Id;
}

/// <summary>The events that wait for their reward, beside the state of the shard that they will change.</summary>
public interface IEventStore
{
    /// <returns>Those of the ids that wait.</returns>
    ValueTask<IReadOnlyList<WaitingEvent>> ReadEventsAsync(UserKey shard, IReadOnlyCollection<string> ids, CancellationToken cancellation);

    /// <summary>The events of an app that name a user, wherever they wait. Seldom called, and allowed to cost a look through everything. Erasing the user takes them too.</summary>
    IAsyncEnumerable<WaitingEvent> ReadEventsAsync(UserKey user, CancellationToken cancellation);

    /// <returns>Events whose time is over at a moment, the longest over first.</returns>
    ValueTask<IReadOnlyList<WaitingEvent>> FindDueAsync(UserKey shard, DateTimeOffset at, int most, CancellationToken cancellation);
}
