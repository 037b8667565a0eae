using System.Buffers;
using System.Globalization;
using System.Text.Json;

namespace Skiff.Lambda;

/// <summary>A message of a queue.</summary>
public sealed record SqsRecord
{
    public required string MessageId { get; init; }
    public required string Body { get; init; }

    /// <summary>The group that a FIFO queue keeps in order; null in other queues.</summary>
    public string? GroupId { get; init; }

    /// <summary>How often it has been handed out, this time included.</summary>
    public required int ReceiveCount { get; init; }
}

/// <summary>Handles a batch of messages, in order. What throws fails all of them.</summary>
/// <returns>The ids of messages that should come again; what can never succeed doesn't belong among them, or it blocks its group.</returns>
public delegate Task<IReadOnlyCollection<string>> SqsHandler(IReadOnlyList<SqsRecord> records, CancellationToken cancellation);

/// <summary>Messages of a queue, whose event source mapping has <c>FunctionResponseTypes: [ReportBatchItemFailures]</c>.</summary>
internal static class SqsEvent
{
    public static bool Is(JsonElement root) =>
        root.Find("Records") is { ValueKind: JsonValueKind.Array } records && records.GetArrayLength() > 0
        && records[0].Find("eventSource") is { ValueKind: JsonValueKind.String } source && source.ValueEquals("aws:sqs"u8);

    /// <returns><c>{"batchItemFailures":[…]}</c>.</returns>
    /// <exception cref="InvalidEventException">The event is malformed.</exception>
    public static async Task<ReadOnlyMemory<byte>> HandleAsync(JsonElement root, SqsHandler handler, CancellationToken cancellation)
    {
        var records = root.FindArray("Records").Select(Read).ToList();
        var failed = await handler(records, cancellation);
        return Write(WithRestOfGroup(records, [.. failed]));
    }

    /// <summary>
    /// A message of a FIFO queue that comes again must not find that later ones of its group went before: so they come again too. Those that were handled count once,
    /// since delivery is at least once anyway.
    /// </summary>
    private static IEnumerable<string> WithRestOfGroup(List<SqsRecord> records, HashSet<string> failed)
    {
        // An id that isn't in the batch would fail all of it, without a word.
        if (failed.FirstOrDefault(id => records.All(record => record.MessageId != id)) is { } unknown)
        {
            throw new InvalidOperationException($"message '{unknown}' failed, which is not in the batch");
        }
        var groups = new HashSet<string>();
        foreach (var record in records)
        {
            if (failed.Contains(record.MessageId))
            {
                if (record.GroupId is { } group) groups.Add(group);
            }
            else if (record.GroupId is null || !groups.Contains(record.GroupId)) continue;
            yield return record.MessageId;
        }
    }

    private static SqsRecord Read(JsonElement record)
    {
        var attributes = record.Find("attributes") ?? default;
        return new SqsRecord
        {
            MessageId = record.NeedText("messageId"),
            Body = record.NeedText("body"),
            GroupId = attributes.FindText("MessageGroupId"),
            ReceiveCount = int.TryParse(attributes.FindText("ApproximateReceiveCount"), NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : 1,
        };
    }

    private static ReadOnlyMemory<byte> Write(IEnumerable<string> failures)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        json.WriteStartObject();
        json.WriteStartArray("batchItemFailures"u8);
        foreach (var id in failures)
        {
            json.WriteStartObject();
            json.WriteString("itemIdentifier"u8, id);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }
}
