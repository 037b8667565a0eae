using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Feedback;

/// <summary>What can't be learnt: it is kept with its reason, so that it may leave the queue, and learnt later where somebody lets it out.</summary>
public sealed partial class FeedbackLearner
{
    /// <summary>Keeps a message that can't be processed.</summary>
    /// <exception cref="StoreException">It can't be written: nothing is lost, try again.</exception>
    public async Task QuarantineAsync(FeedbackMessage message, string reason, CancellationToken cancellation)
    {
        var user = message.Owner;
        for (var attempt = 1; attempt <= MostAttempts; attempt++)
        {
            if ((await state.FindAcceptedAsync(user.Tenant, user.App, [message.FeedbackId], cancellation)).Count > 0) return;
            var (current, erasure) = user.User.Length == 0 ? new UserRead(null, null) : await state.ReadUserAsync(user, cancellation);
            if (message.Since <= erasure?.At) return;
            var commit = new UserCommit
            {
                User = user, ExpectedTag = current?.Weights.Tag, Erasure = erasure, Head = null, Accepted = [new AcceptedFeedback(message, false, AcceptedFeedback.Quarantine + reason)],
            };
            if (!(await CommitAsync([commit], cancellation))[0]) continue;
            Count([commit]);
            return;
        }
        throw new StoreException($"a message could not be put into quarantine: its user was changed by others {MostAttempts} times in a row");
    }

    /// <summary>Learns what is in quarantine now, at the end of the order, past the guards. What can't be learnt at all stays.</summary>
    /// <param name="which">Of that which is in quarantine.</param>
    /// <returns>What became of each.</returns>
    public async Task<IReadOnlyList<AcceptedFeedback>> ReleaseAsync(string tenant, string app, Func<AcceptedFeedback, bool> which, CancellationToken cancellation)
    {
        var results = new Dictionary<string, AcceptedFeedback>();
        for (var attempt = 1; attempt <= MostAttempts; attempt++)
        {
            var open = new List<FeedbackMessage>();
            await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(tenant, app) { OnlyQuarantined = true }, cancellation))
            {
                if (which(kept.Accepted) && !results.ContainsKey(kept.Accepted.Message.FeedbackId)) open.Add(kept.Accepted.Message with { Released = kept.Accepted.IsGuarded ? kept.Order : 0, Held = null });
            }
            if (open.Count == 0) return [.. results.Values];
            foreach (var user in open.GroupBy(message => message.Owner))
            {
                foreach (var some in user.Chunk(state.MostPerCommit))
                {
                    foreach (var result in await TryReleaseAsync(user.Key, some, cancellation)) results[result.Message.FeedbackId] = result;
                }
            }
        }
        throw new StoreException($"feedback could not be released: its users were changed by others {MostAttempts} times in a row; what was released stays so");
    }

    /// <returns>Nothing where another was faster.</returns>
    private async Task<IReadOnlyList<AcceptedFeedback>> TryReleaseAsync(UserKey user, FeedbackMessage[] messages, CancellationToken cancellation)
    {
        if (await ApplyAsync(user, [.. messages], cancellation) is not { } commit) return [];
        var learnt = commit.Accepted.Where(accepted => accepted.Learnt).ToList();
        var release = commit with { Accepted = learnt, IsRelease = true };
        if (learnt.Count > 0 && !(await CommitAsync([release], cancellation))[0]) return [];
        Count([release]);
        return commit.Accepted;
    }

    /// <summary>After a failure that trying again won't mend: each message by itself, and those that still can't be kept with what they change, without it.</summary>
    private async Task LearnApartAsync(IReadOnlyList<FeedbackMessage> messages, StoreException failure, CancellationToken cancellation)
    {
        if (messages.Count == 1)
        {
            await QuarantineAsync(messages[0], failure.Message, cancellation);
            return;
        }
        foreach (var message in messages) await LearnRoundAsync([message], cancellation);
    }
}
