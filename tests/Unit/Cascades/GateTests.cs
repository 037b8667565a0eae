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
}
