using Skiff.Batching;

namespace Skiff.Unit.Batching;

public sealed class AdaptiveLimitTests
{
    private static readonly TimeSpan Objective = TimeSpan.FromMilliseconds(20);

    [Fact]
    public void FastFullBatches_GrowByTwo_UpToTheMost()
    {
        var limit = new AdaptiveLimit(6);

        Assert.Equal([3, 5, 6, 6], Enumerable.Range(0, 4).Select(_ => After(limit, isFull: true, 1)));
    }

    [Fact]
    public void BatchesThatWereNotFull_TellNothingOfLargerOnes()
    {
        var limit = new AdaptiveLimit(100);

        Assert.Equal(1, After(limit, isFull: false, 1));
    }

    [Theory]
    [InlineData(8.9, 103)] // half the objective is 10 ms
    [InlineData(9.1, 101)]
    [InlineData(10, 90)]
    [InlineData(50, 90)]
    public void NearTheObjectiveItHolds_AndBeyondItGivesATenthBack(double milliseconds, int rows)
    {
        var limit = new AdaptiveLimit(1000);
        while (limit.Rows < 101) After(limit, isFull: true, 1);

        Assert.Equal(rows, After(limit, isFull: true, milliseconds));
    }

    [Fact]
    public void HoweverSlow_OneRowIsLeft()
    {
        var limit = new AdaptiveLimit(100);

        Assert.Equal(1, After(limit, isFull: true, 1000));
    }

    /// <summary>A model that takes a millisecond and a tenth more for each row: the limit ends where a run takes half the objective, and stays there.</summary>
    [Fact]
    public void ALinearModel_EndsAtHalfTheObjective()
    {
        var limit = new AdaptiveLimit(1000);
        var seen = new List<int>();

        for (var i = 0; i < 200; i++) seen.Add(After(limit, isFull: true, 1 + 0.1 * limit.Rows));

        Assert.All(seen.TakeLast(50), rows => Assert.InRange(rows, 75, 91));
    }

    private static int After(AdaptiveLimit limit, bool isFull, double milliseconds)
    {
        limit.Ran(isFull, TimeSpan.FromMilliseconds(milliseconds), Objective);
        return limit.Rows;
    }
}
