using Skiff.Feedback;

namespace Skiff.Personalization;

/// <summary>What a user was erased by: what comes from before then is not learnt any more, and what is learnt after it begins anew.</summary>
/// <param name="At">Feedback that was accepted until then is dropped.</param>
/// <param name="Version">Of the head that was erased. The next begins behind it, so that no tag ever means two heads.</param>
public sealed record Erasure(DateTimeOffset At, long Version);

/// <summary>What learning reads of a user, of one moment.</summary>
public sealed record UserRead(HeadState? Head, Erasure? Erasure)
{
    /// <summary>The order up to which a replay has made the head; 0 where none has.</summary>
    public long Replayed { get; init; }
}

/// <summary>Feedback where it is kept.</summary>
/// <param name="Order">Of a user, in the order of commits; it means nothing between users.</param>
/// <param name="Committed">When it was committed.</param>
public sealed record KeptFeedback(AcceptedFeedback Accepted, long Order, DateTimeOffset Committed);

/// <summary>Which feedback is looked for.</summary>
public sealed record FeedbackQuery(string Tenant, string App)
{
    /// <summary>Whether it is looked for in all parts of the app: that of contexts and of shards too.</summary>
    public bool InAllParts { get; init; }

    /// <summary>What it lies under.</summary>
    public IReadOnlyList<string> Apps => InAllParts ? UserKey.FeedbackApps(App) : [App];

    /// <summary>Null for every user's.</summary>
    public string? User { get; init; }

    /// <summary>Of shards, which hold everybody's: whom the feedback names. Null for anybody.</summary>
    public string? Naming { get; init; }

    public bool OnlyQuarantined { get; init; }

    /// <summary>Committed at this time or later.</summary>
    public DateTimeOffset From { get; init; } = DateTimeOffset.UnixEpoch;

    /// <summary>Committed before.</summary>
    public DateTimeOffset To { get; init; } = DateTimeOffset.MaxValue;
}

/// <summary>What is kept of users, as those look at it who answer for it: quarantine, export, erasure, replay. Seldom called, and allowed to cost a look through everything.</summary>
public interface IUserRecords
{
    ValueTask<UserRead> ReadUserAsync(UserKey user, CancellationToken cancellation);

    /// <returns>In the order of commits for each user; in none between users.</returns>
    IAsyncEnumerable<KeptFeedback> ReadFeedbackAsync(FeedbackQuery query, CancellationToken cancellation);

    /// <summary>
    /// Takes all there is of a user out of the store, and leaves the erasure itself for as long as a message from before may still come. Repeated, it completes what was cut short.
    /// A commit computed from what was read before fails.
    /// </summary>
    ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation);

    /// <returns>Of the users, those who were erased and when; as far as it is remembered.</returns>
    ValueTask<IReadOnlyDictionary<string, DateTimeOffset>> FindErasedAsync(string tenant, string app, IReadOnlyCollection<string> users, CancellationToken cancellation);

    /// <summary>Every user of an app who has a head.</summary>
    IAsyncEnumerable<string> ReadUsersAsync(string tenant, string app, CancellationToken cancellation);

    /// <summary>Lets go of feedback that was committed before; what is in quarantine stays. A store whose items expire by themselves does nothing.</summary>
    ValueTask PurgeAsync(string tenant, string app, DateTimeOffset before, CancellationToken cancellation);

    /// <summary>The keys that users' entries in the log are encrypted with, made where there are none: erasing a user takes the key, and so the entries. </summary>
    /// <param name="users">Null for everybody's.</param>
    ValueTask<IReadOnlyDictionary<string, byte[]>> LogKeysAsync(string tenant, string app, IReadOnlyCollection<string>? users, bool create, CancellationToken cancellation);
}

public static class UserRecords
{
    /// <returns>Just the head of <see cref="IUserRecords.ReadUserAsync"/>.</returns>
    public static async ValueTask<HeadState?> ReadHeadAsync(this IUserRecords records, UserKey user, CancellationToken cancellation) => (await records.ReadUserAsync(user, cancellation)).Head;
}
