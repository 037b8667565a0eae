using System.Numerics.Tensors;
using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Feedback;

/// <summary>
/// Turns a batch of feedback into heads: groups it by user, drops what was accepted before, applies the rest in order and commits each user's head together with the
/// feedback it was learnt from. Run twice on the same messages it changes nothing the second time.
/// </summary>
public sealed partial class FeedbackLearner(AppHost apps, IStateStore state, FeedbackStatistics statistics, ILogger<FeedbackLearner> log)
{
    private const int MostAttempts = 10;

    private readonly CallerLimits _callers = new();

    /// <summary>The models of apps that rank, where this process ranks too: they see what is learnt here without asking the store.</summary>
    public RankModels? RankModels { get; init; }

    /// <exception cref="Store.StoreException">The state can't be read or written: nothing is lost, try again unless it says that this won't help.</exception>
    public async Task LearnAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        messages = await HoldAsync(await ImplicitFeedback.BeginAsync(messages, state, statistics, cancellation), cancellation);
        // What of a user doesn't fit one commit is learnt in later rounds, each on the head that the one before made.
        var rounds = messages.GroupBy(message => message.Owner)
            .SelectMany(user => user.Chunk(user.First().Rank is null ? state.MostPerCommit : EventLearning.MostMessages(state)).Select((chunk, round) => (Chunk: chunk, Round: round)))
            .GroupBy(part => part.Round, part => part.Chunk);
        foreach (var round in rounds) await LearnRoundAsync(round.SelectMany(chunk => chunk), cancellation);
    }

    private async Task LearnRoundAsync(IEnumerable<FeedbackMessage> messages, CancellationToken cancellation)
    {
        List<(UserKey User, List<FeedbackMessage> Messages)> open = [.. messages.GroupBy(message => message.Owner).Select(user => (user.Key, user.ToList()))];
        for (var attempt = 1; open.Count > 0; attempt++)
        {
            if (attempt > MostAttempts) throw new Store.StoreException($"the heads of {open.Count} users were changed by others {MostAttempts} times in a row");
            // Few come twice, and a commit notices: only then it is asked which they are.
            var seen = attempt == 1 ? [] : await FindSeenAsync(open, cancellation);
            var commits = new List<UserCommit>(open.Count);
            var models = new List<RankModel?>(open.Count);
            var sources = new List<(UserKey User, List<FeedbackMessage> Messages)>(open.Count);
            var rests = new List<List<FeedbackMessage>>(open.Count);
            foreach (var (user, all) in open)
            {
                var fresh = all.Where(message => seen.Add((user.Tenant, user.App, message.FeedbackId))).ToList();
                // That somebody spoke before silence did is how it should be.
                if (fresh.Count < all.Count) statistics.Of(user.Tenant).AddDuplicates(all.Count(message => message.Implicit != true) - fresh.Count(message => message.Implicit != true));
                if (fresh.Count == 0) continue;
                var (applied, model, count) = fresh[0].Rank is null ? (await ApplyAsync(user, fresh, cancellation), null, fresh.Count) : await ApplyEventsAsync(user, fresh, cancellation);
                if (applied is not { } commit) continue;
                commits.Add(commit);
                models.Add(model);
                sources.Add((user, fresh));
                rests.Add(count < fresh.Count ? fresh[count..] : []);
            }
            IReadOnlyList<bool> done;
            try
            {
                done = await CommitAsync(commits, cancellation);
            }
            catch (Store.StoreException e) when (e.IsPermanent)
            {
                await LearnApartAsync([.. sources.SelectMany(source => source.Messages)], e, cancellation);
                return;
            }
            Count(commits.Where((_, i) => done[i]));
            for (var i = 0; i < models.Count; i++)
            {
                if (done[i] && models[i] is { } model) RankModels?.Learnt(commits[i].User, model);
                if (done[i]) await EraseNamedAsync(commits[i], cancellation);
            }
            // A shard with more that is due than a commit holds comes on.
            if (rests.Where((rest, i) => done[i] && rest.Count > 0).Any()) attempt = 0;
            open = [.. sources.Select((source, i) => (source.User, Messages: done[i] ? rests[i] : source.Messages)).Where(source => source.Messages.Count > 0)];
        }
    }

    /// <summary>A shard's commit is not conditional on the erasures of those whom its events name: who was erased while it was made is erased again.</summary>
    private async Task EraseNamedAsync(UserCommit commit, CancellationToken cancellation)
    {
        foreach (var user in commit.Accepted.Where(accepted => accepted.Message is { Rank: not null, User.Length: > 0 }).GroupBy(accepted => accepted.Message.User))
        {
            var key = new UserKey(commit.User.Tenant, user.First().Message.App, user.Key);
            if ((await state.ReadUserAsync(key, cancellation)).Erasure is { } erasure && user.Any(accepted => accepted.Message.At <= erasure.At)) await state.EraseAsync(key, erasure.At, cancellation);
        }
    }

    private void Count(IEnumerable<UserCommit> done)
    {
        foreach (var commit in done)
        {
            var learnt = commit.Accepted.Count(feedback => feedback.Learnt);
            var quarantined = commit.Accepted.Count(feedback => feedback.IsQuarantined);
            statistics.Of(commit.User.Tenant).AddLearnt(learnt + commit.Settled);
            statistics.Of(commit.User.Tenant).AddQuarantined(quarantined);
            statistics.Of(commit.User.Tenant).AddLate(commit.Accepted.Count(feedback => feedback.Message.Late == true));
            statistics.Of(commit.User.Tenant).AddImplicit(commit.Accepted.Count(feedback => feedback.Message.Implicit == true));
            // An event that begins is not learnt yet, and nothing is wrong with it.
            statistics.Of(commit.User.Tenant).AddKept(commit.Accepted.Count(feedback => feedback is { Learnt: false, IsQuarantined: false, Note: not null }));
        }
    }

    private async Task<HashSet<(string, string, string)>> FindSeenAsync(IReadOnlyList<(UserKey User, List<FeedbackMessage> Messages)> users, CancellationToken cancellation)
    {
        var seen = new HashSet<(string, string, string)>();
        foreach (var app in users.GroupBy(user => (user.User.Tenant, user.User.App)))
        {
            var ids = app.SelectMany(user => user.Messages).Select(message => message.FeedbackId).ToHashSet();
            foreach (var id in await state.FindAcceptedAsync(app.Key.Tenant, app.Key.App, ids, cancellation)) seen.Add((app.Key.Tenant, app.Key.App, id));
        }
        return seen;
    }

    /// <returns>Null where nothing is left: the user was erased after all of it was accepted.</returns>
    private async Task<UserCommit?> ApplyAsync(UserKey user, List<FeedbackMessage> messages, CancellationToken cancellation)
    {
        var (current, erasure) = user.User.Length == 0 ? new UserRead(null, null) : await state.ReadUserAsync(user, cancellation);
        if (erasure is not null) statistics.Of(user.Tenant).AddErased(messages.RemoveAll(message => message.Since <= erasure.At));
        if (messages.Count == 0) return null;
        var (app, reason) = await FindAppAsync(user, messages[0].App, cancellation);
        var isOfContext = messages[0].Context is not null;
        var head = isOfContext ? null : app?.Head;
        if (head is not null && current is { Weights.Weights.Length: > 0 })
        {
            try
            {
                head = await app!.HeadFromAsync(current.Weights.PriorVersion, cancellation);
            }
            catch (FormatException e)
            {
                (head, reason) = (null, e.Message);
            }
        }
        var policy = app?.Ensemble?.Policy is { } found && found.Per == (isOfContext ? PolicyPer.Context : PolicyPer.User) ? found : null;
        var learning = head is null ? null : new Learning(head, current is { Weights.Weights.Length: > 0 } ? current : null);
        var choosing = policy is null ? null : new PolicyLearning(policy, current?.Weights.Policy);
        var accepted = messages.Select(message => Settled(message) ?? (learning?.Apply(message), choosing?.Apply(message)) switch
        {
            (null, null) => new AcceptedFeedback(message, false, reason ?? "no head"),
            ({ } one, null) => one,
            (null, { } other) => other,
            // Both: the note says what was not learnt.
            var (one, other) => new AcceptedFeedback(message, one!.Learnt || other!.Learnt, one.Note ?? other!.Note),
        }).ToList();
        var result = learning?.Result() ?? (choosing is { HasLearnt: true } ? current ?? PolicyLearning.Nothing : null);
        if (result is not null) result = result with { Weights = result.Weights with { Policy = choosing?.Result ?? current?.Weights.Policy } };
        return new UserCommit { User = user, ExpectedTag = current?.Weights.Tag, Erasure = erasure, Head = result, Accepted = accepted };
    }

    private async Task<(UserCommit? Commit, RankModel? Model, int Applied)> ApplyEventsAsync(UserKey shard, List<FeedbackMessage> messages, CancellationToken cancellation)
    {
        foreach (var user in messages.Where(message => message.User.Length > 0).Select(message => message.User).Distinct().ToList())
        {
            var erasure = (await state.ReadUserAsync(new UserKey(shard.Tenant, messages[0].App, user), cancellation)).Erasure;
            if (erasure is not null) statistics.Of(shard.Tenant).AddErased(messages.RemoveAll(message => message.User == user && message.At <= erasure.At));
            if (messages.Count == 0) return (null, null, 0);
        }
        var (app, reason) = await FindAppAsync(shard, messages[0].App, cancellation);
        return await EventLearning.ApplyAsync(shard, app, reason, messages, state, cancellation);
    }

    /// <summary>What is kept without asking a head.</summary>
    internal static AcceptedFeedback? Settled(FeedbackMessage message) => message switch
    {
        { Fault: { } fault } => new AcceptedFeedback(message, false, AcceptedFeedback.Quarantine + fault),
        { Held: { } held } => new AcceptedFeedback(message, false, AcceptedFeedback.Quarantine + held),
        { Late: true } => new AcceptedFeedback(message, false, "late: the decision's time for feedback was over"),
        _ => null,
    };

    /// <summary>Marks what is more than a caller may say.</summary>
    private async Task<IReadOnlyList<FeedbackMessage>> HoldAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        var held = new List<FeedbackMessage>(messages.Count);
        foreach (var message in messages)
        {
            var most = message.Caller is null ? null : (await FindAppAsync(message.Owner, message.App, cancellation)).App?.Head?.Document.Guards.PerCallerHour;
            held.Add(most is { } limit && !_callers.TryTake(message, limit) ? message with { Held = $"more than {limit:g4} an hour from this caller" } : message);
        }
        return held;
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
    private sealed class Learning(Head head, HeadState? current)
    {
        private readonly LearningHead _learning = new(head, current);
        private readonly float[] _residuals = new float[head.Outputs];
        private int? _featuresVersion = current?.Weights.FeaturesVersion; // of the first example, for a new user
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
            _featuresVersion = message.FeaturesVersion;
            var lesson = _learning.Learn(message.FeatureValues, target, message.At, message.Released is not null);
            // What was not learnt is remembered too: by the guards, and by the detector.
            _changed = true;
            if (lesson.IsLearnt) _updates++;
            return new AcceptedFeedback(message, lesson.IsLearnt, lesson.Note);
        }

        public HeadState? Result() => !_changed ? null : new HeadState(
            new HeadWeights
            {
                FeaturesVersion = _featuresVersion!.Value,
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
            if (_featuresVersion is { } version && message.FeaturesVersion != version) return $"features of version {message.FeaturesVersion}, the head is of version {version}";
            return Unlearnable(message) is { } why ? AcceptedFeedback.Quarantine + why : null;
        }

        private string? Unlearnable(FeedbackMessage message)
        {
            if (message.Features.Length != head.Dimensions * sizeof(float)) return "features of another length";
            if (!_learning.Fits) return "a head of another shape";
            if (message.Base.Length != 0 && message.Base.Length != head.Outputs * sizeof(float)) return "a base of another length";
            if (head.Document.Kind == HeadKind.Classes ? message.Label is not >= 0 || message.Label >= head.Outputs : message.Value is not { } value || !double.IsFinite(value)) return "no label or value for this head";
            return message.FeatureValues.ContainsNotFinite() || message.BaseValues.ContainsNotFinite() ? "features that are not finite" : null;
        }
    }
}
