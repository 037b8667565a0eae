using Skiff.Monitoring;

namespace Skiff.Unit.Monitoring;

public sealed class HistogramTests
{
    [Fact]
    public void Observation_FallsIntoTheFirstBucketThatHoldsIt()
    {
        var histogram = new Histogram([1, 2]);

        foreach (var value in new[] { 0.5, 1, 1.5, 2, 9 }) histogram.Observe(value);

        Assert.Equal([2, 2, 1], histogram.Counts());
        Assert.Equal(14, histogram.Sum, 6);
    }
}
