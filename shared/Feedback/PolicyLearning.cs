using Skiff.Ensembles;
using Skiff.Personalization;
using Skiff.Selection;

namespace Skiff.Feedback;

/// <summary>A policy's state while a batch is applied to it.</summary>
internal sealed class PolicyLearning(EnsemblePolicy policy, byte[]? stored)
{
    private readonly PolicyState _state = policy.Read(stored);

    /// <summary>The state of somebody of whom only a policy has learnt.</summary>
    public static HeadState Nothing { get; } = new(new HeadWeights { FeaturesVersion = 0, PriorVersion = 0, Updates = 0, Weights = [], Offset = 0, Tag = "" }, []);

    public bool HasLearnt { get; private set; }

    /// <summary>What is to be stored.</summary>
    public byte[]? Result => HasLearnt ? policy.Write(_state) : stored;

    public AcceptedFeedback Apply(FeedbackMessage message)
    {
        var refusal = policy.Learn(_state, message.Members ?? [], message.Propensity ?? 1, message.Label ?? -1);
        HasLearnt |= refusal is null;
        return new AcceptedFeedback(message, refusal is null, refusal);
    }
}
