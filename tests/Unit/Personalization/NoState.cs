using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

/// <summary>Holds nothing and can't be asked. A test's store overrides what it is about.</summary>
internal class NoState : IStateStore
{
    public int MostPerCommit => 1;
    public double SpentUsd => 0;

    public virtual ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation) => throw new NotSupportedException();

    public virtual ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation) => throw new NotSupportedException();

    public virtual ValueTask<WeightsRead> ReadLatestWeightsAsync(UserKey user, string? knownTag, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask<UserRead> ReadUserAsync(UserKey user, CancellationToken cancellation) => throw new NotSupportedException();

    public IAsyncEnumerable<KeptFeedback> ReadFeedbackAsync(FeedbackQuery query, CancellationToken cancellation) => throw new NotSupportedException();

    public IAsyncEnumerable<string> ReadUsersAsync(string tenant, string app, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask FlushAsync(CancellationToken cancellation) => default;

    public ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask<IReadOnlyDictionary<string, DateTimeOffset>> FindErasedAsync(string tenant, string app, IReadOnlyCollection<string> users, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask PurgeAsync(string tenant, string app, DateTimeOffset before, CancellationToken cancellation) => throw new NotSupportedException();

    public ValueTask<IReadOnlyDictionary<string, byte[]>> LogKeysAsync(string tenant, string app, IReadOnlyCollection<string>? users, bool create, CancellationToken cancellation) => throw new NotSupportedException();
}
