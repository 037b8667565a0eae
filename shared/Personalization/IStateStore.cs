using System.Globalization;
using Skiff.Feedback;
using Skiff.Ranking;

namespace Skiff.Personalization;

/// <summary>Whose state it is. The tenant is part of every key.</summary>
public readonly record struct UserKey(string Tenant, string App, string User)
{
    /// <summary>What an app's feedback lies under: that of users, of contexts, and of shards.</summary>
    public static IReadOnlyList<string> FeedbackApps(string app) => [app, OfContext("", app, "").App, OfShard("", app, 0).App];

    /// <summary>What an app's shards lie under in which events wait, of whomever they are.</summary>
    public static IReadOnlyList<string> EventApps(string app) => [OfShard("", app, 0).App, OfSilence("", app, 0).App];

    /// <summary>Where a policy's state lies that goes by contexts: no app has a slash in its name, so no user's lies there.</summary>
    public static UserKey OfContext(string tenant, string app, string context) => new(tenant, $"{app}/contexts", context);

    /// <summary>Where a part lies of an app's decisions on which silence will be feedback.</summary>
    public static UserKey OfSilence(string tenant, string app, int shard) => new(tenant, $"{app}/silence", shard.ToString(CultureInfo.InvariantCulture));

    /// <summary>Where a part lies of what an app has learnt that ranks, for everybody.</summary>
    public static UserKey OfShard(string tenant, string app, int shard) => new(tenant, $"{app}/rank", shard.ToString(CultureInfo.InvariantCulture));
}

/// <summary>What a prediction reads of a user's head: small, apart from the covariance, which only learning needs.</summary>
public sealed record HeadWeights
{
    /// <summary>The versions that the weights were learnt on; they mean nothing on others.</summary>
    public required int FeaturesVersion { get; init; }

    public required int PriorVersion { get; init; }

    /// <summary>Examples learnt.</summary>
    public required long Updates { get; init; }

    /// <summary>K × d; none where nothing but a policy has learnt, and then there is no covariance either.</summary>
    public required float[] Weights { get; init; }

    /// <summary>Added to every output; the prior's, and pinned with it.</summary>
    public required double Offset { get; init; }

    /// <summary>The state of the app's policy, as that writes it; null for none.</summary>
    public byte[]? Policy { get; init; }

    /// <summary>Changes with every commit; what a commit is conditional on.</summary>
    public required string Tag { get; init; }
}

/// <summary>What a prediction's read has found.</summary>
/// <param name="Weights">Null for a user who has no head.</param>
/// <param name="CostUsd">Of this read, in US dollars.</param>
/// <param name="IsUnchanged">Whether it is what the reader has already; then there are no weights here.</param>
public readonly record struct WeightsRead(HeadWeights? Weights, double CostUsd, bool IsUnchanged = false);

/// <summary>A whole head.</summary>
public sealed record HeadState(HeadWeights Weights, float[] Covariance)
{
    /// <summary>What learning remembers beside the covariance (<see cref="HeadMemory"/>); empty in heads that were stored before there was such a thing.</summary>
    public byte[] Memory { get; init; } = [];
}

/// <summary>All that one user's batch of feedback changes, written together or not at all.</summary>
public sealed record UserCommit
{
    public required UserKey User { get; init; }

    /// <summary>The tag of the head that was read; null when there was none.</summary>
    public required string? ExpectedTag { get; init; }

    /// <summary>The erasure that was read with it. Where a head's tag doesn't tell, the commit is conditional on it.</summary>
    public Erasure? Erasure { get; init; }

    /// <summary>Whether the feedback is in quarantine and leaves its place there for the end of the order: then the commit is conditional on that, rather than on its ids being new.</summary>
    public bool IsRelease { get; init; }

    /// <summary>The order up to which a replay has made the head; null where it goes on from the one before.</summary>
    public long? Replayed { get; init; }

    /// <summary>The new head; null when nothing was learnt, and only the feedback is kept.</summary>
    public required HeadState? Head { get; init; }

    public required IReadOnlyList<AcceptedFeedback> Accepted { get; init; }

    /// <summary>Changes of the events of a shard; only stores that are an <see cref="IEventStore"/> take any.</summary>
    public IReadOnlyList<EventChange> Events { get; init; } = [];

    /// <summary>Examples learnt beside the feedback: of events whose time was over.</summary>
    public int Settled { get; init; }
}

/// <summary>Feedback as it is kept: in commit order it makes the head again.</summary>
/// <param name="Learnt">Whether the head changed by it; if not, <paramref name="Note"/> says why.</param>
public sealed record AcceptedFeedback(FeedbackMessage Message, bool Learnt, string? Note)
{
    /// <summary>What the note of feedback begins with that can't be learnt as it is, and waits for somebody to look at it.</summary>
    public const string Quarantine = "quarantine: ";

    /// <summary>And of that which a head's guards kept out: they remember it, so a replay shows it to them again.</summary>
    public const string Guarded = Quarantine + "guard: ";

    public bool IsQuarantined => !Learnt && Note is { } note && note.StartsWith(Quarantine, StringComparison.Ordinal);

    public bool IsGuarded => IsQuarantined && Note!.StartsWith(Guarded, StringComparison.Ordinal);
}

/// <summary>Heads and the feedback they were learnt from: SQLite here, a table in the cloud.</summary>
public interface IStateStore : IUserRecords
{
    /// <summary>How much feedback one commit may carry.</summary>
    int MostPerCommit { get; }

    /// <summary>What the calls so far have cost in US dollars, as far as the store tells; 0 for a store that sends no bill.</summary>
    double SpentUsd { get; }

    ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation);

    /// <summary>The same for a reader who has a head: where its version is still the user's, the store says so and nothing else.</summary>
    /// <param name="knownTag">Of the head that the reader has.</param>
    ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation);

    /// <summary>The same, with every commit and erasure that was made before: a store whose reads may lag behind has another way, which costs more.</summary>
    /// <param name="knownTag">Null for a reader who has no head.</param>
    ValueTask<WeightsRead> ReadLatestWeightsAsync(UserKey user, string? knownTag, CancellationToken cancellation) =>
        knownTag is null ? ReadWeightsAsync(user, cancellation) : ReadWeightsAsync(user, knownTag, cancellation);

    /// <returns>Those of the feedback ids that an app has already accepted, from whichever user.</returns>
    ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation);

    /// <summary>Commits users, each for itself, conditional on its head's tag and on its feedback ids being new.</summary>
    /// <exception cref="Store.StoreException">Some could not be made, others may have been: tried again, those are found accepted and change nothing.</exception>
    /// <returns>For each commit whether it was made; false means that somebody else was faster and it must be computed again.</returns>
    ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation);

    /// <summary>Makes every commit so far outlive a loss of power.</summary>
    ValueTask FlushAsync(CancellationToken cancellation);
}
