using Skiff.Serving;
using Skiff.Unit.Batching;

namespace Skiff.Unit.Serving;

public sealed class DeadlineTests
{
    private static readonly ManualTime Time = new();
    private static readonly long Millisecond = Time.TimestampFrequency / 1000;

    [Fact]
    public void NobodyAsks_ThereIsNone() => Assert.Equal(long.MaxValue, Deadline.Of(5, null, null, 0, Time));

    [Theory]
    [InlineData(null, 20.0, 0, 20)]
    [InlineData(null, null, 30_000, 30)]
    [InlineData(null, 20.0, 30_000, 20)]
    [InlineData(null, 40.0, 30_000, 30)]
    [InlineData(10, null, 0, 10)]
    [InlineData(10, 20.0, 30_000, 10)]
    [InlineData(50, 20.0, 30_000, 20)]
    public void NearestOfObjectiveAndWhatTheCallerSays_CountsFromTheArrival(int? objective, double? milliseconds, long microseconds, long expected) =>
        Assert.Equal(7 + expected * Millisecond, Deadline.Of(7, objective is { } ms ? TimeSpan.FromMilliseconds(ms) : null, milliseconds, microseconds, Time));

    [Fact]
    public void BeyondAllTime_IsNone()
    {
        Assert.Equal(long.MaxValue, Deadline.Of(7, null, 1e300, 0, Time));
        Assert.Equal(long.MaxValue, Deadline.Of(7, null, null, long.MaxValue, Time));
    }
}
