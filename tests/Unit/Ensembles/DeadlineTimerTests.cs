using Skiff.Ensembles;

namespace Skiff.Unit.Ensembles;

public sealed class DeadlineTimerTests
{
    [Fact]
    public async Task Timers_CallBackInTheOrderOfTheirDeadlines_NotBefore()
    {
        var time = TimeProvider.System;
        var (called, done) = (new List<int>(), new TaskCompletionSource());
        var start = time.GetTimestamp();
        var millisecond = time.TimestampFrequency / 1000;
        foreach (var i in new[] { 3, 1, 4, 2 })
        {
            var due = start + 10 * i * millisecond;
            DeadlineTimer.Start(time, due, () =>
            {
                lock (called)
                {
                    if (time.GetTimestamp() < due - millisecond / 2) called.Add(-i);
                    called.Add(i);
                    if (called.Count == 4) done.TrySetResult();
                }
            });
        }

        await done.Task.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);

        Assert.Equal([1, 2, 3, 4], called);
    }

    [Fact]
    public async Task DisposedTimer_IsNotCalled()
    {
        var time = TimeProvider.System;
        var isCalled = false;
        DeadlineTimer.Start(time, time.GetTimestamp() + time.TimestampFrequency / 100, () => isCalled = true).Dispose();
        var later = new TaskCompletionSource();

        DeadlineTimer.Start(time, time.GetTimestamp() + time.TimestampFrequency / 50, () => later.TrySetResult());

        await later.Task.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
        Assert.False(isCalled);
    }

    [Fact]
    public async Task DeadlineThatHasPassed_CallsBackAtOnce()
    {
        var called = new TaskCompletionSource();

        DeadlineTimer.Start(TimeProvider.System, TimeProvider.System.GetTimestamp() - 1, () => called.TrySetResult());

        await called.Task.WaitAsync(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken);
    }
}
