using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class Exp4Tests
{
    [Fact]
    public void AllLossesKnown_WeightsFallByTheLossItself()
    {
        var policy = new Exp4 { LearningRate = 0.3, Share = 0 };
        var state = policy.Start(3);
        policy.LearnAll(state, [0, 0.5, 1]);
        policy.LearnAll(state, [0, 0.5, 1]);
        var weights = Weights(policy, state);

        // Not divided by a probability: every member's loss is known.
        double[] expected = [1, Math.Exp(-0.3), Math.Exp(-0.6)];
        for (var i = 0; i < 3; i++) Assert.Equal(expected[i] / expected.Sum(), weights[i], 1e-6);
    }

    [Fact]
    public void FixedShare_IsHandedToAllAlike()
    {
        var policy = new Exp4 { LearningRate = 10, Share = 0.01 };
        var state = policy.Start(2);
        for (var t = 0; t < 50; t++) policy.LearnAll(state, [0, 1]);

        Assert.Equal(0.005, Weights(policy, state)[1], 1e-5);
    }

    [Fact]
    public void BestMemberBreaks_ShareLetsAnotherTakeOver_WithoutItLate()
    {
        Assert.InRange(UpdatesToTakeOver(new Exp4()), 1, 50);
        Assert.InRange(UpdatesToTakeOver(new Exp4 { Share = 0 }), 900, 1100);

        // One member leads for 1,000 updates, then the other is the better one.
        static int UpdatesToTakeOver(Exp4 policy)
        {
            var state = policy.Start(2);
            for (var t = 0; t < 1000; t++) policy.LearnAll(state, [0, 1]);
            var needed = 0;
            for (; Weights(policy, state)[1] < 0.5; needed++) policy.LearnAll(state, [1, 0]);
            return needed;
        }
    }

    [Fact]
    public void MissingMember_KeepsItsWeightWhileTheOthersShareTheirs()
    {
        var policy = new Exp4 { Share = 0 };
        var state = policy.Start(3);
        policy.LearnAll(state, [0.2, 0.9, 0.4]);
        var before = Weights(policy, state);
        policy.LearnAll(state, [1, double.NaN, 0]);
        var after = Weights(policy, state);

        Assert.Equal(before[1], after[1], 1e-6);
        Assert.True(after[0] < before[0] && after[2] > before[2]);
    }

    [Fact]
    public void NobodyRan_NothingIsLearnt()
    {
        var policy = new Exp4();
        var state = policy.Start(2);
        var before = state.ToBytes();

        policy.LearnAll(state, [double.NaN, double.NaN]);

        Assert.Equal(before, state.ToBytes());
    }

    [Theory]
    [InlineData(-0.5)]
    [InlineData(2)]
    public void OneLossOutOfRange_IsRefusedAndChangesNothing(double loss)
    {
        var policy = new Exp4();
        var state = policy.Start(2);
        var before = state.ToBytes();

        Assert.Throws<ArgumentOutOfRangeException>(() => policy.LearnAll(state, [0.5, loss]));
        Assert.Throws<ArgumentOutOfRangeException>(() => policy.LearnAnswer(state, [0.5, loss], 0.5, 0.5));

        Assert.Equal(before, state.ToBytes());
    }

    [Fact]
    public void OnlyTheAnswersLossIsKnown_ItsAdvisersPayItDividedByThePropensity()
    {
        var policy = new Exp4 { LearningRate = 0.1, Share = 0 };
        var state = policy.Start(3);
        policy.LearnAnswer(state, [1, 0, 1], 1, 0.5);
        var weights = Weights(policy, state);

        var paid = Math.Exp(-0.2);
        Assert.Equal(paid / (1 + 2 * paid), weights[0], 1e-6);
        Assert.Equal(1 / (1 + 2 * paid), weights[1], 1e-6);
        Assert.Equal(weights[0], weights[2], 1e-9);
    }

    [Fact]
    public void WrongNumberOfLosses_IsRefused() => Assert.Throws<ArgumentException>(() => new Exp4().LearnAll(new Exp4().Start(3), [0, 1]));

    /// <summary>The least Brier score of w (.9, .4) + (1 − w) (.4, .9) over six and four of ten is at w = .64, where nothing is answered wrongly; the better member alone errs on four of ten.</summary>
    [Fact]
    public void MixtureLosses_FindTheBestMixture_MembersOwnErrorsTheBestMember()
    {
        Assert.InRange(LearntWeight(mixture: true), 0.5, 0.78);
        Assert.InRange(LearntWeight(mixture: false), 0.9, 1);

        static double LearntWeight(bool mixture)
        {
            var policy = new Exp4 { LearningRate = 0.2 };
            var state = policy.Start(2);
            double[] weights = new double[2], losses = new double[2];
            var combined = new float[2];
            for (var t = 0; t < 3000; t++)
            {
                // Always class 0. Each is sure where it is right, and errs by a little where it is wrong; the first is right on 6 of 10, the second on the other 4.
                float[] members = t % 10 < 6 ? [0.9f, 0.1f, 0.4f, 0.6f] : [0.4f, 0.6f, 0.9f, 0.1f];
                policy.Weights(state, weights);
                if (mixture) Combine.MixtureLosses(members, weights, 3, 0, combined, losses);
                else losses = [members[0] > 0.5 ? 0 : 1, members[2] > 0.5 ? 0 : 1];
                policy.LearnAll(state, losses);
            }
            return Weights(policy, state)[0];
        }
    }

    private static double[] Weights(Exp4 policy, PolicyState state)
    {
        var weights = new double[state.Arms];
        policy.Weights(state, weights);
        return weights;
    }
}
