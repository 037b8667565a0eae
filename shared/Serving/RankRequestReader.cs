using System.Text;
using Skiff.Ranking;
using Skiff.Serving.Json;

namespace Skiff.Serving;

/// <summary>Reads what is to be ranked and what became of it: as <c>/apps/{app}/rank</c> takes it, where fields that are not known are refused, and as Azure Personalizer's clients say it, where they are passed over, as that service did.</summary>
internal static class RankRequestReader
{
    /// <summary>Reads <c>{"user"?,"context":…,"candidates":[{"id","features"?}],"excluded"?,"event_id"?,"defer"?,"slots"?:[{"id","features"?,"excluded"?,"baseline"?}]}</c>.</summary>
    public static RankRequest ReadRank(ReadOnlySpan<byte> body)
    {
        var request = new RankRequest();
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("context"u8)) ReadFeatures(ref cursor, request.Context, "'context'");
            else if (name.SequenceEqual("candidates"u8)) ReadActions(ref cursor, request, "'candidates'", isStrict: true);
            else if (name.SequenceEqual("excluded"u8)) ReadIds(ref cursor, request.Excluded, "'excluded'");
            else if (name.SequenceEqual("event_id"u8)) request.EventId = ReadText(ref cursor, "'event_id'");
            else if (name.SequenceEqual("user"u8)) request.User = AppRequestReader.ReadUser(ref cursor);
            else if (name.SequenceEqual("defer"u8)) request.Defers = cursor.ReadBoolean("'defer'");
            else if (name.SequenceEqual("slots"u8)) ReadSlots(ref cursor, request, "excluded"u8, "baseline"u8, isStrict: true);
            else throw Unknown(name, "user, context, candidates, excluded, event_id, defer and slots");
        }
        cursor.End();
        return request;
    }

    /// <summary>Reads <c>{"contextFeatures"?,"actions":[{"id","features"}],"excludedActions"?,"eventId"?,"deferActivation"?}</c>.</summary>
    /// <param name="hasSlots">Whether there are <c>"slots":[{"id","features"?,"excludedActions"?,"baselineAction"}]</c> too.</param>
    public static RankRequest ReadPersonalizer(ReadOnlySpan<byte> body, bool hasSlots)
    {
        var request = new RankRequest();
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("contextFeatures"u8)) ReadFeatures(ref cursor, request.Context, "'contextFeatures'");
            else if (name.SequenceEqual("actions"u8)) ReadActions(ref cursor, request, "'actions'", isStrict: false);
            else if (name.SequenceEqual("excludedActions"u8)) ReadIds(ref cursor, request.Excluded, "'excludedActions'");
            else if (name.SequenceEqual("eventId"u8)) request.EventId = ReadText(ref cursor, "'eventId'") is { Length: > 0 } id ? id : null;
            else if (name.SequenceEqual("deferActivation"u8)) request.Defers = !cursor.TryReadNull() && cursor.ReadBoolean("'deferActivation'");
            else if (hasSlots && name.SequenceEqual("slots"u8)) ReadSlots(ref cursor, request, "excludedActions"u8, "baselineAction"u8, isStrict: false);
            else cursor.Skip();
        }
        cursor.End();
        if (!hasSlots) return request;
        if (request.Slots.Count == 0) throw RequestException.Invalid("'slots' is missing: it takes at least one");
        return request.Slots.Find(slot => slot.Baseline is null) is { } without ? throw RequestException.Invalid($"slot '{without.Id}' has no 'baselineAction'") : request;
    }

    /// <summary>Reads <c>{"value":1}</c>.</summary>
    public static double ReadReward(ReadOnlySpan<byte> body)
    {
        double? value = null;
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("value"u8)) value = cursor.ReadDouble("'value'");
            else cursor.Skip();
        }
        cursor.End();
        return value ?? throw RequestException.Invalid("'value' is missing: it takes a number from -1 to 1");
    }

    /// <summary>Reads <c>{"reward":[{"slotId","value"}]}</c>.</summary>
    public static List<SlotReward> ReadSlotRewards(ReadOnlySpan<byte> body)
    {
        var rewards = new List<SlotReward>();
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (!name.SequenceEqual("reward"u8))
            {
                cursor.Skip();
                continue;
            }
            cursor.BeginArray("'reward'");
            while (cursor.NextElement()) rewards.Add(ReadSlotReward(ref cursor, "slotId"u8, isStrict: false));
        }
        cursor.End();
        return rewards.Count > 0 ? rewards : throw RequestException.Invalid("'reward' is missing or empty: it takes {\"slotId\",\"value\"}, one for each slot that is rewarded");
    }

    /// <summary>What an app's feedback says of an event.</summary>
    /// <param name="Rewards">None where it was only shown.</param>
    public sealed record EventFeedback(string Event, List<SlotReward> Rewards, bool IsActivation, string? FeedbackId);

    /// <summary>Reads <c>{"id":"EVENT","value":1}</c>, <c>{"id":"EVENT","values":[{"slot","value"}]}</c> or <c>{"id":"EVENT","activate":true}</c>, with a <c>feedback_id</c> for rewards that shall count once.</summary>
    public static EventFeedback ReadFeedback(ReadOnlySpan<byte> body)
    {
        string? id = null, feedbackId = null;
        var rewards = new List<SlotReward>();
        var activates = false;
        var said = 0;
        var cursor = new JsonCursor(body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("id"u8)) id = cursor.ReadString("'id'");
            else if (name.SequenceEqual("value"u8))
            {
                said++;
                rewards.Add(new SlotReward("", cursor.ReadDouble("'value'")));
            }
            else if (name.SequenceEqual("values"u8))
            {
                said++;
                cursor.BeginArray("'values'");
                while (cursor.NextElement()) rewards.Add(ReadSlotReward(ref cursor, "slot"u8, isStrict: true));
            }
            else if (name.SequenceEqual("activate"u8))
            {
                said++;
                activates = cursor.ReadBoolean("'activate'");
            }
            else if (name.SequenceEqual("feedback_id"u8))
            {
                feedbackId = cursor.ReadString("'feedback_id'");
                if (feedbackId.Length is 0 or > AppRequestReader.LongestFeedbackId) throw RequestException.Invalid($"'feedback_id' has {feedbackId.Length} characters: it takes 1 to {AppRequestReader.LongestFeedbackId}");
            }
            else throw Unknown(name, "id; value, values or activate; feedback_id");
        }
        cursor.End();
        if (id is null) throw RequestException.Invalid("'id' is missing: it takes the id of what was ranked");
        if (said != 1 || activates == rewards.Count > 0) throw RequestException.Invalid("feedback on what was ranked takes 'value', 'values' with at least one or 'activate':true, one of them");
        return new EventFeedback(id, rewards, activates, feedbackId);
    }

    private static SlotReward ReadSlotReward(ref JsonCursor cursor, ReadOnlySpan<byte> slotName, bool isStrict)
    {
        string? slot = null;
        double? value = null;
        cursor.BeginObject("a reward");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual(slotName)) slot = cursor.ReadString("a reward's slot");
            else if (name.SequenceEqual("value"u8)) value = cursor.ReadDouble("'value'");
            else if (isStrict) throw Unknown(name, $"{Encoding.UTF8.GetString(slotName)} and value");
            else cursor.Skip();
        }
        return new SlotReward(
            slot ?? throw RequestException.Invalid($"a reward has no '{Encoding.UTF8.GetString(slotName)}'"),
            value ?? throw RequestException.Invalid("a reward has no 'value': it takes a number from -1 to 1"));
    }

    private static void ReadActions(ref JsonCursor cursor, RankRequest request, string what, bool isStrict)
    {
        cursor.BeginArray(what);
        while (cursor.NextElement())
        {
            if (request.Actions.Count == RankRequest.MostActions) throw RequestException.Invalid($"{what} has more than {RankRequest.MostActions} elements");
            // Its id may come after its features.
            var start = cursor.Mark();
            var action = new RankAction(ReadId(ref cursor, what));
            cursor.Return(start);
            cursor.BeginObject();
            while (cursor.NextProperty(out var name))
            {
                if (name.SequenceEqual("id"u8)) cursor.Skip();
                else if (name.SequenceEqual("features"u8)) ReadFeatures(ref cursor, action.Features, $"'features' of '{action.Id}'");
                else if (isStrict) throw Unknown(name, "id and features");
                else cursor.Skip();
            }
            request.Actions.Add(action);
        }
    }

    private static void ReadSlots(ref JsonCursor cursor, RankRequest request, ReadOnlySpan<byte> excluded, ReadOnlySpan<byte> baseline, bool isStrict)
    {
        cursor.BeginArray("'slots'");
        while (cursor.NextElement())
        {
            if (request.Slots.Count == RankRequest.MostActions) throw RequestException.Invalid($"'slots' has more than {RankRequest.MostActions} elements");
            var start = cursor.Mark();
            var slot = new RankSlot(ReadId(ref cursor, "'slots'"));
            cursor.Return(start);
            cursor.BeginObject();
            while (cursor.NextProperty(out var name))
            {
                if (name.SequenceEqual("id"u8)) cursor.Skip();
                else if (name.SequenceEqual("features"u8)) ReadFeatures(ref cursor, slot.Features, $"'features' of slot '{slot.Id}'");
                else if (name.SequenceEqual(excluded)) ReadIds(ref cursor, slot.Excluded, $"what slot '{slot.Id}' excludes");
                else if (name.SequenceEqual(baseline)) slot.Baseline = ReadText(ref cursor, $"the baseline of slot '{slot.Id}'");
                else if (isStrict) throw Unknown(name, $"id, features, {Encoding.UTF8.GetString(excluded)} and {Encoding.UTF8.GetString(baseline)}");
                else cursor.Skip();
            }
            request.Slots.Add(slot);
        }
    }

    private static string ReadId(ref JsonCursor cursor, string what)
    {
        string? id = null;
        cursor.BeginObject($"an element of {what}");
        while (cursor.NextProperty(out var name))
        {
            if (name.SequenceEqual("id"u8)) id = cursor.ReadString("'id'");
            else cursor.Skip();
        }
        return id ?? throw RequestException.Invalid($"an element of {what} has no 'id'");
    }

    private static void ReadFeatures(ref JsonCursor cursor, FeatureReader features, string what)
    {
        if (!cursor.TryReadNull()) features.Read(ref cursor, what);
    }

    private static void ReadIds(ref JsonCursor cursor, List<string> ids, string what)
    {
        if (cursor.TryReadNull()) return;
        cursor.BeginArray(what);
        while (cursor.NextElement()) ids.Add(cursor.ReadString(what));
    }

    private static string? ReadText(ref JsonCursor cursor, string what) => cursor.TryReadNull() ? null : cursor.ReadString(what);

    private static RequestException Unknown(ReadOnlySpan<byte> name, string allowed) => RequestException.Invalid($"unknown field '{Encoding.UTF8.GetString(name)}': it takes {allowed}");
}
