using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class OffPolicyTests
{
    private static readonly double[] Logging = [0.6, 0.3, 0.1], Target = [0.1, 0.2, 0.7], Means = [0.2, 0.5, 0.8];

    private static double Truth => Target.Zip(Means, (p, mean) => p * mean).Sum();

    [Fact]
    public void Estimators_AreUnbiased_AndTheirIntervalsCover()
    {
        const int logs = 400;
        var values = new double[3][];
        var covered = new int[3];
        for (var i = 0; i < 3; i++) values[i] = new double[logs];
        for (var log = 0; log < logs; log++)
        {
            var (rewards, logged, target, actions) = Log(log, 500);
            // A model that is wrong by a lot: the estimate must not be.
            double[] q = [0.5, 0.5, 0.5];
            double[] direct = [.. actions.Select(_ => 0.5)], predicted = [.. actions.Select(action => q[action])];
            PolicyValue[] estimates = [OffPolicy.Ips(rewards, logged, target), OffPolicy.Snips(rewards, logged, target), OffPolicy.DoublyRobust(rewards, logged, target, direct, predicted)];
            for (var i = 0; i < 3; i++)
            {
                values[i][log] = estimates[i].Value;
                if (estimates[i].Low <= Truth && Truth <= estimates[i].High) covered[i]++;
            }
        }

        Assert.All(values, value => Assert.Equal(Truth, value.Average(), 0.01));
        Assert.All(covered, count => Assert.InRange(count / (double)logs, 0.91, 0.99));
    }

    [Fact]
    public void LoggedPolicyItself_IsItsMeanReward()
    {
        var (rewards, logged, _, _) = Log(1, 200);

        Assert.Equal(rewards.Average(), OffPolicy.Ips(rewards, logged, logged).Value, 1e-12);
        Assert.Equal(200, OffPolicy.Snips(rewards, logged, logged).EffectiveCount, 1e-9);
        Assert.Equal(1, OffPolicy.Snips(rewards, logged, logged).LargestWeight, 1e-12);
    }

    /// <summary>Every weight is 0.99999997, and none deviates.</summary>
    [Fact]
    public void PropensitiesThatWereKeptAsFloats_AreTheLoggedPolicyStill()
    {
        double[] rewards = [.. Enumerable.Range(0, 300).Select(i => i % 2.0)];
        double[] logged = [.. rewards.Select(_ => (double)(float)(1 / 3.0))], target = [.. rewards.Select(_ => 1 / 3.0)];

        Assert.True(target[0] / logged[0] < 1);
        Assert.Equal(0.5, OffPolicy.Ips(rewards, logged, target).Value, 1e-6);
        Assert.Equal(300, OffPolicy.Snips(rewards, logged, target).EffectiveCount, 1e-6);
    }

    [Fact]
    public void ActionsThatWereNeverLogged_AreRefused()
    {
        var rewards = new double[1000];
        double[] logged = [.. rewards.Select(_ => 1.0)], target = [.. rewards.Select(_ => 0.2)];

        Assert.Contains("never logged", Assert.Throws<NoOverlapException>(() => OffPolicy.Ips(rewards, logged, target)).Message);
    }

    [Fact]
    public void FewDecisionsInCommon_AreRefused()
    {
        var rewards = new double[1000];
        double[] logged = [.. rewards.Select(_ => 0.01)], target = [.. rewards.Select((_, i) => i < 10 ? 1.0 : 0)];

        Assert.Contains("worth 10.0", Assert.Throws<NoOverlapException>(() => OffPolicy.Snips(rewards, logged, target)).Message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-0.1)]
    [InlineData(double.NaN)]
    public void PropensityThatIsNone_IsRefused(double propensity) =>
        Assert.Contains("propensity", Assert.Throws<NoOverlapException>(() => OffPolicy.Ips([1], [propensity], [0.5])).Message);

    [Fact]
    public void CrossFit_PredictsFromTheOtherFolds()
    {
        // One example an action and fold: what a decision says of itself must not come back.
        float[] features = [.. Enumerable.Repeat(1f, 100)];
        int[] actions = [.. Enumerable.Range(0, 100).Select(i => i % 2)];
        double[] rewards = [.. actions.Select(action => action == 0 ? 0.2 : 0.9)];
        rewards[0] = 1000;

        var q = RewardModel.CrossFit(features, actions, rewards, 2, 1e-3);

        Assert.Equal(0.2, q[0], 0.05);
        Assert.Equal(0.9, q[1], 0.05);
    }

    private static (double[] Rewards, double[] Logged, double[] Target, int[] Actions) Log(int seed, int n)
    {
        var random = new Random(seed);
        int[] actions = [.. Enumerable.Range(0, n).Select(_ => random.NextDouble() switch { < 0.6 => 0, < 0.9 => 1, _ => 2 })];
        return ([.. actions.Select(action => random.NextDouble() < Means[action] ? 1.0 : 0)], [.. actions.Select(action => Logging[action])], [.. actions.Select(action => Target[action])], actions);
    }
}
