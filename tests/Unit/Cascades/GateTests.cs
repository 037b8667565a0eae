using Skiff.Cascades;

namespace Skiff.Unit.Cascades;

public sealed class GateTests
{
    [Theory]
    [InlineData(GateOn.MaxSoftmax, 0.7)]
    [InlineData(GateOn.Margin, 0.5)]
    [InlineData(GateOn.Entropy, 0.2701533)] // 1 − (−.7 ln .7 − .2 ln .2 − .1 ln .1)/ln 3
    public void Confidence_IsTheOneTheGateIsNamedFor(GateOn on, double expected) =>
        Assert.Equal(expected, new Gate(on, 0.5).Confidence([0.1f, 0.7f, 0.2f]), 1e-6);

    [Theory]
    [InlineData(GateOn.MaxSoftmax, 0.25)]
    [InlineData(GateOn.Margin, 0)]
    [InlineData(GateOn.Entropy, 0)]
    public void EqualProbabilities_GiveTheLeastConfidence(GateOn on, double expected) =>
        Assert.Equal(expected, new Gate(on, 0.5).Confidence([0.25f, 0.25f, 0.25f, 0.25f]), 1e-6);

    [Theory]
    [InlineData(GateOn.MaxSoftmax)]
    [InlineData(GateOn.Margin)]
    [InlineData(GateOn.Entropy)]
    public void OneCertainClass_GivesFullConfidence(GateOn on) => Assert.Equal(1, new Gate(on, 0.5).Confidence([0, 1, 0]), 1e-6);

    [Fact]
    public void ConfidenceAtTheThreshold_Answers()
    {
        Assert.True(new Gate(GateOn.MaxSoftmax, 0.75).Answers([0.75f, 0.25f]));
        Assert.False(new Gate(GateOn.MaxSoftmax, 0.76).Answers([0.75f, 0.25f]));
    }

    [Fact]
    public void NotANumber_NeverAnswers() => Assert.False(new Gate(GateOn.MaxSoftmax, 0).Answers([float.NaN, float.NaN]));

    [Fact]
    public void LearnedGate_IsTheLogisticOfItsWeightedFeatures()
    {
        var gate = new Gate(GateOn.Learned, 0.5) { Weights = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6] };
        var sum = 0.1 + 0.2 * Math.Log(0.7) + 0.3 * Math.Log(0.2) + 0.4 * Math.Log(0.1) + 0.5 * 0.5 + 0.6 * 0.2701533;

        Assert.Equal(1 / (1 + Math.Exp(-sum)), gate.Confidence([0.1f, 0.7f, 0.2f]), 1e-6);
        Assert.Equal(gate.Confidence([0.1f, 0.7f, 0.2f]), gate.Confidence([0.7f, 0.2f, 0.1f]));
    }

    [Fact]
    public void LearnedGateOverTwoClasses_HasOneFeatureFewer()
    {
        var gate = new Gate(GateOn.Learned, 0.5) { Weights = [0, 0, 0, 2, 0] };

        Assert.Equal(5, LearnedGate.Count(2));
        Assert.Equal(1 / (1 + Math.Exp(-2 * 0.5)), gate.Confidence([0.25f, 0.75f]), 1e-6);
    }

    [Fact]
    public void ImpossibleClasses_StayFinite() => Assert.Equal(1, new Gate(GateOn.Learned, 0.5) { Weights = [5, 0, -1, -1, 0, 0] }.Confidence([0, 1, 0]), 1e-6);

    [Fact]
    public void NotANumber_NeverPassesALearnedGate() => Assert.False(new Gate(GateOn.Learned, 0) { Weights = [9, 0, 0, 0, 0, 0] }.Answers([float.NaN, float.NaN, float.NaN]));

    [Fact]
    public void Temperature_FlattensWhatTheGateSees()
    {
        // √.64 : √.32 : √.04 = .8 : .566 : .2
        var expected = 0.8 / (0.8 + Math.Sqrt(0.32) + 0.2);

        Assert.Equal(expected, new Gate(GateOn.MaxSoftmax, 0.5) { Temperature = 2 }.Confidence([0.64f, 0.32f, 0.04f]), 1e-6);
        Assert.Equal(0.64, new Gate(GateOn.MaxSoftmax, 0.5) { Temperature = 1 }.Confidence([0.64f, 0.32f, 0.04f]), 1e-6);
    }
}
