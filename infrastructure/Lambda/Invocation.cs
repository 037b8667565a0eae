namespace Skiff.Lambda;

/// <summary>One event, as the Runtime API hands it out.</summary>
public sealed record Invocation
{
    public required string Id { get; init; }

    /// <summary>When Lambda gives up on it.</summary>
    public required DateTimeOffset Deadline { get; init; }

    /// <summary>X-Ray's header: <c>Root=…;Parent=…;Sampled=…</c>.</summary>
    public string? TraceId { get; init; }

    /// <summary>JSON.</summary>
    public required ReadOnlyMemory<byte> Event { get; init; }
}
