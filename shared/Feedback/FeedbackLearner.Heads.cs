using Skiff.Caching;
using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>Whoever predicts in this process sees what is learnt here at once.</summary>
public sealed partial class FeedbackLearner
{
    /// <summary>The heads of a process that predicts too.</summary>
    public HeadCache? Heads { get; init; }

    private async ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation)
    {
        try
        {
            return await state.CommitAsync(commits, cancellation);
        }
        finally
        {
            // Also where it failed: it may have been made all the same.
            foreach (var commit in commits) Heads?.Changed(commit.User);
        }
    }
}
