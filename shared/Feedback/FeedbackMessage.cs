using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Personalization;

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

    public required DateTimeOffset At { get; init; }

    /// <summary>Whose state it changes.</summary>
    [JsonIgnore]
    public UserKey Owner => Context is { } context ? UserKey.OfContext(Tenant, App, context) : new UserKey(Tenant, App, User);

    [JsonIgnore]
    public ReadOnlySpan<float> FeatureValues => MemoryMarshal.Cast<byte, float>(Features);

    [JsonIgnore]
    public ReadOnlySpan<float> BaseValues => MemoryMarshal.Cast<byte, float>(Base);

    public byte[] Serialize() => JsonSerializer.SerializeToUtf8Bytes(this, FeedbackJson.Default.FeedbackMessage);

    public static FeedbackMessage Deserialize(ReadOnlySpan<byte> json) =>
        JsonSerializer.Deserialize(json, FeedbackJson.Default.FeedbackMessage) ?? throw new JsonException("the message is null");
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(FeedbackMessage))]
internal sealed partial class FeedbackJson : JsonSerializerContext;
