using FsCheck;
using FsCheck.Fluent;
using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class ExplorationTests
{
    private static readonly Dictionary<string, Exploration> Policies = new()
    {
        ["LinUCB"] = new() { Kind = ExplorationKind.LinUcb },
        ["Thompson"] = new() { Kind = ExplorationKind.Thompson, Alpha = 0.5 },
        ["ε-greedy"] = new() { Kind = ExplorationKind.EpsilonGreedy, Epsilon = 0.1 },
    };

    public static TheoryData<string> Names => [.. Policies.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Propensities_SumToOneAndKeepTheirFloor(string name) => Check.One(Config.QuickThrowOnFailure.WithMaxTest(60), Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
    {
        var policy = Policies[name];
        var random = new Random(seed);
        var (means, factor) = Scores(random, random.Next(1, 20));
        var p = new double[means.Length];

        policy.Propensities(means, factor, (ulong)seed, p);

        Assert.Equal(1, p.Sum(), 1e-9);
        Assert.All(p, each => Assert.InRange(each, policy.Epsilon / p.Length * (1 - 1e-9), 1));
    }));

    [Theory]
    [MemberData(nameof(Names))]
    public void Choices_AreDrawnWithThePropensitiesThatAreReported(string name)
    {
        const int draws = 10_000;
        var (means, factor) = Scores(new Random(3), 5);
        double[] p = new double[5], expected = new double[5], counted = new double[5];
        for (var seed = 0; seed < draws; seed++)
        {
            counted[Policies[name].Choose(means, factor, (ulong)seed, p)] += 1.0 / draws;
            for (var i = 0; i < 5; i++) expected[i] += p[i] / draws;
        }

        for (var i = 0; i < 5; i++) Assert.Equal(expected[i], counted[i], 0.02);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void SameSeed_IsTheSameChoice(string name)
    {
        var (means, factor) = Scores(new Random(4), 6);
        double[] p = new double[6], q = new double[6];

        Assert.Equal(Policies[name].Choose(means, factor, 42, p), Policies[name].Choose(means, factor, 42, q));
        Assert.Equal(p, q);
    }

    [Theory]
    [InlineData("LinUCB")]
    [InlineData("ε-greedy")]
    public void Ties_ShareAlike(string name)
    {
        var p = new double[3];
        var factor = new double[9];
        Exploration.Independent([1, 1, 1], factor);

        Policies[name].Propensities([0.5f, 0.5f, 0.1f], factor, 1, p);

        Assert.Equal(p[0], p[1]);
        Assert.True(p[2] < p[0]);
    }

    [Fact]
    public void SharedHead_GivesEachScoreItsVariance_AndTwinsOneDraw()
    {
        float[] covariance = [2, 0.5f, 1], candidates = [1, 0, /**/ 0, 1, /**/ 1, 0];
        var factor = new double[9];

        Exploration.Shared(covariance, candidates, 3, factor);

        for (var i = 0; i < 3; i++)
        {
            for (var j = 0; j < 3; j++)
            {
                var product = Enumerable.Range(0, 3).Sum(k => factor[i * 3 + k] * factor[j * 3 + k]);
                Assert.Equal(new[] { 2, 0.5, 2, 0.5, 1, 0.5, 2, 0.5, 2 }[i * 3 + j], product, 1e-6);
            }
        }
        var p = new double[3];
        Policies["Thompson"].Propensities([0, 0, 0], factor, 1, p);
        // The twins are drawn alike to the last bit, or in rounding.
        Assert.Equal(1, p.Sum(), 1e-9);
    }

    [Fact]
    public void LinUcb_PrefersWhatItKnowsLessOf()
    {
        var factor = new double[4];
        Exploration.Independent([0.01f, 1], factor);
        var p = new double[2];

        Policies["LinUCB"].Propensities([0.5f, 0.5f], factor, 1, p);

        Assert.True(p[1] > 0.9);
    }

    private static (float[] Means, double[] Factor) Scores(Random random, int k)
    {
        var factor = new double[k * k];
        Exploration.Independent([.. Enumerable.Range(0, k).Select(_ => random.NextSingle())], factor);
        return ([.. Enumerable.Range(0, k).Select(_ => random.NextSingle())], factor);
    }
}
