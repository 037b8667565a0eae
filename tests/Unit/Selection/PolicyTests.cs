using FsCheck;
using FsCheck.Fluent;
using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class PolicyTests
{
    private static readonly Dictionary<string, Policy> Policies = new()
    {
        ["Exp3"] = new Exp3(),
        ["Exp3 without share"] = new Exp3 { Share = 0 },
        ["Exp4"] = new Exp4(),
        ["ε-greedy"] = new EpsilonGreedy(),
        ["Thompson"] = new ThompsonSampling(),
    };

    public static TheoryData<string> Names => [.. Policies.Keys];

    /// <summary>The least probability that a policy promises each of k actions.</summary>
    private static double Floor(Policy policy, int k) => policy switch
    {
        Exp3 exp3 => exp3.Exploration / k,
        Exp4 exp4 => exp4.Share / k,
        EpsilonGreedy greedy => greedy.Epsilon / k,
        ThompsonSampling thompson => thompson.Floor / k,
        _ => throw new ArgumentException("no such policy"),
    };

    [Theory]
    [MemberData(nameof(Names))]
    public void WhateverWasLearnt_PropensitiesSumToOneAndKeepTheirFloor(string name)
    {
        var policy = Policies[name];
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(60), Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            var state = Learnt(policy, random.Next(1, 65), random.Next(60), random);
            var p = new double[state.Arms];
            policy.Propensities(state, (ulong)seed, p);

            Assert.Equal(1, p.Sum(), 1e-9);
            Assert.All(p, each => Assert.InRange(each, Floor(policy, state.Arms) * (1 - 1e-5), 1));
        }));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void StoredAndReadAgain_ItLearnsAndChoosesTheSame(string name)
    {
        var policy = Policies[name];
        var kept = policy.Start(5);
        var stored = kept.ToBytes();
        var random = new Random(3);
        double[] p = new double[5], q = new double[5];
        for (var t = 0; t < 300; t++)
        {
            var state = PolicyState.Read(stored);
            var action = policy.Choose(kept, (ulong)t, p);

            Assert.Equal(action, policy.Choose(state, (ulong)t, q));
            Assert.Equal(p, q);
            var loss = random.NextDouble();
            policy.Learn(kept, action, loss, p[action]);
            policy.Learn(state, action, loss, p[action]);
            stored = state.ToBytes();
            Assert.Equal(kept.ToBytes(), stored);
        }
        Assert.Equal(300u, kept.Updates);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Actions_AreDrawnWithTheProbabilitiesThatAreReported(string name)
    {
        var policy = Policies[name];
        var state = Learnt(policy, 4, 25, new Random(7));
        const int draws = 5_000;
        double[] p = new double[4], expected = new double[4], counted = new double[4];
        for (var t = 0; t < draws; t++)
        {
            counted[policy.Choose(state, (ulong)t, p)]++;
            for (var i = 0; i < 4; i++) expected[i] += p[i];
        }
        // Five standard deviations of a binomial, at most √(n/4) each.
        for (var i = 0; i < 4; i++) Assert.Equal(expected[i], counted[i], 5 * Math.Sqrt(draws / 4.0));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void FractionalLosses_AreNotRounded(string name)
    {
        var policy = Policies[name];
        var state = policy.Start(2);
        for (var t = 0; t < 400; t++)
        {
            policy.Learn(state, 0, 0.9, 0.5);
            policy.Learn(state, 1, 0.6, 0.5);
        }
        var p = new double[2];
        policy.Propensities(state, 1, p);

        Assert.True(p[1] > 0.8, $"the better action has {p[1]}");
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void LossOrPropensityOutsideItsRange_IsRefusedAndChangesNothing(string name)
    {
        var policy = Policies[name];
        var state = Learnt(policy, 3, 10, new Random(1));
        var before = state.ToBytes();

        foreach (var loss in new[] { -0.01, 1.01, double.NaN, double.PositiveInfinity }) Assert.Throws<ArgumentOutOfRangeException>(() => policy.Learn(state, 0, loss, 0.5));
        foreach (var propensity in new[] { 0, -0.1, 1.01, double.NaN }) Assert.Throws<ArgumentOutOfRangeException>(() => policy.Learn(state, 0, 0.5, propensity));
        foreach (var action in new[] { -1, 3 }) Assert.Throws<ArgumentOutOfRangeException>(() => policy.Learn(state, action, 0.5, 0.5));

        Assert.Equal(before, state.ToBytes());
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void ManyLosses_LeaveAStateThatStillChoosesAndLearns(string name)
    {
        var policy = Policies[name];
        var state = policy.Start(2);
        // Weights that only shrink would be 0 long before the end; the least propensity is the hardest case.
        for (var t = 0; t < 100_000; t++) policy.Learn(state, t % 2, 1, 1e-4);
        for (var t = 0; t < 2_000; t++)
        {
            policy.Learn(state, 0, 1, 0.5);
            policy.Learn(state, 1, 0, 0.5);
        }
        var p = new double[2];
        policy.Propensities(state, 1, p);

        Assert.True(p[1] > 0.9, $"the better action has {p[1]}");
        PolicyState.Read(state.ToBytes());
    }

    [Theory]
    [InlineData("Exp3", 1.4)]
    [InlineData("Exp4", 1.15)]
    [InlineData("ε-greedy", 1.4)]
    [InlineData("Thompson", 1.5)]
    public void BestModelBreaks_ErrorsStayNearAnOraclesThatSwitches(string name, double most)
    {
        double[] rates = [0.46, 0.346, 0.2425, 0.168, 0.0915];
        int errors = 0, oracle = 0;
        for (var seed = 0; seed < 8; seed++)
        {
            var policy = Policies[name];
            var (state, random) = (policy.Start(5), new Random(seed));
            double[] losses = new double[5], p = new double[5];
            for (var t = 0; t < 3000; t++)
            {
                for (var i = 0; i < 5; i++) losses[i] = random.NextDouble() < (i == 4 && t >= 1000 ? 0.7 : rates[i]) ? 1 : 0;
                oracle += (int)losses[t < 1000 ? 4 : 3];
                var action = policy.Choose(state, (ulong)(seed * 3000 + t), p);
                errors += (int)losses[action];
                if (policy is Exp4 exp4) exp4.LearnAll(state, losses);
                else policy.Learn(state, action, losses[action], p[action]);
            }
        }
        Assert.True(errors <= most * oracle, $"{errors} errors, the oracle's {oracle}");
    }

    [Fact]
    public void StateOfAnotherPolicy_IsRefused() => Assert.Throws<ArgumentException>(() => new Exp3().Learn(new Exp4().Start(3), 0, 1, 0.5));

    [Fact]
    public void Exp3_LossGoesToTheDrawnActionAloneDividedByItsPropensity()
    {
        var policy = new Exp3 { LearningRate = 0.1, Exploration = 0.2, Share = 0 };
        var state = policy.Start(3);
        policy.Learn(state, 1, 0.5, 0.25);
        var p = new double[3];
        policy.Propensities(state, 0, p);

        // s = (1, e^(−0.1 · 0.5 / 0.25), 1)
        var s = Math.Exp(-0.2);
        Assert.Equal(0.8 / (2 + s) + 0.2 / 3, p[0], 1e-6);
        Assert.Equal(0.8 * s / (2 + s) + 0.2 / 3, p[1], 1e-6);
    }

    [Fact]
    public void EpsilonGreedy_EqualActionsShareTheRest()
    {
        var policy = new EpsilonGreedy { Epsilon = 0.1 };
        var state = policy.Start(4);
        policy.Learn(state, 0, 0.5, 1);
        policy.Learn(state, 1, 1, 1);
        var p = new double[4];
        policy.Propensities(state, 0, p);

        Assert.Equal([0.025, 0.025, 0.475, 0.475], p.Select(each => Math.Round(each, 9)));
    }

    [Fact]
    public void Thompson_PropensityIsTheChanceOfBeingTheBest()
    {
        var policy = new ThompsonSampling { Floor = 1e-6, Draws = 50_000, Discount = 1 };
        var state = policy.Start(2);
        policy.Learn(state, 0, 0, 1);
        var p = new double[2];
        policy.Propensities(state, 5, p);

        // Beta(2, 1) against Beta(1, 1): ∫ 2x · x dx = 2/3.
        Assert.Equal(2 / 3.0, p[0], 0.01);
    }

    [Fact]
    public void Thompson_WithMoreEvidenceThanAFloatCounts_GoesOnLearning()
    {
        var policy = new ThompsonSampling { Discount = 1 };
        var state = policy.Start(1);
        // Where a float stops to count by ones.
        (state.Values[0], state.Values[1]) = (3 << 24, 1 << 24);
        for (var t = 0; t < 400_000; t++) policy.Learn(state, 0, t % 4 < 2 ? 1 : 0, 1);

        // From .25 towards the .5 of late, by as much evidence as is kept.
        Assert.InRange(state.Values[1] / (state.Values[0] + state.Values[1]), 0.3f, 0.5f);
    }

    [Theory]
    [InlineData(-0.1)]
    [InlineData(0)]
    [InlineData(double.NaN)]
    public void ConstantOutOfRange_NamesItself(double value)
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => new Exp3 { LearningRate = value });

        Assert.Equal("LearningRate", error.ParamName);
    }

    internal static PolicyState Learnt(Policy policy, int arms, int updates, Random random)
    {
        var state = policy.Start(arms);
        var p = new double[arms];
        for (var t = 0; t < updates; t++)
        {
            var action = policy.Choose(state, (ulong)t, p);
            policy.Learn(state, action, Math.Min(1, random.NextDouble() * (action + 1) / arms), p[action]);
        }
        return state;
    }
}
