using FsCheck;
using FsCheck.Fluent;
using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class CalibrationTests
{
    [Fact]
    public void NegativeLogLikelihood_IsTheMeanOfMinusLnP() =>
        Assert.Equal(-(Math.Log(0.8) + Math.Log(0.3)) / 2, Calibration.NegativeLogLikelihood([0.8f, 0.2f, 0.7f, 0.3f], [0, 1]), 1e-6);

    [Fact]
    public void CertainAndWrong_CostsMuchButNotInfinitelyMuch() => Assert.Equal(12 * Math.Log(10), Calibration.NegativeLogLikelihood([1, 0], [1]), 1e-4);

    [Fact]
    public void ConfidencesAsOftenRightAsTheySay_HaveNoError()
    {
        // For each confidence q of .05, .15 … .95, 20 answers of which 20q are right.
        var confidences = new List<float>();
        var correct = new List<bool>();
        for (var tens = 0; tens < 10; tens++)
        {
            for (var i = 0; i < 20; i++)
            {
                confidences.Add(0.05f + 0.1f * tens);
                correct.Add(i < 1 + 2 * tens);
            }
        }

        Assert.Equal(0, Calibration.ExpectedError(Calibration.EqualWidth([.. confidences], [.. correct])), 1e-6);
        Assert.Equal(0, Calibration.ExpectedError(Calibration.EqualMass([.. confidences], [.. correct])), 1e-6);
    }

    [Fact]
    public void SurerThanRight_ErrsByTheDifference()
    {
        float[] confidences = [0.9f, 0.9f, 0.9f, 0.9f, 0.55f, 0.55f];
        bool[] correct = [true, true, false, false, true, false];

        // Four at .9 of which half are right, two at .55 of which half are.
        Assert.Equal((4 * 0.4 + 2 * 0.05) / 6, Calibration.ExpectedError(Calibration.EqualWidth(confidences, correct)), 1e-6);
    }

    [Fact]
    public void BinEdge_BelongsToTheBinBelow()
    {
        var bins = Calibration.EqualWidth([0.5f, 1, 0], [true, true, true], 2);

        Assert.Equal([2, 1], bins.Select(bin => bin.Count));
    }

    [Fact]
    public void EqualConfidences_StayInOneBinOfEqualMass()
    {
        var bins = Calibration.EqualMass([0.9f, 0.9f, 0.9f, 0.9f, 0.2f], [true, true, true, false, false], 5);

        Assert.Equal([1, 4], bins.Select(bin => bin.Count));
        Assert.Equal(0.75, bins[1].Accuracy);
    }

    [Fact]
    public void OrderOfTheAnswers_ChangesNoBinOfEqualMass()
    {
        Check.One(Config.QuickThrowOnFailure, Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            var answers = Enumerable.Range(0, random.Next(1, 300)).Select(_ => (Confidence: random.Next(10) / 10f, Correct: random.Next(2) == 0)).ToArray();
            var bins = Calibration.EqualMass([.. answers.Select(answer => answer.Confidence)], [.. answers.Select(answer => answer.Correct)]);
            random.Shuffle(answers);

            var shuffled = Calibration.EqualMass([.. answers.Select(answer => answer.Confidence)], [.. answers.Select(answer => answer.Correct)]);
            Assert.Equal(bins.Select(bin => (bin.Count, bin.Accuracy)), shuffled.Select(bin => (bin.Count, bin.Accuracy)));
            Assert.Equal(answers.Length, bins.Sum(bin => bin.Count));
        }));
    }

    [Fact]
    public void TopLabel_IsTheLargestAndWhetherItIsRight()
    {
        var (confidences, correct) = Calibration.TopLabel([0.1f, 0.9f, 0.6f, 0.4f], [1, 1]);

        Assert.Equal([0.9f, 0.6f], confidences);
        Assert.Equal([true, false], correct);
    }
}
