using System.Text.Json;

namespace Skiff.Lambda;

/// <summary>An event is of a kind that the function doesn't take, or is not what its kind should be. The invocation fails with this message.</summary>
public sealed class InvalidEventException(string message) : Exception(message);

/// <summary>Reads parts of an event, of which nothing is taken for granted.</summary>
internal static class EventJson
{
    public static JsonDocument Parse(ReadOnlyMemory<byte> json)
    {
        try
        {
            var document = JsonDocument.Parse(json);
            return document.RootElement.ValueKind == JsonValueKind.Object ? document : throw new InvalidEventException("the event is not a JSON object");
        }
        catch (JsonException e)
        {
            throw new InvalidEventException($"the event is not JSON: {e.Message}");
        }
    }

    /// <summary>A member that is there and not null.</summary>
    public static JsonElement? Find(this JsonElement json, string name) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;

    /// <summary>The string in a member.</summary>
    public static string? FindText(this JsonElement json, string name) => json.Find(name) is { } value ? value.Text(name) : null;

    public static string Text(this JsonElement value, string name)
    {
        if (value.ValueKind != JsonValueKind.String) throw new InvalidEventException($"the event's '{name}' is not a string");
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw new InvalidEventException($"the event's '{name}' is not text: half of a surrogate pair, or not UTF-8");
        }
    }

    public static string NeedText(this JsonElement json, string name) => json.FindText(name) ?? throw new InvalidEventException($"the event has no '{name}'");

    public static JsonElement.ArrayEnumerator FindArray(this JsonElement json, string name) => json.Find(name) switch
    {
        null => default,
        { ValueKind: JsonValueKind.Array } array => array.EnumerateArray(),
        _ => throw new InvalidEventException($"the event's '{name}' is not an array"),
    };

    /// <summary>What to say about an event that nobody here handles.</summary>
    public static InvalidEventException UnknownKind(JsonElement root)
    {
        var kind = root.Find("Records") is { ValueKind: JsonValueKind.Array } records && records.GetArrayLength() > 0 && records[0].Find("eventSource") is { } source
            ? $"records of {Quote(source)}"
            : root.Find("httpMethod") is not null ? "an HTTP request in payload format 1.0 (set PayloadFormatVersion to 2.0)"
            : root.Find("source") is { } from ? $"an event of {Quote(from)}"
            : "an event of an unknown kind";
        return new InvalidEventException($"this function does not take {kind}: it takes HTTP requests in payload format 2.0, and SQS messages where it handles them");
    }

    private static string Quote(JsonElement value)
    {
        var text = value.GetRawText();
        return text.Length <= 64 ? text : text[..64] + "…";
    }
}
