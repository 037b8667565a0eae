using Skiff.Batching;

namespace Skiff.Unit.Batching;

public sealed class WorkerTunerTests
{
    [Fact]
    public void OneCore_HasOneWorker()
    {
        var tuner = new WorkerTuner(1);

        Feed(tuner, 100, _ => 1000);

        Assert.Equal(1, tuner.Workers);
    }

    [Theory]
    [InlineData(4, 4)] // each worker adds as much
    [InlineData(2, 2)] // a third one adds nothing
    [InlineData(1, 1)] // the first does it all
    public void SettlesWhereMoreWorkersDoNoMore(int useful, int workers)
    {
        var tuner = new WorkerTuner(4);

        Feed(tuner, 60, count => 1000 * Math.Min(count, useful));

        Assert.Equal(workers, tuner.Workers);
    }

    [Fact]
    public void WorkersThatHinderEachOther_AreTakenBack()
    {
        var tuner = new WorkerTuner(4);

        Feed(tuner, 60, count => count == 1 ? 1000 : 700);

        Assert.Equal(1, tuner.Workers);
    }

    [Fact]
    public void WhenTheMachineHasChanged_ItIsNoticed()
    {
        var tuner = new WorkerTuner(2);
        Feed(tuner, 60, count => 1000 * count);
        Assert.Equal(2, tuner.Workers);

        var at = Feed(tuner, 400, count => count == 1 ? 1000 : 500);

        // Tried again now and then, so most of the time is what counts.
        Assert.True(at.TakeLast(100).Count(workers => workers == 1) > 90, string.Join(",", at));
    }

    [Fact]
    public void AloneMeanwhile_NothingIsMeasured()
    {
        var tuner = new WorkerTuner(4);

        for (var i = 0; i < 1000; i++)
        {
            tuner.Saturated(1, 0.02);
            tuner.Restart();
        }

        Assert.Equal(1, tuner.Workers);
    }

    /// <param name="rate">Rows a second with so many workers.</param>
    /// <returns>The workers after each window.</returns>
    private static List<int> Feed(WorkerTuner tuner, int windows, Func<int, double> rate)
    {
        var seen = new List<int>();
        for (var window = 0; window < windows; window++)
        {
            // Ten batches of 10 ms or more: a window and no more.
            var workers = tuner.Workers;
            for (var batch = 0; batch < 8; batch++) tuner.Saturated((int)(rate(workers) * 0.01), 0.01);
            seen.Add(tuner.Workers);
        }
        return seen;
    }
}
