using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Skiff.Azure;

/// <summary>An item of a queue, which is a JSON object.</summary>
public sealed record QueueItem
{
    /// <summary>The object as UTF-8.</summary>
    public required ReadOnlyMemory<byte> Json { get; init; }

    /// <summary>What the queue knows it by; null where the host doesn't say.</summary>
    public string? MessageId { get; init; }

    /// <summary>How often it has been handed out, this time included.</summary>
    public int DequeueCount { get; init; } = 1;

    /// <summary>Reads what the host posts: <c>{"Data":{"&lt;binding&gt;":…},"Metadata":{…}}</c>.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static async Task<QueueItem> ReadAsync(Stream body, CancellationToken cancellation)
    {
        using var invocation = await ParseAsync(body, cancellation);
        if (Member(invocation.RootElement, "Data") is not { ValueKind: JsonValueKind.Object } data) throw new JsonException("the invocation has no 'Data'");
        using var bindings = data.EnumerateObject();
        if (!bindings.MoveNext()) throw new JsonException("the invocation's 'Data' is empty: it takes one binding, the queue");
        var item = bindings.Current.Value;
        if (bindings.MoveNext()) throw new JsonException("the invocation's 'Data' has several bindings: it takes one, the queue");
        var metadata = Member(invocation.RootElement, "Metadata") ?? default;
        return new QueueItem
        {
            Json = Decode(item),
            MessageId = Member(metadata, "Id") is { ValueKind: JsonValueKind.String } id ? Unwrap(Text(id)) : null,
            DequeueCount = int.TryParse(Member(metadata, "DequeueCount")?.ToString(), NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : 1,
        };
    }

    private static async Task<JsonDocument> ParseAsync(Stream body, CancellationToken cancellation)
    {
        try
        {
            return await JsonDocument.ParseAsync(body, cancellationToken: cancellation);
        }
        catch (JsonException e)
        {
            throw new JsonException($"the invocation is not JSON: {e.Message}");
        }
    }

    /// <summary>
    /// An item stands there as the documentation has it, as a string; or, as the host writes strings, as a JSON string within that string; or as base64 where the binding's
    /// <c>dataType</c> is binary or whoever sent it had encoded it once more than the host decodes; or as the object itself.
    /// </summary>
    private static byte[] Decode(JsonElement item)
    {
        if (item.ValueKind == JsonValueKind.Object) return Encoding.UTF8.GetBytes(item.GetRawText());
        if (item.ValueKind != JsonValueKind.String) throw NotAnObject();
        var text = Unwrap(Text(item));
        var json = Encoding.UTF8.GetBytes(text);
        if (!text.TrimStart().StartsWith('{') && Base64.IsValid(text)) json = Convert.FromBase64String(text);
        try
        {
            using var document = JsonDocument.Parse(json);
            return document.RootElement.ValueKind == JsonValueKind.Object ? json : throw NotAnObject();
        }
        catch (JsonException)
        {
            // The reader's own words would quote from the item.
            throw NotAnObject();
        }
    }

    private static JsonException NotAnObject() => new("the item is not a JSON object, nor one in a JSON string or in base64");

    /// <summary>The string within a string.</summary>
    private static string Unwrap(string text)
    {
        if (!text.StartsWith('"')) return text;
        try
        {
            using var inner = JsonDocument.Parse(text);
            return Text(inner.RootElement);
        }
        catch (JsonException)
        {
            return text;
        }
    }

    private static string Text(JsonElement value)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw new JsonException("the invocation has a string that is not text: half of a surrogate pair, or not UTF-8");
        }
    }

    private static JsonElement? Member(JsonElement json, string name) => json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) ? value : null;
}
