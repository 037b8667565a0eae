using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

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

    private sealed class NoState : IStateStore
    {
        public ValueTask<UserRead> ReadUserAsync(UserKey user, CancellationToken cancellation) => throw new NotSupportedException();

        public IAsyncEnumerable<KeptFeedback> ReadFeedbackAsync(FeedbackQuery query, CancellationToken cancellation) => throw new NotSupportedException();

        public IAsyncEnumerable<string> ReadUsersAsync(string tenant, string app, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask PurgeAsync(string tenant, string app, DateTimeOffset before, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask<IReadOnlyDictionary<string, byte[]>> LogKeysAsync(string tenant, string app, IReadOnlyCollection<string>? users, bool create, CancellationToken cancellation) => throw new NotSupportedException();

        public int MostPerCommit => 1;
        public double SpentUsd => 0;

        public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation) => throw new NotSupportedException();

        public ValueTask FlushAsync(CancellationToken cancellation) => default;
    }
}
