using Skiff.Cascades;
using Skiff.Cascades.Tuning;

namespace Skiff.Unit.Cascades.Tuning;

public sealed class CascadeTunerTests
{
    private static readonly TuningOptions TwoPoints = new() { Epsilon = 0.02 };

    [Fact]
    public void TunedThresholds_SaveTimeAndStayWithinTheBoundOnOtherRows()
    {
        var tuning = CascadeTuner.Run(SomeRows.Draw(1, 3000, [0.8, 0.9, 0.95]), TwoPoints);

        Assert.NotNull(tuning.Chosen);
        Assert.InRange(tuning.Saved, 0.2, 0.95);
        Assert.True(CascadeTuner.Apply(SomeRows.Draw(2, 50_000, [0.8, 0.9, 0.95]), tuning, tuning.Chosen).Drop.Measured < 0.02);
    }

    [Theory]
    [InlineData(GateOn.Margin)]
    [InlineData(GateOn.Learned)]
    public void TrueDrop_ExceedsTheBoundNoOftenerThanAsked(GateOn on)
    {
        // A population to draw from, in which the true drop is counted. Of 100 sets at 90% no more than 10 may exceed in the mean; above 18 has a chance below 1%.
        var population = SomeRows.Draw(3, 20_000, [0.7, 0.95]);
        var options = TwoPoints with { Confidence = 0.9, On = on };
        var random = new Random(4);
        var (exceeded, certified) = (0, 0);
        for (var i = 0; i < 100; i++)
        {
            var tuning = CascadeTuner.Run(population.Take([.. Enumerable.Range(0, 1000).Select(_ => random.Next(population.Count))]), options);
            if (tuning.Chosen is not { } chosen) continue;
            certified++;
            if (CascadeTuner.Apply(population, tuning, chosen).Drop.Measured >= options.Epsilon) exceeded++;
        }

        Assert.InRange(exceeded, 0, 18);
        Assert.InRange(certified, 50, 100);
    }

    [Fact]
    public void StageThatGuesses_LeavesTheHeaviestAlone()
    {
        // It says that it is sure, and is right one time in three.
        var rows = SomeRows.Draw(5, 3000, [0, 0.95]);
        var sure = rows.Probabilities[0].Select((_, i) => i % 3 == 0 ? 1f : 0f).ToArray();

        var tuning = CascadeTuner.Run(new TuningRows([sure, rows.Probabilities[1]], rows.Labels, 3, [1, 4]), TwoPoints);

        Assert.Null(tuning.Chosen);
        Assert.DoesNotContain(tuning.Points, point => point.IsCertified);
        Assert.Equal([(1, null)], tuning.Cascade);
        Assert.Equal(0, tuning.Saved);
    }

    [Fact]
    public void CascadeThatCostsMore_LeavesTheHeaviestAlone()
    {
        var tuning = CascadeTuner.Run(SomeRows.Draw(6, 3000, [0.8, 0.95], [5, 4]), TwoPoints);

        Assert.Null(tuning.Chosen);
        Assert.Contains(tuning.Points, point => point.IsCertified);
        Assert.Equal([(1, null)], tuning.Cascade);
    }

    [Fact]
    public void StageThatIsNoGood_IsLeftOut()
    {
        var rows = SomeRows.Draw(7, 4000, [0, 0.8, 0.95], [1, 2, 16]);
        var sure = rows.Probabilities[0].Select((_, i) => i % 3 == 0 ? 1f : 0f).ToArray();

        var tuning = CascadeTuner.Run(new TuningRows([sure, rows.Probabilities[1], rows.Probabilities[2]], rows.Labels, 3, rows.Microseconds), TwoPoints);

        Assert.Equal([1, 2], tuning.Cascade.Select(stage => stage.Stage));
    }

    [Fact]
    public void PartsOfOneNetwork_CostWhatTheyContinueFromToo()
    {
        var rows = Linked(SomeRows.Draw(7, 4000, [0.5, 0.8, 0.95], [1, 2, 16]));

        Assert.Equal([1, 3, 19], Enumerable.Range(0, 3).Select(rows.Alone));
        Assert.Equal([1, 2, 16], rows.Costs([0, 1, 2]));
        // Whoever does not leave at the first goes through the second, which may not answer.
        Assert.Equal([1, 18], rows.Costs([0, 2]));
        Assert.Equal([3, 16], rows.Costs([1, 2]));
        Assert.Equal([19, 3, 1], [.. CascadeTuner.Run(rows, TwoPoints).Microseconds.Reverse()]);
    }

    [Fact]
    public void ExitThatIsNoGood_StaysAndAnswersNothing()
    {
        var rows = SomeRows.Draw(7, 4000, [0, 0.8, 0.95], [1, 2, 16]);
        var sure = rows.Probabilities[0].Select((_, i) => i % 3 == 0 ? 1f : 0f).ToArray();

        var tuning = CascadeTuner.Run(Linked(new TuningRows([sure, rows.Probabilities[1], rows.Probabilities[2]], rows.Labels, 3, rows.Microseconds)), TwoPoints);

        Assert.Equal([1, 2], tuning.Chosen!.Path.Stages);
        Assert.Equal([(0, false), (1, true), (2, false)], tuning.Cascade.Select(stage => (stage.Stage, stage.Gate is not null)));
        Assert.Equal(1 - tuning.Chosen.Microseconds / 19, tuning.Saved, 1e-12);
    }

    [Fact]
    public void NoExitThatIsAnyGood_LeavesAllPartsAndTheLastAnswer()
    {
        var rows = SomeRows.Draw(5, 3000, [0, 0.95]);
        var sure = rows.Probabilities[0].Select((_, i) => i % 3 == 0 ? 1f : 0f).ToArray();

        var tuning = CascadeTuner.Run(Linked(new TuningRows([sure, rows.Probabilities[1]], rows.Labels, 3, [1, 4])), TwoPoints);

        Assert.Null(tuning.Chosen);
        Assert.Equal([(0, null), (1, null)], tuning.Cascade);
        Assert.Equal((0, 5), (tuning.Saved, tuning.Heaviest));
    }

    /// <summary>Each stage but the first continues from the one before.</summary>
    private static TuningRows Linked(TuningRows rows) => new(rows.Probabilities, rows.Labels, rows.Classes, rows.Microseconds,
        new StageChain([.. Enumerable.Range(0, rows.Stages).Select(stage => new Stage($"m{stage}", null, stage == 0 ? null : new StageOutput(stage - 1, "h")))]));

    [Fact]
    public void ChosenPoint_IsTheCheapestBeforeTheFirstThatIsNotCertified()
    {
        var tuning = CascadeTuner.Run(SomeRows.Draw(8, 3000, [0.7, 0.85, 0.95]), TwoPoints);

        foreach (var path in tuning.Points.GroupBy(point => point.Path))
        {
            var certified = path.TakeWhile(point => point.PValue <= 0.05 * path.Key.Share).ToArray();
            Assert.Equal(certified, path.Where(point => point.IsCertified));
            Assert.All(path.Skip(certified.Length + 1), point => Assert.Null(point.PValue));
        }
        Assert.Equal(tuning.Points.Where(point => point.IsCertified).Min(point => point.Microseconds), tuning.Chosen!.Microseconds);
        Assert.Equal(1, tuning.Points.Select(point => point.Path).Distinct().Sum(path => path.Share), 1e-12);
    }

    [Fact]
    public void MeasuredPoint_IsWhatTheCascadeWouldDo()
    {
        var rows = SomeRows.Draw(9, 2000, [0.7, 0.85, 0.95]);
        var tuning = CascadeTuner.Run(rows, TwoPoints);
        int[] asked = [0, 0, 0];
        var right = 0;
        for (var row = 0; row < rows.Count; row++)
        {
            foreach (var (stage, gate) in tuning.Cascade)
            {
                asked[stage]++;
                if (gate is not null && !gate.Answers(rows.Probabilities[stage].AsSpan(row * 3, 3))) continue;
                right += rows.Right(stage)[row] ? 1 : 0;
                break;
            }
        }

        var chosen = tuning.Chosen!;
        Assert.Equal(right / 2000.0, chosen.Accuracy, 1e-12);
        Assert.Equal((asked[0] * 1 + asked[1] * 4 + asked[2] * 16) / 2000.0, chosen.Microseconds, 1e-9);
        Assert.Equal(tuning.Accuracies[^1] - chosen.Accuracy, chosen.Drop.Measured, 1e-12);
    }

    [Fact]
    public void SameRows_GiveTheSameThresholds()
    {
        var options = TwoPoints with { On = GateOn.Learned };

        var (one, other) = (CascadeTuner.Run(SomeRows.Draw(10, 2000, [0.8, 0.95]), options), CascadeTuner.Run(SomeRows.Draw(10, 2000, [0.8, 0.95]), options));

        Assert.Equal(one.Gates[0].Weights, other.Gates[0].Weights);
        Assert.Equal(one.Points.Select(point => (point.Drop, point.Microseconds)), other.Points.Select(point => (point.Drop, point.Microseconds)));
        Assert.Equal((1400, 600), (one.Rows, one.FittedOn));
    }

    [Fact]
    public void TooFewRows_CertifyNothing()
    {
        var needed = CascadeTuner.RowsNeeded(TwoPoints, 2);

        Assert.Null(CascadeTuner.Run(SomeRows.Draw(11, needed - 1, [0.8, 0.95]), TwoPoints).Chosen);
    }

    [Theory]
    [InlineData(0, 0.95)]
    [InlineData(1, 0.95)]
    [InlineData(double.NaN, 0.95)]
    [InlineData(0.02, 1)]
    [InlineData(0.02, 0.3)]
    public void OptionsOutOfRange_AreRefused(double epsilon, double confidence) =>
        Assert.Throws<ArgumentException>(() => new TuningOptions { Epsilon = epsilon, Confidence = confidence }.Validate());

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(6)]
    public void Paths_GoFromAskingTheHeaviestToAnsweringAtOnce(int stages)
    {
        foreach (var path in ThresholdPath.Through(stages))
        {
            var thresholds = ThresholdPath.Boldness.Select(path.Thresholds).ToArray();
            Assert.All(thresholds[0], at => Assert.InRange(at, 0.98, 1));
            Assert.Equal(0, thresholds[^1][0]);
            foreach (var (safer, bolder) in thresholds.Zip(thresholds[1..])) Assert.All(safer.Zip(bolder), pair => Assert.True(pair.First >= pair.Second));
        }
    }

    [Fact]
    public void Picture_ShowsTheBoundTheStagesAndWhatWasChosen()
    {
        var tuning = CascadeTuner.Run(SomeRows.Draw(12, 3000, [0.8, 0.95]), TwoPoints);

        var picture = System.Xml.Linq.XDocument.Parse(FrontierPicture.Draw("an <app>", ["cheap", "heavy"], tuning));

        var says = picture.Descendants().Where(element => element.Name.LocalName == "text").Select(element => element.Value).ToArray();
        foreach (var part in new[] { "an <app>", "accuracy, %", "run time", "bound: 2 points below", "cheap", "heavy alone", "chosen: " }) Assert.Contains(says, text => text.Contains(part, StringComparison.Ordinal));
        Assert.Equal(tuning.Points.Count + 1, picture.Descendants().Count(element => element.Name.LocalName == "circle"));
    }
}
