using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Feedback;

/// <summary>Feedback on its way from the caller to the head: validated, with the features that the answer was made of, so that learning needs nothing else.</summary>
public sealed record FeedbackMessage
{
    public required string Tenant { get; init; }
    public required string App { get; init; }

    /// <summary>Empty when the decision was nobody's in particular.</summary>
    public required string User { get; init; }

    /// <summary>Of a policy that goes by contexts: then it is learnt there, and the message names no user.</summary>
    public string? Context { get; init; }

    /// <summary>Counts once for an app, whatever comes under it a second time.</summary>
    public required string FeedbackId { get; init; }

    /// <summary>Index of the right label, for apps with labels.</summary>
    public int? Label { get; init; }

    /// <summary>The right value, for regressions.</summary>
    public double? Value { get; init; }

    /// <summary>The label that was answered, where the feedback names a decision.</summary>
    public int? Answered { get; init; }

    public int FeaturesVersion { get; init; }
    public int PriorVersion { get; init; }

    /// <summary>φ as little-endian float32; empty for apps without a head.</summary>
    public byte[] Features { get; init; } = [];

    /// <summary>What the global models said, K little-endian float32; empty for nothing, that is zeros.</summary>
    public byte[] Base { get; init; } = [];

    /// <summary>What an ensemble's members said, as its policy keeps it; null without a policy.</summary>
    public byte[]? Members { get; init; }

    /// <summary>The probability with which the policy chose the member that answered.</summary>
    public double? Propensity { get; init; }

    /// <summary>The input as the app's models take it, where the app keeps inputs and the feedback brought one along: other features can be made of it.</summary>
    public byte[]? Input { get; init; }

    /// <summary>Of an app that ranks: what happened to which event. Such a message names no user.</summary>
    public RankMessage? Rank { get; init; }

    /// <summary>When it was accepted.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>When the decision was made that it is about, where it names one: what a user's erasure has taken away is not learnt from what was sealed before.</summary>
    public DateTimeOffset? Decided { get; init; }

    /// <summary>Which of the tenant's keys it came with; null where that is not known.</summary>
    public string? Caller { get; init; }

    /// <summary>Why it was held back before anybody looked at its user.</summary>
    public string? Held { get; init; }

    /// <summary>True where the decision's time for feedback was over: kept and counted, not learnt.</summary>
    public bool? Late { get; init; }

    /// <summary>True where nobody said it: a while passed in silence, which the app takes for an answer.</summary>
    public bool? Implicit { get; init; }

    /// <summary>Set while it waits for that.</summary>
    public Silence? Silence { get; init; }

    /// <summary>Set where somebody has looked at it and let it out of quarantine, so that the guards pass it: its place in the order when they kept it out, 0 where something else did.</summary>
    public long? Released { get; init; }

    /// <summary>Why it is no feedback: then only <see cref="Raw"/> says what came.</summary>
    public string? Fault { get; init; }

    /// <summary>What came in the place of feedback.</summary>
    public byte[]? Raw { get; init; }

    /// <summary>Whose state it changes.</summary>
    [JsonIgnore]
    public UserKey Owner => Rank is { } rank ? UserKey.OfShard(Tenant, App, rank.Shard)
        : Silence is { } silence ? UserKey.OfSilence(Tenant, App, silence.Shard)
        : Context is { } context ? UserKey.OfContext(Tenant, App, context) : new UserKey(Tenant, App, User);

    /// <summary>From when what it says of its user is.</summary>
    [JsonIgnore]
    public DateTimeOffset Since => Decided is { } decided && decided < At ? decided : At;

    [JsonIgnore]
    public ReadOnlySpan<float> FeatureValues => MemoryMarshal.Cast<byte, float>(Features);

    [JsonIgnore]
    public ReadOnlySpan<float> BaseValues => MemoryMarshal.Cast<byte, float>(Base);

    public byte[] Serialize() => JsonSerializer.SerializeToUtf8Bytes(this, FeedbackJson.Default.FeedbackMessage);

    public static FeedbackMessage Deserialize(ReadOnlySpan<byte> json) =>
        JsonSerializer.Deserialize(json, FeedbackJson.Default.FeedbackMessage) is { Tenant: not null, App: not null, User: not null, FeedbackId: not null, Features: not null, Base: not null } message
            ? message
            : throw new JsonException("the message is null, or a part of it that it takes");

    /// <summary>Reads what a queue has brought. What is no feedback becomes a message of nobody that says so: it can be kept and looked at like any other, and holds up nobody.</summary>
    public static FeedbackMessage Read(ReadOnlySpan<byte> body)
    {
        try
        {
            return Deserialize(body);
        }
        catch (JsonException e)
        {
            return new FeedbackMessage
            {
                Tenant = "", App = "", User = "",
                FeedbackId = Convert.ToHexStringLower(SHA256.HashData(body)),
                Fault = $"not feedback: {e.Message}",
                Raw = body.ToArray(),
                At = DateTimeOffset.UnixEpoch,
            };
        }
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, UseStringEnumConverter = true)]
[JsonSerializable(typeof(FeedbackMessage))]
internal sealed partial class FeedbackJson : JsonSerializerContext;
