namespace Skiff.Unit.Batching;

/// <summary>A clock that stands until it is moved.</summary>
internal sealed class ManualTime : TimeProvider
{
    /// <summary>A timestamp.</summary>
    public long Now { get; set; } = 1;

    public override long GetTimestamp() => Now;

    public void Advance(TimeSpan time) => Now += (long)(time.TotalSeconds * TimestampFrequency);
}
