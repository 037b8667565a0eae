using Skiff.Batching;

namespace Skiff.Unit.Batching;

public sealed class WaitEstimateTests
{
    [Fact]
    public void BeforeAnythingRan_NothingIsExpected() => Assert.Equal(TimeSpan.Zero, new WaitEstimate().Of(ahead: 1000, rows: 1, running: 1, workers: 1));

    [Fact]
    public void RowsAheadOwnRowsAndTheRunUnderWay_AreCounted()
    {
        var estimate = new WaitEstimate();
        for (var i = 0; i < 50; i++) estimate.Ran(10, 1000);

        Assert.Equal(100, estimate.PerRow, 6);
        Assert.Equal(TimeSpan.FromMicroseconds(100), estimate.Of(ahead: 0, rows: 1, running: 0, workers: 1));
        Assert.Equal(TimeSpan.FromMicroseconds(500 + 2000 + 300), estimate.Of(ahead: 20, rows: 3, running: 1, workers: 1));
        Assert.Equal(TimeSpan.FromMicroseconds(500 + 1000 + 300), estimate.Of(ahead: 20, rows: 3, running: 1, workers: 2));
    }

    [Fact]
    public void LongerRuns_AreBelievedAfterSome_NotAfterOne()
    {
        var estimate = new WaitEstimate();
        for (var i = 0; i < 50; i++) estimate.Ran(10, 1000);

        estimate.Ran(10, 1_000_000);
        Assert.InRange(estimate.PerRow, 100, 200);

        for (var i = 0; i < 200; i++) estimate.Ran(10, 3000);
        Assert.InRange(estimate.PerRow, 290, 310);
    }
}
