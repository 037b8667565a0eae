using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class GuardTests
{
    private static readonly GuardDocument Guards = GuardDocument.Default;
    private static readonly DateTimeOffset Start = new(2025, 1, 1, 0, 0, 0, TimeSpan.Zero);

    [Fact]
    public void UsualFeatures_AreAccepted()
    {
        GuardMemory memory = default;
        var random = new Random(1);

        for (var i = 0; i < 1000; i++) Assert.Equal(Verdict.Accept, Guard.Measure(Guards, ref memory, 30 + 40 * random.NextSingle(), float.NaN).Verdict);

        Assert.InRange(MathF.Exp(memory.LogNorm), 40, 60);
    }

    [Fact]
    public void InflatedFeatures_AreScaledToTheUsualNorm_AndDoNotBecomeUsual()
    {
        GuardMemory memory = default;
        for (var i = 0; i < 300; i++)
        {
            var verdict = Guard.Measure(Guards, ref memory, i % 3 == 0 ? 500 : 50, 50);
            Assert.Equal(i % 3 == 0 ? Verdict.Clip : Verdict.Accept, verdict.Verdict);
            if (i % 3 == 0) Assert.Equal(0.1f, verdict.Scale, 0.02f);
        }
    }

    [Fact]
    public void InflatedFirstExample_IsOutgrown()
    {
        GuardMemory memory = default;
        Guard.Measure(Guards, ref memory, 5000, float.NaN);

        for (var i = 0; i < 2000; i++) Guard.Measure(Guards, ref memory, 50, float.NaN);

        Assert.Equal(Verdict.Clip, Guard.Measure(Guards, ref memory, 5000, float.NaN).Verdict);
    }

    [Fact]
    public void SurprisingValue_IsQuarantinedWithAReason_UntilItIsUsual()
    {
        GuardMemory memory = default;
        for (var i = 0; i < 50; i++) Assert.Equal(Verdict.Accept, Judge(ref memory, 1));

        Assert.Equal(Verdict.Quarantine, Judge(ref memory, 100));
        var more = 1;
        while (Judge(ref memory, 100) == Verdict.Quarantine) more++;
        Assert.InRange(more, 2, 60);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1e-14f)]
    public void UserWhoSaidOnlyWhatWasExpected_MaySaySomethingElse(float squared)
    {
        GuardMemory memory = default;
        for (var i = 0; i < 50; i++) Assert.Equal(Verdict.Accept, Judge(ref memory, squared));

        Assert.Equal(Verdict.Accept, Judge(ref memory, 400));
        Assert.Equal(Verdict.Quarantine, Judge(ref memory, 1e6f));
    }

    [Fact]
    public void PlainContradictionOfAClass_IsNeverGated()
    {
        GuardMemory memory = default;
        for (var i = 0; i < 500; i++) Judge(ref memory, 1e-4f, 2);

        Assert.Equal(Verdict.Accept, Judge(ref memory, 2, 2));
        Assert.Equal(Verdict.Quarantine, Judge(ref memory, 200, 2));
    }

    [Fact]
    public void TooManyAnHour_AreQuarantined_AndAllowedAgainAsTimePasses()
    {
        GuardMemory memory = default;
        var guards = Guards with { PerUserHour = 10 };

        for (var i = 0; i < 10; i++) Assert.Equal(Verdict.Accept, Guard.Admit(guards, ref memory, Start).Verdict);
        var refused = Guard.Admit(guards, ref memory, Start);

        Assert.Equal((Verdict.Quarantine, "quarantine: guard: more than 10 an hour from this user"), (refused.Verdict, refused.Reason));
        Assert.Equal(Verdict.Quarantine, Guard.Admit(guards, ref memory, Start.AddHours(-5)).Verdict);
        Assert.Equal(Verdict.Accept, Guard.Admit(guards, ref memory, Start.AddMinutes(6.1)).Verdict);
        Assert.Equal(Verdict.Quarantine, Guard.Admit(guards, ref memory, Start.AddMinutes(6.1)).Verdict);
    }

    [Fact]
    public void GuardsThatAreOff_SayNothing()
    {
        GuardMemory memory = default;
        for (var i = 0; i < 20; i++) Judge(ref memory, 1);

        Assert.Equal(Verdict.Accept, Guard.Measure(GuardDocument.Off, ref memory, 1e9f, 1).Verdict);
        Assert.Equal(Verdict.Accept, Guard.Gate(GuardDocument.Off, ref memory, 1e9f, 0).Verdict);
        Assert.Equal(Verdict.Accept, Guard.Admit(GuardDocument.Off, ref memory, Start).Verdict);
    }

    [Fact]
    public void QuarantinedExample_LeavesTheHeadAsItWas()
    {
        var head = Head.WithoutPrior(new HeadDocument { Features = "f", Kind = HeadKind.Regression }, 1, 1);
        var learning = new LearningHead(head, null);
        var random = new Random(1);
        for (var i = 0; i < 50; i++) learning.Learn([1, 1], new[] { random.NextSingle() }, Start);
        float[] weights = [.. learning.Weights], covariance = [.. learning.Covariance];

        var lesson = learning.Learn([1, 1], new[] { 1000f }, Start);

        Assert.False(lesson.IsLearnt);
        Assert.StartsWith("quarantine: ", lesson.Note);
        Assert.Equal(weights, learning.Weights);
        Assert.Equal(covariance, learning.Covariance);
    }

    private static Verdict Judge(ref GuardMemory memory, float squared, float floor = 0)
    {
        Guard.Measure(GuardDocument.Default, ref memory, 1, 1);
        return Guard.Gate(GuardDocument.Default, ref memory, squared, floor).Verdict;
    }
}
