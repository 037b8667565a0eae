using Skiff.Apps;
using Skiff.Feedback;
using Skiff.Personalization;

namespace Skiff.Ranking;

/// <summary>
/// A shard while a batch of its messages is applied: events begin, are shown, are rewarded, and are settled, by their reward or by its absence. Time is that of the messages: an event is due when a message of its shard says a later time,
/// so that a reward that came in time counts however long the queue took.
/// </summary>
internal sealed class EventLearning
{
    /// <summary>What a commit takes in a store beside the feedback: two writes an event that begins or ends (the event, and when it is due).</summary>
    private const int WritesAMessage = 3;

    private const string Unknown = "no event waits under this id: it was rewarded before, its time is over, or it never began";
    private const string OtherSpace = "features of another configuration";

    private readonly RankDocument _document;
    private readonly FeatureSpace _space;
    private readonly Dictionary<string, Entry> _events;
    private readonly RankModel _model;
    private readonly string? _tag;

    private bool HasLearnt { get; set; }

    /// <summary>Learnt because their time was over.</summary>
    private int Settled { get; set; }

    /// <param name="current">The shard as it was stored; null where it was not.</param>
    /// <param name="events">Those that the messages name, and those that are due.</param>
    private EventLearning(App app, HeadState? current, IEnumerable<WaitingEvent> events)
    {
        _document = app.Document.Rank!;
        _space = app.Space!;
        _model = RankModel.ReadOrStart(current?.Weights.Policy, _space, _document.PriorStrength);
        _tag = current?.Weights.Tag;
        _events = events.DistinctBy(stored => stored.Id).ToDictionary(stored => stored.Id, stored => new Entry(stored, RankEvent.Read(stored.Body)));
    }

    /// <summary>How many messages, and how many due events, go into one commit.</summary>
    public static int MostMessages(IStateStore state) => Math.Clamp(state.MostPerCommit / (2 * WritesAMessage), 1, 512);

    private static int MostDue(IStateStore state) => Math.Clamp(state.MostPerCommit / 4, 1, 1024);

    /// <param name="app">Null where it is gone: then everything is kept and nothing is learnt.</param>
    /// <returns>What to commit, the shard's model if it has learnt something, and how many of the messages are in it: where more events are due than go into one commit, those come first, so that what is learnt doesn't depend on batches.</returns>
    public static async Task<(UserCommit Commit, RankModel? Model, int Applied)> ApplyAsync(UserKey shard, App? app, string? reason, List<FeedbackMessage> messages, IStateStore state, CancellationToken cancellation)
    {
        if (app?.Space is null || state is not IEventStore store)
        {
            var note = app is null ? reason : app.Space is null ? "an app that doesn't rank" : "a store without events";
            return (new UserCommit { User = shard, ExpectedTag = null, Head = null, Accepted = [.. messages.Select(message => new AcceptedFeedback(message, false, note))] }, null, messages.Count);
        }
        var due = await store.FindDueAsync(shard, messages.Max(message => message.At), MostDue(state), cancellation);
        DateTimeOffset? until = due.Count == MostDue(state) ? due[^1].Due : null;
        if (until is not null) messages = [.. messages.TakeWhile(message => message.At < until)];
        var ids = messages.Select(message => message.Rank!.Event).Where(id => id.Length > 0).ToHashSet();
        var named = await store.ReadEventsAsync(shard, ids, cancellation);
        var learning = new EventLearning(app, (await state.ReadUserAsync(shard, cancellation)).Head, named.Concat(due));
        var accepted = messages.Select(learning.Apply).ToList();
        if (until is { } moment && messages.Count == 0) learning.Settle(moment);
        var (commit, model) = learning.Result(shard, accepted);
        return (commit, model, messages.Count);
    }

    /// <summary>What the same messages make again, in the order of their commits.</summary>
    internal static RankModel Replay(App app, IEnumerable<FeedbackMessage> messages)
    {
        var learning = new EventLearning(app, null, []);
        foreach (var message in messages) learning.Apply(message);
        return learning._model;
    }

    /// <summary>A shard's model as it is stored.</summary>
    internal static HeadState StateOf(RankModel model) =>
        new(new HeadWeights { FeaturesVersion = 0, PriorVersion = 0, Updates = model.Updates, Weights = [], Offset = 0, Policy = model.ToBytes(), Tag = "" }, []);

    private AcceptedFeedback Apply(FeedbackMessage message)
    {
        Settle(message.At);
        if (FeedbackLearner.Settled(message) is { } settled) return settled;
        var rank = message.Rank!;
        var (learnt, note) = rank.Kind switch
        {
            EventKind.Ranked => Begin(message, rank),
            EventKind.Activated => Activate(rank),
            EventKind.Rewarded => Reward(rank),
            _ => (0, null),
        };
        // Whoever the event is about, its reward is about too: it is exported and erased with it.
        if (message.User.Length == 0 && _events.TryGetValue(rank.Event, out var named) && named.User is { } user) message = message with { User = user };
        return new AcceptedFeedback(message, learnt > 0, note);
    }

    private (int Learnt, string? Note) Begin(FeedbackMessage message, RankMessage rank)
    {
        if (_events.ContainsKey(rank.Event)) return (0, "an event of this id waits already");
        if (rank.Space != _space.Id) return (0, OtherSpace);
        var chosen = rank.Chosen ?? [];
        if (rank.Apprentice)
        {
            foreach (var one in chosen)
            {
                if (one.Difference is null) _model.Imitate(null, one.Agreed == true);
                else if (Vector(one.Difference) is { } difference) _model.Imitate(difference, one.Agreed == true);
            }
            HasLearnt = true;
        }
        _events[rank.Event] = new Entry(null, new RankEvent
        {
            Space = rank.Space,
            IsActive = !rank.Deferred,
            Places = [.. chosen.Select(one => new RankEvent.Place(one.Slot, rank.Apprentice ? [] : one.Features, 0, 0))],
        }) { Due = rank.Due ?? message.At + _document.Wait, User = message.User.Length > 0 ? message.User : null };
        return (rank.Apprentice ? 1 : 0, null);
    }

    private (int Learnt, string? Note) Activate(RankMessage rank)
    {
        if (Find(rank) is not { } entry) return (0, Unknown);
        if (entry.Event.IsActive) return (0, "active already");
        entry.Event.IsActive = entry.HasChanged = true;
        return (LearnEarliest(entry), null);
    }

    private (int Learnt, string? Note) Reward(RankMessage rank)
    {
        if (Find(rank) is not { } entry) return (0, Unknown);
        string? note = entry.Event.Space == _space.Id ? null : OtherSpace;
        foreach (var reward in rank.Rewards ?? [])
        {
            if (entry.Event.Places.Find(place => place.Slot == reward.Slot) is not { } place) note = "a place that is not in this event, or was rewarded before";
            else if (_document.Aggregation == RewardAggregation.Earliest && place.Rewards > 0) note = "rewarded before";
            else
            {
                place.Add(reward.Value);
                entry.HasChanged = true;
            }
        }
        return (LearnEarliest(entry), note);
    }

    private Entry? Find(RankMessage rank) => _events.TryGetValue(rank.Event, out var entry) && entry.Event.Places.Count > 0 ? entry : null;

    /// <summary>Where the first reward counts, nothing more is waited for.</summary>
    private int LearnEarliest(Entry entry) =>
        entry.Event.IsActive && _document.Aggregation == RewardAggregation.Earliest ? Learn(entry, place => place.Rewards > 0) : 0;

    /// <summary>Learns from the events whose time is over at a moment; those that were never shown are only forgotten.</summary>
    private void Settle(DateTimeOffset at)
    {
        foreach (var (_, entry) in _events.Where(pair => pair.Value.Due <= at && pair.Value.Event.Places.Count > 0).OrderBy(pair => pair.Value.Due).ThenBy(pair => pair.Key, StringComparer.Ordinal).ToList())
        {
            if (entry.Event.IsActive) Settled += Learn(entry, _ => true);
            entry.Event.Places.Clear();
            entry.HasChanged = true;
        }
    }

    private int Learn(Entry entry, Predicate<RankEvent.Place> isReady)
    {
        // The app has changed what features mean: such an event waits until it is forgotten.
        if (entry.Event.Space != _space.Id) return 0;
        var ready = entry.Event.Places.FindAll(isReady);
        foreach (var place in ready)
        {
            var reward = place.Rewards > 0 ? place.Sum : _document.DefaultReward;
            // What an apprentice was rewarded with is counted; it learns from its master's choices.
            if (place.Features.Length == 0) _model.Count(reward);
            else if (Vector(place.Features) is { } features) _model.Reward(features, reward);
            entry.Event.Places.Remove(place);
            entry.HasChanged = HasLearnt = true;
        }
        return ready.Count;
    }

    /// <summary>Null for one that is not of this model's size, which nobody here has sent.</summary>
    private SparseVector? Vector(byte[] bytes)
    {
        var vector = SparseVector.Read(bytes);
        return vector.Count == 0 || vector.Indices.Max() < _space.Dimensions ? vector : null;
    }

    private (UserCommit, RankModel?) Result(UserKey shard, List<AcceptedFeedback> accepted)
    {
        var head = HasLearnt ? StateOf(_model) : null;
        var commit = new UserCommit
        {
            User = shard,
            ExpectedTag = _tag,
            Head = head,
            Accepted = accepted,
            Settled = Settled,
            Events = [.. _events.Where(pair => pair.Value.Stored is null || pair.Value.HasChanged).Select(pair => pair.Value.Change(pair.Key)).Where(change => change is not { Before: null, After: null })],
        };
        return (commit, HasLearnt ? _model : null);
    }

    /// <param name="stored">Null for an event that began in this batch.</param>
    private sealed class Entry(WaitingEvent? stored, RankEvent @event)
    {
        public WaitingEvent? Stored => stored;

        public RankEvent Event => @event;

        public DateTimeOffset Due { get; init; } = stored?.Due ?? default;

        public string? User { get; init; } = stored?.User;

        public bool HasChanged { get; set; }

        public EventChange Change(string id) => new(stored, @event.Places.Count == 0 ? null : new WaitingEvent(id, Due, (stored?.Version ?? 0) + 1, @event.ToBytes()) { User = User });
    }
}
