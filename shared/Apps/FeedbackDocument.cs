using System.Text.Json.Serialization;

namespace Skiff.Apps;

/// <summary>What counts as feedback beside what callers say outright.</summary>
public sealed record FeedbackDocument
{
    public ImplicitDocument? Implicit { get; set; }

    internal void Validate(AppDocument app) => Implicit?.Validate(app);
}

/// <summary>What silence says of the answer that was given.</summary>
public enum ImplicitAnswer
{
    /// <summary>It was right: nobody objected.</summary>
    Right,

    /// <summary>It was wrong, nobody took it up: the other one of two labels.</summary>
    Wrong,
}

/// <summary>A decision on which no feedback comes for a while counts as labelled, by one of a label, a value, and a word on the answer.</summary>
public sealed record ImplicitDocument
{
    public const double Shortest = 0.1;

    /// <summary>Six days: a day less than feedback on a decision is taken at all.</summary>
    public const double Longest = 6 * 24 * 3600;

    /// <summary>How long feedback is waited for, in seconds.</summary>
    public required double AfterS { get; init; }

    /// <summary>The label that silence means, by its index.</summary>
    public int? Label { get; set; }

    /// <summary>The value that silence means, for a regression.</summary>
    public double? Value { get; set; }

    /// <summary>What silence says of the label that was answered.</summary>
    public ImplicitAnswer? Answer { get; set; }

    [JsonIgnore]
    public TimeSpan After => TimeSpan.FromSeconds(AfterS);

    /// <param name="answered">The label that was answered, -1 for none.</param>
    /// <returns>What silence on such an answer says: a label or a value; neither where it says nothing.</returns>
    internal (int? Label, double? Value) Of(int answered) => this switch
    {
        { Answer: not null } when answered < 0 => (null, null),
        { Answer: ImplicitAnswer.Right } => (answered, null),
        { Answer: ImplicitAnswer.Wrong } => (1 - answered, null),
        _ => (Label, Value),
    };

    internal void Validate(AppDocument app)
    {
        const string field = "'feedback.implicit";
        AppDocument.Require(AfterS is >= Shortest and <= Longest, $"{field}.after_s' is {AfterS}: it takes {Shortest} to {Longest} seconds");
        AppDocument.Require(app.Head is not null || app.Ensemble?.Policy is not null, $"{field}' needs something that learns: a 'head', or an ensemble's 'policy'");
        AppDocument.Require((Label is null ? 0 : 1) + (Value is null ? 0 : 1) + (Answer is null ? 0 : 1) == 1, $"{field}' takes one of 'label', 'value' and 'answer': what silence means");
        AppDocument.Require(Value is null || app.Labels.Count == 0, $"{field}.value' is for apps without labels: this one takes 'label' or 'answer'");
        AppDocument.Require(Value is not { } value || float.IsFinite((float)value), $"{field}.value' is {Value}: it takes a number that FP32 holds");
        AppDocument.Require(app.Labels.Count > 0 || Value is not null, $"{field}' takes 'value' in an app without labels");
        AppDocument.Require(Label is not { } label || (label >= 0 && label < app.Labels.Count), $"{field}.label' is {Label}: it takes the index of one of the {app.Labels.Count} labels");
        AppDocument.Require(Answer != ImplicitAnswer.Wrong || app.Labels.Count == 2, $"{field}.answer' is \"wrong\", which says what is right only where there are two labels; here are {app.Labels.Count}");
    }
}
