using Skiff.Feedback;

namespace Skiff.Stores;

/// <summary>What every queue must keep, wherever its messages lie.</summary>
public abstract class FeedbackQueueTests : IAsyncDisposable
{
    private readonly List<IFeedbackQueue> _opened = [];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task SentMessage_ArrivesAsItWas()
    {
        var queue = Open();
        var sent = Some.Feedback("f1") with { Label = null, Value = 7.25, Answered = 2, Base = [1, 2, 3, 4] };

        await queue.SendAsync([sent], Cancellation);

        var received = Assert.Single(await queue.ReceiveAsync(10, Cancellation)).Message;
        Assert.Equal(sent.Serialize(), received.Serialize());
        Assert.Equal(sent.FeatureValues.ToArray(), received.FeatureValues.ToArray());
    }

    [Fact]
    public async Task NothingSent_ReceiverWaitsUntilSomethingIs()
    {
        var queue = Open();
        var receiving = queue.ReceiveAsync(10, Cancellation).AsTask();
        Assert.False(receiving.IsCompleted);

        await queue.SendAsync([Some.Feedback("f1")], Cancellation);

        Assert.Single(await receiving);
    }

    [Fact]
    public async Task CancelledReceive_Ends()
    {
        var queue = Open();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        var receiving = queue.ReceiveAsync(10, stop.Token).AsTask();

        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => receiving);
    }

    [Fact]
    public async Task MessagesOfSeveralSends_ComeInOrder()
    {
        var queue = Open();
        for (var i = 0; i < 20; i += 2) await queue.SendAsync([Some.Feedback($"f{i}"), Some.Feedback($"f{i + 1}")], Cancellation);

        Assert.Equal(Enumerable.Range(0, 20).Select(i => $"f{i}"), await ReceiveIdsAsync(queue, 20, most: 7));
    }

    [Fact]
    public async Task SentMessages_OutliveTheProcess()
    {
        var queue = Open();
        await queue.SendAsync([Some.Feedback("f1"), Some.Feedback("f2")], Cancellation);
        await queue.SendAsync([Some.Feedback("f3")], Cancellation);
        await CloseAsync(queue);

        var reopened = Open();
        Assert.Equal(["f1", "f2", "f3"], await ReceiveIdsAsync(reopened, 3));
    }

    [Fact]
    public async Task SentMessage_IsSeenByOthersBeforeTheSenderHearsOfIt()
    {
        // As a process sees it that looks after the sender was killed.
        var queue = Open();
        await queue.SendAsync([Some.Feedback("f1")], Cancellation);

        var other = Open();
        Assert.Equal(["f1"], await ReceiveIdsAsync(other, 1));
    }

    [Fact]
    public async Task CompletedMessages_DoNotComeAgainAndOthersDo()
    {
        var queue = Open();
        for (var i = 1; i <= 4; i++) await queue.SendAsync([Some.Feedback($"f{i}")], Cancellation);
        var received = await ReceiveAsync(queue, 4);
        await queue.CompleteAsync([received[0], received[2]], Cancellation);
        await CloseAsync(queue);

        var reopened = Open();
        await reopened.SendAsync([Some.Feedback("f5")], Cancellation);
        // What was received already may come again in any order.
        Assert.Equal(["f2", "f4", "f5"], (await ReceiveIdsAsync(reopened, 3)).Order());
    }

    public virtual async ValueTask DisposeAsync()
    {
        foreach (var queue in _opened.ToArray()) await CloseAsync(queue);
    }

    /// <summary>One more client of the test's one queue, as another process would have.</summary>
    protected abstract IFeedbackQueue OpenQueue();

    protected IFeedbackQueue Open()
    {
        var queue = OpenQueue();
        _opened.Add(queue);
        return queue;
    }

    protected async Task CloseAsync(IFeedbackQueue queue)
    {
        _opened.Remove(queue);
        if (queue is IAsyncDisposable slow) await slow.DisposeAsync();
        else if (queue is IDisposable fast) fast.Dispose();
    }

    protected static async Task<List<ReceivedFeedback>> ReceiveAsync(IFeedbackQueue queue, int count, int most = 100, bool complete = false)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        limit.CancelAfter(TimeSpan.FromSeconds(20));
        var all = new List<ReceivedFeedback>();
        while (all.Count < count)
        {
            var received = await queue.ReceiveAsync(most, limit.Token);
            Assert.InRange(received.Count, 1, most);
            all.AddRange(received);
            if (complete) await queue.CompleteAsync(received, limit.Token);
        }
        return all;
    }

    protected static async Task<IEnumerable<string>> ReceiveIdsAsync(IFeedbackQueue queue, int count, int most = 100) =>
        (await ReceiveAsync(queue, count, most, complete: true)).Select(received => received.Message.FeedbackId);
}
