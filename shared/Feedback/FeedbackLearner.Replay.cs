using Skiff.Personalization;

namespace Skiff.Feedback;

public sealed partial class FeedbackLearner
{
    /// <summary>The head that feedback makes which is learnt in this order, from the beginning.</summary>
    /// <returns>Null where none of it can be learnt.</returns>
    public static HeadState? Rebuild(Head head, IEnumerable<FeedbackMessage> messages)
    {
        var learning = new Learning(head, null);
        foreach (var message in messages) learning.Apply(message);
        return learning.Result();
    }
}
