using Skiff.Batching;

namespace Skiff.Unit.Batching;

public sealed class RunTimesTests
{
    [Fact]
    public void ALine_IsFound()
    {
        var times = new RunTimes(1.5);

        for (var i = 0; i < 200; i++) times.Ran(1 + i % 64, 10 + 2 * (1 + i % 64));

        Assert.Equal(10, times.Fixed, 0.1);
        Assert.Equal(2, times.PerRow, 0.01);
        // 20 rows at 2 µs, and the 10 µs are a fifth.
        Assert.InRange(times.WorthARun, 19, 20);
        Assert.False(times.IsBypassed);
    }

    [Fact]
    public void RunsOfOneSize_SayNothingOfOthers()
    {
        var times = new RunTimes(1.5);

        for (var i = 0; i < 200; i++) times.Ran(1, 10);

        Assert.Equal(1, times.WorthARun);
    }

    [Fact]
    public void RowsThatGainLessThanTheLineCosts_BypassIt_AndAreLookedAtAgainLater()
    {
        var times = new RunTimes(1.5);

        for (var i = 0; i < 100; i++) times.Ran(1 + i % 8, 0.5 + 1 * (1 + i % 8));
        Assert.True(times.IsBypassed);

        for (var i = 0; i < 17_000 && times.IsBypassed; i++) times.Ran(1, 1.5);
        Assert.False(times.IsBypassed);
    }

    [Fact]
    public void SlowModels_AreNeverBypassed()
    {
        var times = new RunTimes(1.5);

        for (var i = 0; i < 200; i++) times.Ran(1 + i % 8, 300 * (1 + i % 8));

        Assert.False(times.IsBypassed);
    }

    [Fact]
    public void ARunThatWaitedForACore_DoesNotUndoTheFit()
    {
        var times = new RunTimes(1.5);

        for (var i = 0; i < 400; i++) times.Ran(1 + i % 64, i % 100 == 99 ? 20_000 : 10 + 2 * (1 + i % 64));

        Assert.Equal(2, times.PerRow, 0.5);
    }
}
