namespace Skiff.Feedback;

/// <summary>A message that was received and not yet completed.</summary>
public readonly record struct ReceivedFeedback(long Receipt, FeedbackMessage Message);

/// <summary>Carries feedback from acceptance to learning, at least once and in order for each user.</summary>
public interface IFeedbackQueue
{
    /// <summary>Sends messages; they are durable, all of them, when it returns.</summary>
    /// <exception cref="Store.StoreException">They could not be written; none of them is in the queue.</exception>
    ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation);

    /// <summary>Waits for messages.</summary>
    /// <returns>At least one message, in the order in which they were sent.</returns>
    ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation);

    /// <summary>Forgets messages whose effect is durable.</summary>
    ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation);
}
