using Skiff.Personalization;

namespace Skiff.Feedback;

/// <summary>A message that was received and not yet completed.</summary>
/// <param name="Receipt">What the queue knows it by; nobody else's to understand.</param>
public readonly record struct ReceivedFeedback(string Receipt, FeedbackMessage Message);

/// <summary>Carries feedback from acceptance to learning, at least once and in order for each user.</summary>
public interface IFeedbackQueue
{
    /// <summary>Sends messages; they are durable, all of them, when it returns.</summary>
    /// <exception cref="Store.StoreException">They could not be written, not all of them at least. Sent again, those that are in the queue already count once.</exception>
    ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation);

    /// <summary>Whether other processes may receive what this one has sent: then nobody here hears when it has been learnt.</summary>
    bool IsShared { get; }

    /// <summary>How many received messages may wait to be completed together. A queue that holds back a user's next message until then says 1.</summary>
    int MostUncompleted { get; }

    /// <summary>Waits for messages.</summary>
    /// <param name="cancellation">Ends the wait, though not always at once; what has been received by then is still returned.</param>
    /// <returns>At least one message, in the order in which they were sent.</returns>
    ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation);

    /// <summary>Forgets messages whose effect is durable.</summary>
    ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation);

    /// <summary>
    /// Takes what has been received of a user who was erased, and not been completed, off the disk: after the state's erasure it means nothing any more. What was accepted and not received yet comes as always, and the
    /// learner drops it. A queue that holds messages only until they are learnt has nothing to do.
    /// </summary>
    /// <exception cref="Store.StoreException">It may still be there: try again.</exception>
    ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation) => ValueTask.CompletedTask;
}
