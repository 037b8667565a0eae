using Skiff.Feedback;
using Skiff.Personalization;

namespace Skiff.Unit.Feedback;

public sealed class PendingFeedbackTests
{
    private static readonly UserKey Ann = new("t", "a", "ann");
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(30);

    private readonly PendingFeedback _pending = new();

    [Fact]
    public void NothingUnderWay_DoesNotWait() => Assert.True(Wait(Ann, Long).IsCompletedSuccessfully);

    [Fact]
    public async Task LastOfSeveral_EndsTheWait()
    {
        _pending.Add(Ann);
        _pending.Add(Ann);
        var waiting = Wait(Ann, Long);

        _pending.Remove(Ann);
        Assert.False(waiting.IsCompleted);
        _pending.Remove(Ann);

        await waiting.WaitAsync(Long, TestContext.Current.CancellationToken);
    }

    [Fact]
    public void SomebodyElses_IsNotWaitedFor()
    {
        _pending.Add(Ann);

        Assert.True(Wait(Ann with { Tenant = "other" }, Long).IsCompletedSuccessfully);
    }

    [Fact]
    public async Task WaitThatTakesTooLong_EndsWithoutError()
    {
        _pending.Add(Ann);

        await Wait(Ann, TimeSpan.FromMilliseconds(1));
    }

    [Fact]
    public async Task ManyThreads_LeaveNothingBehind()
    {
        Parallel.For(0, 10_000, _ =>
        {
            _pending.Add(Ann);
            _pending.Remove(Ann);
        });

        await Wait(Ann, Long).WaitAsync(Long, TestContext.Current.CancellationToken);
    }

    private Task Wait(UserKey user, TimeSpan atMost) => _pending.WaitAsync(user, atMost, TimeProvider.System, CancellationToken.None).AsTask();
}
