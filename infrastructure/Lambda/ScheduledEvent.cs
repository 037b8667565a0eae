using System.Text.Json;

namespace Skiff.Lambda;

/// <summary>Handles a schedule's event.</summary>
/// <param name="what">What is to be done, as the schedule's input says.</param>
public delegate Task ScheduleHandler(string what, CancellationToken cancellation);

/// <summary>What a schedule of EventBridge sends whose input is <c>{"schedule":"…"}</c>.</summary>
internal static class ScheduledEvent
{
    private const string Field = "schedule";

    public static bool Is(JsonElement root) => root.Find(Field) is { ValueKind: JsonValueKind.String };

    /// <returns>Nothing that anybody reads, as JSON.</returns>
    public static async Task<ReadOnlyMemory<byte>> HandleAsync(JsonElement root, ScheduleHandler handler, CancellationToken cancellation)
    {
        await handler(root.NeedText(Field), cancellation);
        return "{}"u8.ToArray();
    }
}
