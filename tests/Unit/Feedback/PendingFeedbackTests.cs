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
        _pending.Add(From(Ann, "1"));
        _pending.Add(From(Ann, "2"));
        _pending.Add(From(Ann, "2"));
        var waiting = Wait(Ann, Long);

        _pending.Remove(From(Ann, "2"));
        _pending.Remove(From(Ann, "1"));
        Assert.False(waiting.IsCompleted);
        _pending.Remove(From(Ann, "2"));

        await waiting.WaitAsync(Long, TestContext.Current.CancellationToken);
    }

    [Fact]
    public void SomebodyElses_IsNotWaitedFor()
    {
        _pending.Add(From(Ann, "1"));

        Assert.True(Wait(Ann with { Tenant = "other" }, Long).IsCompletedSuccessfully);
    }

    [Fact]
    public async Task WaitThatTakesTooLong_EndsWithoutError()
    {
        _pending.Add(From(Ann, "1"));

        await Wait(Ann, TimeSpan.FromMilliseconds(1));
    }

    [Fact]
    public async Task ManyThreads_LeaveNothingBehind()
    {
        Parallel.For(0, 10_000, _ =>
        {
            _pending.Add(From(Ann, "1"));
            _pending.Remove(From(Ann, "1"));
        });

        await Wait(Ann, Long).WaitAsync(Long, TestContext.Current.CancellationToken);
    }

    [Fact]
    public void MessageOfAnEarlierProcess_EndsNobodysWait()
    {
        _pending.Add(From(Ann, "new"));
        var waiting = Wait(Ann, Long);

        _pending.Remove(From(Ann, "old"));

        Assert.False(waiting.IsCompleted);
    }

    private static FeedbackMessage From(UserKey user, string id) =>
        new() { Tenant = user.Tenant, App = user.App, User = user.User, FeedbackId = id, At = DateTimeOffset.UnixEpoch };

    private Task Wait(UserKey user, TimeSpan atMost) => _pending.WaitAsync(user, atMost, TimeProvider.System, CancellationToken.None).AsTask();
}
