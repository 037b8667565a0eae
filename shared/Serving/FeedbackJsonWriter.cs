using System.Text.Json;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Serving;

/// <summary>Kept feedback as JSON: for export, and for whoever looks through the quarantine.</summary>
public static class FeedbackJsonWriter
{
    /// <param name="whole">With φ and what the global models said; without them it is one line for a list.</param>
    public static void Write(Utf8JsonWriter json, KeptFeedback kept, bool whole)
    {
        var message = kept.Accepted.Message;
        json.WriteStartObject();
        json.WriteString("feedback_id"u8, message.FeedbackId);
        json.WriteString("user"u8, message.User);
        json.WriteString("at"u8, message.At);
        json.WriteString("committed"u8, kept.Committed);
        json.WriteBoolean("learnt"u8, kept.Accepted.Learnt);
        if (kept.Accepted.IsQuarantined) json.WriteString("reason"u8, kept.Accepted.Note![AcceptedFeedback.Quarantine.Length..]);
        else if (kept.Accepted.Note is { } note) json.WriteString("note"u8, note);
        if (message.Label is { } label) json.WriteNumber("label"u8, label);
        if (message.Value is { } value) WriteNumber(json, "value"u8, value);
        if (message.Answered is { } answered) json.WriteNumber("answered"u8, answered);
        json.WriteNumber("features_version"u8, message.FeaturesVersion);
        json.WriteNumber("prior_version"u8, message.PriorVersion);
        if (message.Released is not null) json.WriteBoolean("released"u8, true);
        if (message.Implicit == true) json.WriteBoolean("implicit"u8, true);
        if (message.Late == true) json.WriteBoolean("late"u8, true);
        if (message.Rank is { } rank) Write(json, rank);
        if (whole)
        {
            Write(json, "features"u8, message.FeatureValues);
            Write(json, "base"u8, message.BaseValues);
            if (message.Input is { } input) json.WriteBase64String("input"u8, input);
            if (message.Members is { } members) json.WriteBase64String("members"u8, members);
            if (message.Propensity is { } propensity) json.WriteNumber("propensity"u8, propensity);
            if (message.Raw is { } raw) json.WriteBase64String("raw"u8, raw);
        }
        json.WriteEndObject();
    }

    /// <summary>What waits for feedback: a decision with what its silence will say; an event that was ranked stands among the feedback.</summary>
    public static void Write(Utf8JsonWriter json, WaitingEvent waiting)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, waiting.Id);
        json.WriteString("due"u8, waiting.Due);
        if (waiting.Body is [(byte)'{', ..])
        {
            json.WritePropertyName("silence"u8);
            Write(json, new KeptFeedback(new AcceptedFeedback(FeedbackMessage.Read(waiting.Body), false, null), 0, default), whole: true);
        }
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, RankMessage rank)
    {
        json.WriteStartObject("rank"u8);
        json.WriteString("kind"u8, JsonNamingPolicy.SnakeCaseLower.ConvertName(rank.Kind.ToString()));
        json.WriteString("event"u8, rank.Event);
        if (rank.Due is { } due) json.WriteString("due"u8, due);
        if (rank.Chosen is { } chosen)
        {
            json.WriteStartArray("chosen"u8);
            foreach (var one in chosen)
            {
                json.WriteStartObject();
                json.WriteString("slot"u8, one.Slot);
                json.WriteString("id"u8, one.Action);
                json.WriteNumber("probability"u8, one.Propensity);
                json.WriteBase64String("features"u8, one.Features);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        if (rank.Rewards is { } rewards)
        {
            json.WriteStartArray("rewards"u8);
            foreach (var one in rewards)
            {
                json.WriteStartObject();
                json.WriteString("slot"u8, one.Slot);
                json.WriteNumber("value"u8, one.Value);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        json.WriteEndObject();
    }

    public static void Write(Utf8JsonWriter json, HeadState head)
    {
        json.WriteStartObject();
        json.WriteNumber("features_version"u8, head.Weights.FeaturesVersion);
        json.WriteNumber("prior_version"u8, head.Weights.PriorVersion);
        json.WriteNumber("updates"u8, head.Weights.Updates);
        json.WriteNumber("offset"u8, head.Weights.Offset);
        Write(json, "weights"u8, head.Weights.Weights);
        Write(json, "covariance"u8, head.Covariance);
        if (head.Memory.Length > 0) json.WriteBase64String("memory"u8, head.Memory);
        if (head.Weights.Policy is { } policy) json.WriteBase64String("policy"u8, policy);
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, ReadOnlySpan<byte> name, ReadOnlySpan<float> values)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            // JSON has no other numbers; what stands in quarantine may be one.
            if (float.IsFinite(value)) json.WriteNumberValue(value);
            else json.WriteNullValue();
        }
        json.WriteEndArray();
    }

    private static void WriteNumber(Utf8JsonWriter json, ReadOnlySpan<byte> name, double value)
    {
        if (double.IsFinite(value)) json.WriteNumber(name, value);
        else json.WriteNull(name);
    }
}
