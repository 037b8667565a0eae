using System.Text.Json;
using System.Text.Json.Serialization;

namespace Skiff.Apps;

/// <summary>The guards of a head's learning: <c>true</c>, <c>false</c>, or an object that says more, <c>{"norm_clip":3,"residual_gate":5,"per_user_hour":3600,"per_caller_hour":null}</c>; null for one of them turns that one off.</summary>
[JsonConverter(typeof(GuardConverter))]
public sealed record GuardDocument
{
    public static GuardDocument Default { get; } = new();

    public static GuardDocument Off { get; } = new() { NormClip = null, ResidualGate = null, PerUserHour = null, PerCallerHour = null };

    /// <summary>How many times its user's usual norm φ may have; beyond it is scaled down to the usual.</summary>
    public double? NormClip { get; init; } = 3;

    /// <summary>How many of its user's usual deviations an example may be from what the head expected; beyond it is quarantined.</summary>
    public double? ResidualGate { get; init; } = 5;

    /// <summary>How many examples of a user are learnt in an hour; what is more is quarantined.</summary>
    public double? PerUserHour { get; init; } = 3600;

    /// <summary>How many examples of a caller (an API key) are learnt in an hour, of all users together; what is more is quarantined. Off by default: most apps have one caller, who speaks for everybody.</summary>
    public double? PerCallerHour { get; init; }

    [JsonIgnore]
    public bool IsOn => this != Off;

    internal void Validate()
    {
        AppDocument.Require(NormClip is null or > 1, $"'head.guards.norm_clip' is {NormClip}: it takes null or a number above 1");
        AppDocument.Require(ResidualGate is null or > 1, $"'head.guards.residual_gate' is {ResidualGate}: it takes null or a number above 1");
        AppDocument.Require(PerUserHour is null or >= 1, $"'head.guards.per_user_hour' is {PerUserHour}: it takes null or a number from 1");
        AppDocument.Require(PerCallerHour is null or >= 1, $"'head.guards.per_caller_hour' is {PerCallerHour}: it takes null or a number from 1");
    }
}

/// <summary>The long form of <see cref="GuardDocument"/>.</summary>
internal sealed record GuardObjectDocument
{
    public double? NormClip { get; set; } = GuardDocument.Default.NormClip;
    public double? ResidualGate { get; set; } = GuardDocument.Default.ResidualGate;
    public double? PerUserHour { get; set; } = GuardDocument.Default.PerUserHour;
    public double? PerCallerHour { get; set; } = GuardDocument.Default.PerCallerHour;
}

internal sealed class GuardConverter : JsonConverter<GuardDocument>
{
    public override GuardDocument Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options)
    {
        if (reader.TokenType == JsonTokenType.True) return GuardDocument.Default;
        if (reader.TokenType == JsonTokenType.False) return GuardDocument.Off;
        if (reader.TokenType != JsonTokenType.StartObject) throw new JsonException("'guards' takes true, false, or an object with 'norm_clip', 'residual_gate', 'per_user_hour' and 'per_caller_hour'");
        var value = JsonSerializer.Deserialize(ref reader, AppJson.Default.GuardObjectDocument)!;
        return new GuardDocument { NormClip = value.NormClip, ResidualGate = value.ResidualGate, PerUserHour = value.PerUserHour, PerCallerHour = value.PerCallerHour };
    }

    public override void Write(Utf8JsonWriter writer, GuardDocument value, JsonSerializerOptions options)
    {
        if (value == GuardDocument.Default || !value.IsOn)
        {
            writer.WriteBooleanValue(value.IsOn);
            return;
        }
        // By hand: here null says something.
        writer.WriteStartObject();
        Number("norm_clip", value.NormClip);
        Number("residual_gate", value.ResidualGate);
        Number("per_user_hour", value.PerUserHour);
        Number("per_caller_hour", value.PerCallerHour);
        writer.WriteEndObject();

        void Number(string name, double? number)
        {
            if (number is { } some) writer.WriteNumber(name, some);
            else writer.WriteNull(name);
        }
    }
}

/// <summary>
/// The prior gives way: the label at age n counts 1 + (by − 1) n / labels times as much as the first, up to <c>by</c> times, beside the prior and beside what was learnt before. A strong prior is right for a user's
/// first ten answers and wrong for the first hundred; one strength can't be both.
/// </summary>
public sealed record PriorFadeDocument
{
    public required double By { get; init; }

    public required int Labels { get; init; }

    /// <summary>What the label at an age counts beside the first one.</summary>
    internal double WeightOf(int age) => Math.Min(By, 1 + (By - 1) * age / Labels);
}
