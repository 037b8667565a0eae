using System.Text.Json;
using System.Text.Json.Serialization;

namespace Skiff.Apps;

/// <summary>How long a process may answer with a user's head that another process may have taught meanwhile: <c>true</c> for a second, <c>false</c> for never, or <c>{"max_age_ms":5000}</c>.</summary>
[JsonConverter(typeof(HeadCacheConverter))]
public sealed record HeadCacheDocument(bool IsOn, double MaxAgeMs)
{
    /// <summary>The longest that an app may ask for.</summary>
    public static readonly TimeSpan LongestAge = TimeSpan.FromMinutes(1);

    public static HeadCacheDocument On { get; } = new(true, 1000);

    public static HeadCacheDocument Off { get; } = new(false, 0);

    /// <summary>The staleness bound. At 0 the store is asked each time, for the version alone where that is enough.</summary>
    public TimeSpan MaxAge => TimeSpan.FromMilliseconds(MaxAgeMs);

    internal void Validate() => AppDocument.Require(MaxAgeMs >= 0 && MaxAgeMs <= LongestAge.TotalMilliseconds, $"'head.cache.max_age_ms' is {MaxAgeMs}: it takes 0 to {LongestAge.TotalMilliseconds}");
}

/// <summary>The long form of <see cref="HeadCacheDocument"/>.</summary>
internal sealed record HeadCacheObjectDocument
{
    public double MaxAgeMs { get; set; } = HeadCacheDocument.On.MaxAgeMs;
}

internal sealed class HeadCacheConverter : JsonConverter<HeadCacheDocument>
{
    public override HeadCacheDocument Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) => reader.TokenType switch
    {
        JsonTokenType.True => HeadCacheDocument.On,
        JsonTokenType.False => HeadCacheDocument.Off,
        JsonTokenType.StartObject => new HeadCacheDocument(true, JsonSerializer.Deserialize(ref reader, AppJson.Default.HeadCacheObjectDocument)!.MaxAgeMs),
        _ => throw new JsonException("'cache' of a head takes true, false, or an object with 'max_age_ms'"),
    };

    public override void Write(Utf8JsonWriter writer, HeadCacheDocument value, JsonSerializerOptions options)
    {
        if (value == HeadCacheDocument.On || !value.IsOn) writer.WriteBooleanValue(value.IsOn);
        else JsonSerializer.Serialize(writer, new HeadCacheObjectDocument { MaxAgeMs = value.MaxAgeMs }, AppJson.Default.HeadCacheObjectDocument);
    }
}
