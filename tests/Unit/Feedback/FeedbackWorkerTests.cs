using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;
using Skiff.Unit.Personalization;

namespace Skiff.Unit.Feedback;

public sealed class FeedbackWorkerTests
{
    [Fact]
    public async Task QueueThatFails_IsAskedAgain_WhateverItThrew()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        var queue = new FailingQueue(new StoreException("away"), new InvalidOperationException("a bug"), new OperationCanceledException("somebody else's time limit"));
        var worker = new FeedbackWorker(queue, null!, new NoState(), new PendingFeedback(), TimeProvider.System, NullLogger<FeedbackWorker>.Instance);

        var running = worker.RunAsync(stop.Token);
        await queue.Exhausted.WaitAsync(TimeSpan.FromSeconds(30), stop.Token);
        Assert.False(running.IsCompleted);
        await stop.CancelAsync();

        await running;
    }

    /// <summary>Throws one after the other, then waits for messages that never come.</summary>
    private sealed class FailingQueue(params Exception[] failures) : IFeedbackQueue
    {
        private readonly TaskCompletionSource _exhausted = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _next;

        public Task Exhausted => _exhausted.Task;
        public bool IsShared => false;
        public int MostUncompleted => 1;

        public async ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation)
        {
            if (_next < failures.Length) throw failures[_next++];
            _exhausted.TrySetResult();
            await Task.Delay(Timeout.Infinite, cancellation);
            return [];
        }

        public ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation) => default;
    }
}
