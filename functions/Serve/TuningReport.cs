using System.Globalization;
using Skiff.Cascades.Tuning;

namespace Skiff.Serve;

/// <summary>What a tuning found, in words: the stages, the thresholds chosen, the bound on the loss and what the bound assumes.</summary>
internal static class TuningReport
{
    /// <param name="models">The stages' names.</param>
    public static void Write(TextWriter to, IReadOnlyList<string> models, Tuning tuning, bool hasHead)
    {
        var width = models.Max(model => model.Length);
        to.WriteLine();
        for (var stage = 0; stage < models.Count; stage++)
            Line($"{(stage == 0 ? "stages" : ""),-11} {models[stage].PadRight(width)}  {100 * tuning.Accuracies[stage],6:F2}% right  {tuning.Microseconds[stage],8:F1} µs a row, alone");
        if (tuning.Chosen is { } chosen) WriteChosen(chosen, width);
        else WriteNothing();
        Line($"assumes     the rows are like those to come and in no order that matters (exchangeable), and were used neither to train nor to choose a stage");
        var fitted = tuning.FittedOn > 0 ? Invariant($"; gates fitted on {tuning.FittedOn:N0} others") : "";
        var paths = tuning.Paths == 1 ? "path" : "paths";
        Line($"tested      {tuning.Paths} {paths} of thresholds fixed in advance, {tuning.Points.Count(point => point.IsCertified)} of {tuning.Points.Count} points certified, on {tuning.Rows:N0} rows{fitted}");
        if (hasHead) Line($"not seen    the personal head: what it makes of these answers was not measured");

        void WriteChosen(TuningPoint chosen, int width)
        {
            for (var k = 0; k < chosen.Path.Stages.Count; k++)
            {
                var says = k < chosen.Thresholds.Length ? Invariant($"answers from {Kind()} {chosen.Thresholds[k]}") : "answers the rest";
                Line($"{(k == 0 ? "chosen" : ""),-11} {models[chosen.Path.Stages[k]].PadRight(width)}  {says,-32} asked about {100 * chosen.Reach[k],5:F1}% of the rows");
            }
            foreach (var left in Enumerable.Range(0, models.Count).Except(chosen.Path.Stages))
                Line($"{"",-11} {models[left].PadRight(width)}  {(tuning.Needed.Contains(left) ? "answers nothing, a later stage continues from it" : "left out")}");
            Line($"accuracy    {100 * chosen.Accuracy:F2}% against {100 * tuning.Accuracies[^1]:F2}% of {models[^1]} alone: {chosen.Drop.Lost} rows lost, {chosen.Drop.Won} won, {100 * chosen.Drop.Measured:F2} points down");
            var alone = 100 * chosen.Drop.Upper(1 - tuning.Options.Confidence);
            Line($"bound       less than {100 * tuning.Options.Epsilon:0.####} points down with confidence {tuning.Options.Confidence} (p = {chosen.PValue:F4}; at this point alone at most {alone:F2})");
            Line($"run time    {chosen.Microseconds:F1} µs a row against {tuning.Heaviest:F1}: {100 * tuning.Saved:F1}% saved");
        }

        void WriteNothing()
        {
            var why = tuning.Points.Any(point => point.IsCertified) ? "cheaper than the heaviest stage " : "";
            Line($"chosen      {models[^1]} directly: no thresholds {why}keep the loss below {100 * tuning.Options.Epsilon:0.####} points with confidence {tuning.Options.Confidence} on these rows");
            Line($"run time    {tuning.Heaviest:F1} µs a row, nothing saved; more rows, or a larger --epsilon, would leave more to choose from");
        }

        string Kind() => tuning.Options.On switch
        {
            Cascades.GateOn.MaxSoftmax => "max_softmax",
            _ => tuning.Options.On.ToString().ToLowerInvariant(),
        };

        void Line(FormattableString text) => to.WriteLine(Invariant(text));
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
