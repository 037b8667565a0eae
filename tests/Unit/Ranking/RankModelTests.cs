using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Unit.Ranking;

public sealed class RankModelTests
{
    private static readonly FeatureSpace Space = new(6, [], false, 2);

    [Fact]
    public void Learning_IsThatOfTheDiagonalHead()
    {
        var model = Start();
        var (weights, variances, scratch) = (new float[64], Enumerable.Repeat(0.5f, 64).ToArray(), new float[64]);
        var random = new Random(1);
        for (var n = 0; n < 200; n++)
        {
            var vector = Some(random);
            var dense = new float[64];
            for (var i = 0; i < vector.Count; i++) dense[vector.Indices[i]] = vector.Values[i];
            var reward = random.NextDouble();
            DiagonalHead.Update(weights, variances, dense, [(float)reward], scratch);
            model.Reward(vector, reward);
        }
        for (var i = 0; i < 64; i++)
        {
            Assert.Equal(weights[i], model.At(i).Weight, 1e-5f);
            Assert.Equal(variances[i], model.At(i).Variance, 1e-5f);
        }
    }

    [Fact]
    public void StoredModel_IsReadBackBitForBit()
    {
        var model = Learnt(1, 10);
        model.Imitate(null, true);
        var again = RankModel.ReadOrStart(model.ToBytes(), Space, 2);

        Assert.All(Enumerable.Range(0, 64), i => Assert.Equal(model.At(i), again.At(i)));
        Assert.Equal((model.Updates, model.Rewards, model.Agreement), (again.Updates, again.Rewards, again.Agreement));
        Assert.Equal(model.ToBytes(), again.ToBytes());
    }

    [Fact]
    public void ModelOfOtherFeatures_IsStartedAnew() =>
        Assert.Equal(0, RankModel.ReadOrStart(Learnt(1, 10).ToBytes(), new FeatureSpace(6, [("a", "b")], false, 2), 2).Updates);

    [Fact]
    public void Shards_AddUpTheirEvidence()
    {
        var (one, two) = (Learnt(1, 40), Learnt(2, 40));
        var view = new RankView([one, two]);
        for (var i = 0; i < 64; i++)
        {
            var (w1, p1) = one.At(i);
            var (w2, p2) = two.At(i);
            var precision = 1 / p1 + 1 / p2 - 2; // one prior, not two
            var (weight, variance) = view.At(i);
            Assert.Equal(1 / precision, variance, 1e-5f);
            Assert.Equal((w1 / p1 + w2 / p2) / precision, weight, 1e-5f);
        }
        Assert.Equal(80, view.Updates);
        Assert.Equal((one.Rewards.Mean + two.Rewards.Mean) / 2, view.Rewards.Mean, 9);
    }

    [Fact]
    public void UntouchedShards_ChangeNothing()
    {
        var one = Learnt(1, 40);
        var view = new RankView([one, Start(), Start()]);
        Assert.All(Enumerable.Range(0, 64), i => Assert.Equal(one.At(i).Weight, view.At(i).Weight, 1e-6f));
    }

    [Fact]
    public void Scores_HaveTheCovarianceOfWhatTheCandidatesShare()
    {
        var view = new RankView([Learnt(1, 40), Learnt(2, 40)]);
        var random = new Random(3);
        var candidates = Enumerable.Range(0, 3).Select(_ => Some(random)).ToList();
        var (means, covariance) = (new float[3], new double[9]);
        view.Score(candidates, means, covariance);

        for (var a = 0; a < 3; a++)
        {
            Assert.Equal(candidates[a].Indices.Zip(candidates[a].Values).Sum(pair => view.At(pair.First).Weight * pair.Second), means[a], 1e-5f);
            for (var b = 0; b < 3; b++)
            {
                var other = candidates[b].Indices.Zip(candidates[b].Values).ToDictionary(pair => pair.First, pair => pair.Second);
                var expected = candidates[a].Indices.Zip(candidates[a].Values).Sum(pair => view.At(pair.First).Variance * pair.Second * (double)other.GetValueOrDefault(pair.First));
                Assert.Equal(expected, covariance[a * 3 + b], 1e-6);
            }
        }
    }

    [Fact]
    public void Imitation_PutsTheCallersChoiceFirst()
    {
        var model = Start();
        var (his, other) = (new SparseVector([1], [1]), new SparseVector([2], [1]));
        for (var n = 0; n < 20; n++) model.Imitate(his.Minus(other), agreed: n > 0);

        Assert.True(model.At(1).Weight > model.At(2).Weight + 0.5);
        Assert.Equal(0.95, model.Agreement.Mean, 9);
        Assert.Equal(0, model.Rewards.Count);
    }

    [Fact]
    public void RunningShare_ForgetsWhatIsLongAgo()
    {
        var share = default(RunningShare);
        for (var n = 0; n < 5000; n++) share = share.With(0);
        for (var n = 0; n < 5000; n++) share = share.With(1);
        Assert.Equal(10_000, share.Count);
        Assert.True(share.Mean > 0.99);
    }

    private static RankModel Start() => RankModel.ReadOrStart(null, Space, 2);

    private static RankModel Learnt(int seed, int examples)
    {
        var model = Start();
        var random = new Random(seed);
        for (var n = 0; n < examples; n++) model.Reward(Some(random), random.NextDouble());
        return model;
    }

    private static SparseVector Some(Random random)
    {
        var indices = Enumerable.Range(0, 64).Where(_ => random.Next(8) == 0).ToArray();
        return new SparseVector(indices, [.. indices.Select(_ => (float)(random.NextDouble() - 0.5))]);
    }
}
