using Skiff.Serving;
using Skiff.Unit.Batching;

namespace Skiff.Unit.Serving;

public sealed class DeadlineTests
{
    private static readonly ManualTime Time = new();
    private static readonly long Millisecond = Time.TimestampFrequency / 1000;

    [Fact]
    public void NobodyAsks_ThereIsNone() => Assert.Equal(long.MaxValue, Deadline.Of(5, null, 0, Time));

    [Theory]
    [InlineData(20.0, 0, 20)]
    [InlineData(null, 30_000, 30)]
    [InlineData(20.0, 30_000, 20)]
    [InlineData(40.0, 30_000, 30)]
    public void NearestOfWhatTheCallerSays_CountsFromTheArrival(double? milliseconds, long microseconds, long expected) =>
        Assert.Equal(7 + expected * Millisecond, Deadline.Of(7, milliseconds, microseconds, Time));

    [Fact]
    public void BeyondAllTime_IsNone()
    {
        Assert.Equal(long.MaxValue, Deadline.Of(7, 1e300, 0, Time));
        Assert.Equal(long.MaxValue, Deadline.Of(7, null, long.MaxValue, Time));
    }
}
