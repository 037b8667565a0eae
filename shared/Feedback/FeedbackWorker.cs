using Microsoft.Extensions.Logging;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Feedback;

/// <summary>
/// Where the host is long-lived: takes feedback from the queue and has it learnt, until it is stopped. A message leaves the queue only after its effect has been flushed,
/// so that neither a crash nor a loss of power loses it; until then it may come again, which the learner notices.
/// </summary>
public sealed class FeedbackWorker(IFeedbackQueue queue, FeedbackLearner learner, IStateStore state, PendingFeedback pending, TimeProvider time, ILogger<FeedbackWorker> log)
{
    private const int BatchSize = 512;
    private static readonly TimeSpan ShortestPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(5);

    private readonly List<ReceivedFeedback> _learnt = [];

    /// <summary>Works until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            IReadOnlyList<ReceivedFeedback> batch;
            try
            {
                batch = await queue.ReceiveAsync(BatchSize, cancellation);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                break;
            }
            catch (Exception e)
            {
                // Whatever it is: a worker that ended here would leave feedback lying without anybody noticing.
                log.LogError(e is StoreException ? null : e, "feedback can't be received: {Error}", e.Message);
                await PauseAsync(ShortestPause, cancellation);
                continue;
            }
            await LearnAsync(batch, cancellation);
            if (_learnt.Count >= queue.MostUncompleted) await TryFlushAsync(cancellation);
        }
        await TryFlushAsync(CancellationToken.None);
    }

    /// <summary>Learns a batch, for as long as it takes the store to come back.</summary>
    private async Task LearnAsync(IReadOnlyList<ReceivedFeedback> batch, CancellationToken cancellation)
    {
        var pause = ShortestPause;
        while (true)
        {
            try
            {
                await learner.LearnAsync([.. batch.Select(received => received.Message)], CancellationToken.None);
                _learnt.AddRange(batch);
                foreach (var received in batch) pending.Remove(received.Message);
                return;
            }
            catch (StoreException e) when (!e.IsPermanent)
            {
                log.LogError("feedback waits in the queue: {Error}", e.Message);
            }
            catch (Exception e) when (batch.Count == 1)
            {
                // A message that we can't process, though we accepted it: it must not hold up the others.
                log.LogError(e, "feedback {Receipt} can't be processed", batch[0].Receipt);
                if (await TryQuarantineAsync(batch[0].Message, e)) _learnt.AddRange(batch);
                pending.Remove(batch[0].Message);
                return;
            }
            catch (Exception)
            {
                foreach (var received in batch) await LearnAsync([received], cancellation);
                return;
            }
            if (!await PauseAsync(pause, cancellation)) return;
            pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
        }
    }

    /// <returns>False where that fails too: the message stays in the queue.</returns>
    private async Task<bool> TryQuarantineAsync(FeedbackMessage message, Exception reason)
    {
        try
        {
            await learner.QuarantineAsync(message, $"can't be processed: {reason.Message}", CancellationToken.None);
            return true;
        }
        catch (Exception e)
        {
            log.LogError(e is StoreException ? null : e, "nor put into quarantine, it stays in the queue: {Error}", e.Message);
            return false;
        }
    }

    /// <returns>False when it was cancelled.</returns>
    private async Task<bool> PauseAsync(TimeSpan pause, CancellationToken cancellation)
    {
        await Task.Delay(pause, time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return !cancellation.IsCancellationRequested;
    }

    private async Task TryFlushAsync(CancellationToken cancellation)
    {
        try
        {
            await state.FlushAsync(cancellation);
            await queue.CompleteAsync(_learnt, cancellation);
            _learnt.Clear();
        }
        catch (Exception e) when (e is StoreException or OperationCanceledException)
        {
            // They stay in the queue; coming again they change nothing.
            log.LogWarning("learnt feedback stays in the queue for now: {Error}", e.Message);
        }
    }
}
