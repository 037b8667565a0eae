using System.Numerics.Tensors;
using Skiff.Apps;
using Skiff.Feedback;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Serving;

namespace Skiff.Ranking;

/// <summary>
/// Chooses actions by what an app has learnt, and accepts what became of them. An event is remembered by its message in the queue, so that it is there when its reward comes, and when none does.
/// </summary>
public sealed class Ranker(RankModels models, IFeedbackQueue queue, DecisionSeal seal, FeedbackStatistics statistics, TimeProvider time)
{
    /// <exception cref="RequestException">The request is not one that can be answered.</exception>
    /// <exception cref="Store.StoreException">The event could not be kept: then nothing was decided.</exception>
    public async ValueTask<RankDecision> RankAsync(App app, RankRequest request, CancellationToken cancellation)
    {
        Check(request);
        var (document, space) = (Document(app), app.Space!);
        var eventId = request.EventId ?? Guid.NewGuid().ToString("n");
        if (document.ActionIds)
        {
            foreach (var action in request.Actions) action.Features.Add("", "id"u8, System.Text.Encoding.UTF8.GetBytes(action.Id));
        }
        IReadOnlyList<RankSlot> slots = request.Slots.Count > 0 ? request.Slots : [new RankSlot("")];
        var matching = Match(request, slots);
        var view = await models.ViewAsync(app, cancellation);
        var isApprentice = document.Mode == RankMode.Apprentice;
        var decisions = new List<SlotDecision>();
        var chosen = new List<ChosenAction>();
        var taken = new HashSet<string>();
        foreach (var (index, slot) in slots.Index())
        {
            var open = matching?.OpenTo(index);
            var candidates = request.Actions.Where((action, i) => open?[i] ?? !(request.Excluded.Contains(action.Id) || taken.Contains(action.Id))).ToList();
            var context = slot.Features.Groups.Count == 0 ? request.Context.Groups : [.. request.Context.Groups, .. slot.Features.Groups];
            var features = candidates.Select(action => space.Combine(context, action.Features.Groups)).ToList();
            if (features.Sum(one => one.Count) > MostNumbers) throw RequestException.Invalid($"the candidates have more than {MostNumbers} features together, those that are crossed included: send fewer, or cross fewer namespaces");
            var (means, propensities, place) = Score(view, features, app.Exploration!, seal.SeedOf($"{app.Tenant}/{app.Name}/{eventId}/{slot.Id}"));
            ChosenAction choice;
            if (isApprentice)
            {
                place = Math.Max(0, candidates.FindIndex(action => action.Id == slot.Baseline));
                propensities.AsSpan().Clear();
                propensities[place] = 1;
                var rival = Rival(means, place);
                choice = new ChosenAction(slot.Id, candidates[place].Id, [], 1, rival < 0 ? null : features[place].Minus(features[rival]).ToBytes(), rival < 0 || means[place] > means[rival]);
            }
            else choice = new ChosenAction(slot.Id, candidates[place].Id, features[place].ToBytes(), propensities[place], Candidates: LoggedCandidates.Write(candidates, propensities));
            chosen.Add(choice);
            taken.Add(choice.Action);
            matching?.Take(index, request.Actions.FindIndex(action => action.Id == choice.Action));
            decisions.Add(new SlotDecision(slot.Id, choice.Action, Ranking(request.Actions, candidates, propensities, place)));
        }
        if (chosen.Sum(one => one.Features.Length + (one.Difference?.Length ?? 0)) > MostBytes) throw RequestException.Invalid($"the event takes more than {MostBytes} bytes of features: send fewer, or cross fewer namespaces");
        var now = time.GetUtcNow();
        await queue.SendAsync([Message(app, $"rank:{eventId}", new RankMessage
        {
            Kind = EventKind.Ranked, Shard = RankMessage.ShardOf(eventId, document.Shards), Event = eventId,
            Due = now + document.Wait, Deferred = request.Defers, Apprentice = isApprentice, Space = space.Id, Chosen = chosen,
        }, now) with { User = request.User ?? "" }], cancellation);
        return new RankDecision(eventId, decisions);
    }

    /// <summary>Accepts rewards of an event; durable when it returns.</summary>
    /// <param name="feedbackId">Under which they count once; null for rewards that count each time they are given.</param>
    public async ValueTask RewardAsync(App app, string eventId, IReadOnlyList<SlotReward> rewards, string? feedbackId, CancellationToken cancellation)
    {
        CheckEvent(eventId);
        foreach (var reward in rewards)
        {
            if (!(reward.Value is >= -1 and <= 1)) throw RequestException.Invalid($"the reward is {reward.Value}: it takes -1 to 1");
        }
        await SendAsync(app, $"reward:{feedbackId ?? Guid.NewGuid().ToString("n")}", Message(app, EventKind.Rewarded, eventId) with { Rewards = rewards }, time.GetUtcNow(), cancellation);
        statistics.Of(app.Tenant).AddAccepted(1);
    }

    /// <summary>Accepts that an event's choice has been shown; durable when it returns.</summary>
    public ValueTask ActivateAsync(App app, string eventId, CancellationToken cancellation)
    {
        CheckEvent(eventId);
        return SendAsync(app, $"activate:{eventId}", Message(app, EventKind.Activated, eventId), time.GetUtcNow(), cancellation);
    }

    /// <summary>Where events are due, says in the queue, behind all that was said before, that time has passed.</summary>
    public static async Task PassAsync(App app, IEventStore events, IFeedbackQueue queue, TimeProvider time, CancellationToken cancellation)
    {
        for (var shard = 0; shard < app.Document.Rank!.Shards; shard++)
        {
            var now = time.GetUtcNow();
            if ((await events.FindDueAsync(UserKey.OfShard(app.Tenant, app.Name, shard), now, 1, cancellation)).Count == 0) continue;
            await queue.SendAsync([Message(app, $"passed:{Guid.NewGuid():n}", new RankMessage { Kind = EventKind.Passed, Shard = shard }, now)], cancellation);
        }
    }

    /// <summary>What has been learnt, as this process last saw it.</summary>
    public ValueTask<RankView> ViewAsync(App app, CancellationToken cancellation) => models.ViewAsync(app, cancellation);

    /// <summary>Of all candidates for one place: a tenth of a second's work.</summary>
    private const int MostNumbers = 100_000;

    /// <summary>Features of one event: a batch of such messages fits one transaction of DynamoDB.</summary>
    private const int MostBytes = 64_000;

    /// <summary>Sees to it that no slot takes what a later one can't do without.</summary>
    /// <returns>Null where slots exclude nothing of their own: then any that is left will do for each.</returns>
    private static SlotMatching? Match(RankRequest request, IReadOnlyList<RankSlot> slots)
    {
        var common = request.Actions.Select(action => !request.Excluded.Contains(action.Id)).ToArray();
        if (common.Count(isOpen => isOpen) >= slots.Count && slots.All(slot => slot.Excluded.Count == 0)) return null;
        var matching = new SlotMatching([.. slots.Select(slot => request.Actions.Select((action, i) => common[i] && !slot.Excluded.Contains(action.Id)).ToArray())]);
        if (matching.TryBegin() is not var (unfilled, others, actions)) return matching;
        var name = slots[unfilled].Id;
        throw RequestException.Invalid((name.Length, actions.Count) switch
        {
            (0, _) => "every action is excluded: there is nothing to choose",
            (_, 0) => $"slot '{name}' can't be filled: every action is excluded. Leave it at least one",
            _ => $"slot '{name}' can't be filled: it and {Names(others.Select(slot => slots[slot].Id))} may only have {Names(actions.Select(action => request.Actions[action].Id))}, and each slot takes another action. Exclude fewer",
        });

        static string Names(IEnumerable<string> ids) => string.Join(", ", ids.Select(id => $"'{id}'"));
    }

    private static (float[] Means, double[] Propensities, int Place) Score(RankView view, List<SparseVector> features, Exploration policy, ulong seed)
    {
        var k = features.Count;
        var (means, factor, propensities) = (new float[k], new double[k * k], new double[k]);
        if (policy.Kind == ExplorationKind.EpsilonGreedy) view.Score(features, means, []);
        else
        {
            view.Score(features, means, factor);
            Cholesky.FactorSemidefinite(factor, k);
        }
        var place = policy.Choose(means, factor, seed, propensities);
        return (means, propensities, place);
    }

    /// <returns>The best of the others, -1 where there is none.</returns>
    private static int Rival(float[] means, int place)
    {
        var others = means.ToArray();
        others[place] = float.NegativeInfinity;
        return means.Length == 1 ? -1 : TensorPrimitives.IndexOfMax<float>(others);
    }

    private static RankedAction[] Ranking(List<RankAction> actions, List<RankAction> candidates, double[] propensities, int place)
    {
        var order = Enumerable.Range(0, candidates.Count).OrderByDescending(i => i == place).ThenByDescending(i => propensities[i]).GetEnumerator();
        return [.. actions.Select(action => candidates.Contains(action) && order.MoveNext() ? new RankedAction(candidates[order.Current].Id, propensities[order.Current]) : new RankedAction(action.Id, 0))];
    }

    private static RankMessage Message(App app, EventKind kind, string eventId) => new() { Kind = kind, Shard = RankMessage.ShardOf(eventId, Document(app).Shards), Event = eventId };

    private static FeedbackMessage Message(App app, string feedbackId, RankMessage rank, DateTimeOffset at) => new() { Tenant = app.Tenant, App = app.Name, User = "", FeedbackId = feedbackId, Rank = rank, At = at };

    private ValueTask SendAsync(App app, string feedbackId, RankMessage rank, DateTimeOffset at, CancellationToken cancellation) => queue.SendAsync([Message(app, feedbackId, rank, at)], cancellation);

    private static RankDocument Document(App app) => app.Document.Rank ?? throw RequestException.Invalid($"app '{app.Name}' doesn't rank: its document has no 'rank'");

    private static void Check(RankRequest request)
    {
        if (request.EventId is { } id) CheckEvent(id);
        if (request.Actions.Count is 0 or > RankRequest.MostActions) throw RequestException.Invalid($"there are {request.Actions.Count} actions: it takes 1 to {RankRequest.MostActions}");
        CheckIds("action", request.Actions.Select(action => action.Id));
        CheckIds("slot", request.Slots.Select(slot => slot.Id));
        if (request.Slots.Count > request.Actions.Count) throw RequestException.Invalid($"there are {request.Slots.Count} slots for {request.Actions.Count} actions: each slot takes another action");
        var known = request.Actions.Select(action => action.Id).ToHashSet();
        var named = request.Excluded.Concat(request.Slots.SelectMany(slot => slot.Excluded)).Concat(request.Slots.Select(slot => slot.Baseline).OfType<string>());
        if (named.FirstOrDefault(other => !known.Contains(other)) is { } unknown) throw RequestException.Invalid($"there is no action '{unknown}' in 'actions'");
    }

    private static void CheckIds(string what, IEnumerable<string> ids)
    {
        var seen = new HashSet<string>();
        foreach (var id in ids)
        {
            if (id.Length is 0 or > RankRequest.LongestId) throw RequestException.Invalid($"an id of {what} has {id.Length} characters: it takes 1 to {RankRequest.LongestId}");
            if (!seen.Add(id)) throw RequestException.Invalid($"two {what}s have the id '{id}'");
        }
    }

    private static void CheckEvent(string id)
    {
        if (id.Length is 0 or > RankRequest.LongestId) throw RequestException.Invalid($"an event's id has {id.Length} characters: it takes 1 to {RankRequest.LongestId}");
    }
}
