using System.Numerics.Tensors;
using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>
/// Turns a batch of feedback into heads: groups it by user, drops what was accepted before, applies the rest in order and commits each user's head together with the
/// feedback it was learnt from. Run twice on the same messages it changes nothing the second time.
/// </summary>
public sealed class FeedbackLearner(AppHost apps, IStateStore state, FeedbackStatistics statistics, ILogger<FeedbackLearner> log)
{
    private const int MostAttempts = 10;

    /// <exception cref="Store.StoreException">The state can't be read or written: nothing is lost, try again unless it says that this won't help.</exception>
    public async Task LearnAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        // What of a user doesn't fit one commit is learnt in later rounds, each on the head that the one before made.
        var rounds = messages.GroupBy(message => message.Owner)
            .SelectMany(user => user.Chunk(state.MostPerCommit).Select((chunk, round) => (Chunk: chunk, Round: round)))
            .GroupBy(part => part.Round, part => part.Chunk);
        foreach (var round in rounds) await LearnRoundAsync(round.SelectMany(chunk => chunk), cancellation);
    }

    private async Task LearnRoundAsync(IEnumerable<FeedbackMessage> messages, CancellationToken cancellation)
    {
        IReadOnlyList<IGrouping<UserKey, FeedbackMessage>> open = [.. messages.GroupBy(message => message.Owner)];
        for (var attempt = 1; open.Count > 0; attempt++)
        {
            if (attempt > MostAttempts) throw new Store.StoreException($"the heads of {open.Count} users were changed by others {MostAttempts} times in a row");
            var seen = await FindSeenAsync(open, cancellation);
            var commits = new List<UserCommit>(open.Count);
            var sources = new List<IGrouping<UserKey, FeedbackMessage>>(open.Count);
            foreach (var group in open)
            {
                var fresh = group.Where(message => seen.Add((group.Key.Tenant, group.Key.App, message.FeedbackId))).ToList();
                statistics.Of(group.Key.Tenant).AddDuplicates(group.Count() - fresh.Count);
                if (fresh.Count == 0) continue;
                commits.Add(await ApplyAsync(group.Key, fresh, cancellation));
                sources.Add(group);
            }
            var done = await state.CommitAsync(commits, cancellation);
            Count(commits.Where((_, i) => done[i]));
            open = [.. sources.Where((_, i) => !done[i])];
        }
    }

    private void Count(IEnumerable<UserCommit> done)
    {
        foreach (var commit in done)
        {
            var learnt = commit.Accepted.Count(feedback => feedback.Learnt);
            statistics.Of(commit.User.Tenant).AddLearnt(learnt);
            statistics.Of(commit.User.Tenant).AddKept(commit.Accepted.Count - learnt);
        }
    }

    private async Task<HashSet<(string, string, string)>> FindSeenAsync(IReadOnlyList<IGrouping<UserKey, FeedbackMessage>> groups, CancellationToken cancellation)
    {
        var seen = new HashSet<(string, string, string)>();
        foreach (var app in groups.GroupBy(group => (group.Key.Tenant, group.Key.App)))
        {
            var ids = app.SelectMany(group => group).Select(message => message.FeedbackId).ToHashSet();
            foreach (var id in await state.FindAcceptedAsync(app.Key.Tenant, app.Key.App, ids, cancellation)) seen.Add((app.Key.Tenant, app.Key.App, id));
        }
        return seen;
    }

    private async Task<UserCommit> ApplyAsync(UserKey user, List<FeedbackMessage> messages, CancellationToken cancellation)
    {
        var (app, reason) = await FindAppAsync(user, messages[0].App, cancellation);
        var head = messages[0].Context is null ? app?.Head : null;
        var policy = app?.Ensemble?.Policy is { } found && found.Per == (messages[0].Context is null ? PolicyPer.User : PolicyPer.Context) ? found : null;
        if (head is null && policy is null)
        {
            return new UserCommit { User = user, ExpectedTag = null, Head = null, Accepted = [.. messages.Select(message => new AcceptedFeedback(message, false, reason ?? "no head"))] };
        }
        var current = await state.ReadHeadAsync(user, cancellation);
        var learning = head is null ? null : new Learning(head, current is { Weights.Weights.Length: > 0 } ? current : null, messages[0].FeaturesVersion);
        var choosing = policy is null ? null : new PolicyLearning(policy, current?.Weights.Policy);
        var accepted = messages.Select(message => (learning?.Apply(message), choosing?.Apply(message)) switch
        {
            ({ } one, null) => one,
            (null, { } other) => other,
            // Both: the note says what was not learnt.
            var (one, other) => new AcceptedFeedback(message, one!.Learnt || other!.Learnt, one.Note ?? other!.Note),
        }).ToList();
        var result = learning?.Result() ?? (choosing is { HasLearnt: true } ? current ?? PolicyLearning.Nothing : null);
        if (result is not null) result = result with { Weights = result.Weights with { Policy = choosing?.Result ?? current?.Weights.Policy } };
        return new UserCommit { User = user, ExpectedTag = current?.Weights.Tag, Head = result, Accepted = accepted };
    }

    private async Task<(App? App, string? Reason)> FindAppAsync(UserKey user, string name, CancellationToken cancellation)
    {
        if (user.User.Length == 0) return (null, "no user");
        try
        {
            return (await apps.GetAsync(user.Tenant, name, cancellation), null);
        }
        catch (RequestException e)
        {
            // The feedback was accepted, so it is kept; a replay learns it when the app is back.
            log.LogWarning("feedback for app {App} of tenant {Tenant} is kept and not learnt: {Error}", name, user.Tenant, e.Message);
            return (null, "no app");
        }
    }

    /// <summary>A head while a batch is applied to it.</summary>
    private sealed class Learning(Head head, HeadState? current, int featuresVersion)
    {
        private readonly LearningHead _learning = new(head, current);
        private readonly float[] _residuals = new float[head.Outputs];
        private readonly int _featuresVersion = current?.Weights.FeaturesVersion ?? featuresVersion;
        private readonly double _offset = current?.Weights.Offset ?? head.Offset;
        private long _updates = current?.Weights.Updates ?? 0;
        private bool _changed;

        public AcceptedFeedback Apply(FeedbackMessage message)
        {
            if (Refuse(message) is { } reason) return new AcceptedFeedback(message, false, reason);
            var target = _residuals.AsSpan();
            target.Clear();
            if (message.Label is { } label) target[label] = 1;
            else target[0] = (float)(message.Value!.Value - _offset);
            if (message.Base.Length > 0) TensorPrimitives.Subtract(target, message.BaseValues, target);
            var lesson = _learning.Learn(message.FeatureValues, target, message.At);
            // What was not learnt is remembered too: by the guards, and by the detector.
            _changed |= lesson.IsLearnt || current is not null;
            if (lesson.IsLearnt) _updates++;
            return new AcceptedFeedback(message, lesson.IsLearnt, lesson.Note);
        }

        public HeadState? Result() => !_changed ? null : new HeadState(
            new HeadWeights
            {
                FeaturesVersion = _featuresVersion,
                PriorVersion = current?.Weights.PriorVersion ?? head.PriorVersion,
                Updates = _updates,
                Weights = _learning.Weights,
                Offset = _offset,
                Tag = "",
            },
            _learning.Covariance) { Memory = _learning.Memory.ToBytes() };

        /// <summary>Why a message can't be learnt by this head: it would spoil it, or the app has changed its shape since.</summary>
        private string? Refuse(FeedbackMessage message)
        {
            if (message.FeaturesVersion != _featuresVersion) return $"features of version {message.FeaturesVersion}, the head is of version {_featuresVersion}";
            if (message.Features.Length != head.Dimensions * sizeof(float)) return "features of another length";
            if (!_learning.Fits) return "a head of another shape";
            if (message.Base.Length != 0 && message.Base.Length != head.Outputs * sizeof(float)) return "a base of another length";
            if (head.Document.Kind == HeadKind.Classes ? message.Label is null || message.Label >= head.Outputs : message.Value is null) return "no label or value for this head";
            return message.FeatureValues.ContainsNotFinite() || message.BaseValues.ContainsNotFinite() ? "features that are not finite" : null;
        }
    }
}
