using Skiff.Models;
using Skiff.Selection;
using Skiff.Store;

namespace Skiff.Apps;

/// <summary>How the members' answers become one.</summary>
public enum CombineBy
{
    /// <summary>The mean of their probabilities.</summary>
    Mean,

    /// <summary>The mean, each with its weight.</summary>
    Weighted,

    /// <summary>Each votes for its likeliest label.</summary>
    Majority,
}

/// <summary>Whose experience a policy goes by.</summary>
public enum PolicyPer
{
    User,

    /// <summary>That of all requests that name the same context.</summary>
    Context,
}

/// <summary>Several models that answer together, or of which a policy chooses one.</summary>
public sealed record EnsembleDocument
{
    /// <summary>Models, whose order is their identity for whatever a policy has learnt about them.</summary>
    public required IReadOnlyList<string> Members { get; init; }

    /// <summary>Null for the mean, or weighted where Exp4 learns the weights.</summary>
    public CombineBy? Combine { get; set; }

    /// <summary>One a member, for weighted and majority; null for 1 each, or for those that Exp4 learns.</summary>
    public IReadOnlyList<double>? Weights { get; set; }

    /// <summary>T of p^(1/T), to which what was combined is scaled (<see cref="Selection.Temperature"/>).</summary>
    public double Temperature { get; set; } = 1;

    /// <summary>
    /// A <see cref="ConfidenceMap"/> as a list of numbers, from the share of members that agree with the answer to the chance that it is right; null where the answer's own probability is its confidence.
    /// </summary>
    public IReadOnlyList<double>? Calibration { get; set; }

    /// <summary>The confidence below which the app's default is answered; 0 for none.</summary>
    public double Floor { get; set; }

    public PolicyDocument? Policy { get; set; }

    internal void Validate(AppDocument app)
    {
        AppDocument.Require(app.Cascade.Count == 0, "an app has a 'cascade' or an 'ensemble', not both");
        AppDocument.Require(app.Labels.Count > 1, "an 'ensemble' needs 'labels', one for each of its members' scores");
        AppDocument.Require(Members.Count is >= 1 and <= PolicyState.MostArms, $"'ensemble.members' has {Members.Count} models: it takes 1 to {PolicyState.MostArms}");
        AppDocument.Require(Members.All(member => member is not null), "'ensemble.members' has a null: it takes names of models");
        foreach (var member in Members) Names.Check("model", member);
        AppDocument.Require(Members.Distinct().Count() == Members.Count, "'ensemble.members' names a model twice");
        AppDocument.Require(Temperature is >= Selection.Temperature.Least and <= Selection.Temperature.Most,
            $"'ensemble.temperature' is {Temperature}: it takes {Selection.Temperature.Least} to {Selection.Temperature.Most}");
        AppDocument.Require(Floor is >= 0 and <= 1, $"'ensemble.floor' is {Floor}: it takes a confidence from 0 to 1");
        AppDocument.Require(Temperature == 1 || Combine != CombineBy.Majority, "'ensemble.temperature' scales probabilities, and a majority has votes: leave it out");
        if (Weights is { } weights)
        {
            AppDocument.Require(Combine is CombineBy.Weighted or CombineBy.Majority, "'ensemble.weights' goes with \"combine\" of weighted or majority");
            AppDocument.Require(weights.Count == Members.Count && weights.All(weight => weight >= 0 && double.IsFinite(weight)) && weights.Any(weight => weight > 0),
                $"'ensemble.weights' takes {Members.Count} numbers, one a member, none negative and not all 0");
        }
        if (Calibration is not null) _ = Map();
        if (Policy is { } policy) Validate(policy);
        else AppDocument.Require(Combine != CombineBy.Weighted || Weights is not null, "an 'ensemble' that combines weighted needs 'weights', or a 'policy' of kind exp4 that learns them");
    }

    private void Validate(PolicyDocument policy)
    {
        policy.Validate();
        AppDocument.Require(Weights is null, "'ensemble.weights' are fixed and a 'policy' learns: leave one of them out");
        if (policy.Kind == PolicyKind.Exp4)
        {
            AppDocument.Require(Combine != CombineBy.Mean, "a mean has no weights for exp4 to learn: 'ensemble.combine' takes weighted or majority, or is left out");
            return;
        }
        AppDocument.Require(Combine is null, "'ensemble.combine' has nothing to combine: this 'policy' chooses one member, which runs alone");
        AppDocument.Require(Calibration is null, "'ensemble.calibration' goes by how many members agree, and this 'policy' chooses one, which runs alone: leave it out");
    }

    /// <exception cref="FormatException">The numbers are no map.</exception>
    internal ConfidenceMap? Map()
    {
        try
        {
            return Calibration is null ? null : ConfidenceMap.FromNumbers([.. Calibration]);
        }
        catch (FormatException e)
        {
            throw new FormatException($"'ensemble.calibration' can't be used: {e.Message}", e);
        }
    }
}

/// <summary>A policy and its constants; those that are left out have the policy's own defaults.</summary>
public sealed record PolicyDocument
{
    public required PolicyKind Kind { get; init; }

    public PolicyPer Per { get; set; }

    /// <summary>η of Exp3 and Exp4.</summary>
    public double? LearningRate { get; set; }

    /// <summary>α, the fixed share of Exp3 and Exp4.</summary>
    public double? Share { get; set; }

    /// <summary>γ of Exp3.</summary>
    public double? Exploration { get; set; }

    /// <summary>ε of ε-greedy.</summary>
    public double? Epsilon { get; set; }

    /// <summary>Of ε-greedy.</summary>
    public double? LeastStep { get; set; }

    /// <summary>Of Thompson.</summary>
    public double? Discount { get; set; }

    /// <summary>Of Thompson.</summary>
    public double? Floor { get; set; }

    /// <summary>Of Thompson.</summary>
    public int? Draws { get; set; }

    internal void Validate()
    {
        (string Name, bool IsGiven, PolicyKind[] Of)[] constants =
        [
            ("learning_rate", LearningRate is not null, [PolicyKind.Exp3, PolicyKind.Exp4]),
            ("share", Share is not null, [PolicyKind.Exp3, PolicyKind.Exp4]),
            ("exploration", Exploration is not null, [PolicyKind.Exp3]),
            ("epsilon", Epsilon is not null, [PolicyKind.EpsilonGreedy]),
            ("least_step", LeastStep is not null, [PolicyKind.EpsilonGreedy]),
            ("discount", Discount is not null, [PolicyKind.Thompson]),
            ("floor", Floor is not null, [PolicyKind.Thompson]),
            ("draws", Draws is not null, [PolicyKind.Thompson]),
        ];
        foreach (var (name, isGiven, of) in constants)
        {
            AppDocument.Require(!isGiven || of.Contains(Kind), $"'ensemble.policy.{name}' is no constant of this kind: it takes {string.Join(", ", constants.Where(other => other.Of.Contains(Kind)).Select(other => other.Name))}");
        }
        _ = Create();
    }

    /// <exception cref="FormatException">A constant is out of its range.</exception>
    internal Policy Create()
    {
        try
        {
            Policy policy = Kind switch
            {
                PolicyKind.Exp3 => new Exp3(),
                PolicyKind.Exp4 => new Exp4(),
                PolicyKind.EpsilonGreedy => new EpsilonGreedy(),
                _ => new ThompsonSampling(),
            };
            return policy switch
            {
                Exp3 p => p with { LearningRate = LearningRate ?? p.LearningRate, Share = Share ?? p.Share, Exploration = Exploration ?? p.Exploration },
                Exp4 p => p with { LearningRate = LearningRate ?? p.LearningRate, Share = Share ?? p.Share },
                EpsilonGreedy p => p with { Epsilon = Epsilon ?? p.Epsilon, LeastStep = LeastStep ?? p.LeastStep },
                ThompsonSampling p => p with { Discount = Discount ?? p.Discount, Floor = Floor ?? p.Floor, Draws = Draws ?? p.Draws },
                _ => policy,
            };
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new FormatException($"a constant of 'ensemble.policy' is {e.ActualValue}: {e.Message.Split(" (Parameter")[0]}", e);
        }
    }
}
