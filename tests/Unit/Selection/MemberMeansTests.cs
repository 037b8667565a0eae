using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class MemberMeansTests
{
    [Fact]
    public void NeverSeen_FavoursNothing() => Assert.Equal([0.25f, 0.25f, 0.25f, 0.25f], Read(new MemberMeans(2, 4), 1));

    [Fact]
    public void FewAnswers_AreTheirPlainMean()
    {
        var means = new MemberMeans(2, 2);
        means.Observe(1, [1, 0, /**/ 0, 1, /**/ 0, 1]);
        means.Observe(1, [0, 1]);

        Assert.Equal(0.25f, Read(means, 1)[0], 1e-6f);
        Assert.Equal(0.5f, Read(means, 0)[0]);
    }

    [Fact]
    public void ManyAnswers_FadeAtTheRateOfDecay()
    {
        var means = new MemberMeans(1, 2, decay: 0.1);
        for (var i = 0; i < 1000; i++) means.Observe(0, [1, 0]);
        for (var i = 0; i < 5; i++) means.Observe(0, [0, 1]);

        Assert.Equal(Math.Pow(0.9, 5), Read(means, 0)[0], 1e-5);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void AnswerThatIsNoNumber_IsPassedOver(float value)
    {
        var means = new MemberMeans(1, 2);
        means.Observe(0, [0, 1, /**/ value, 0, /**/ 0, 1]);

        Assert.Equal([0f, 1f], Read(means, 0));
    }

    [Fact]
    public void MissingMember_IsItsMeanAndTheOthersAreThemselves()
    {
        var means = new MemberMeans(3, 2);
        means.Observe(1, [0.7f, 0.3f]);
        float[] members = [0.1f, 0.9f, /**/ -1, -1, /**/ 0.2f, 0.8f];
        means.FillMissing(members, 0b101);

        Assert.Equal([0.1f, 0.9f, 0.7f, 0.3f, 0.2f, 0.8f], members);
    }

    [Fact]
    public void ManyThreads_LoseNoAnswerAndTearNone()
    {
        var means = new MemberMeans(1, 64);
        var zeros = new float[64];
        var ones = Enumerable.Repeat(1f, 64).ToArray();
        Parallel.For(0, 8, thread =>
        {
            var seen = new float[64];
            for (var i = 0; i < 100; i++)
            {
                means.Observe(0, thread % 2 == 0 ? ones : zeros);
                means.Read(0, seen);
                Assert.All(seen, value => Assert.Equal(seen[0], value));
            }
        });

        // 800 answers, fewer than 1/decay: their plain mean.
        Assert.Equal(0.5f, Read(means, 0)[0], 1e-4f);
    }

    private static float[] Read(MemberMeans means, int member)
    {
        var mean = new float[means.Classes];
        means.Read(member, mean);
        return mean;
    }
}
