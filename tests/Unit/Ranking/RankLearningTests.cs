using System.Text;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Serving.Json;

namespace Skiff.Unit.Ranking;

/// <summary>What the policies earn from the model as it learns, without a server.</summary>
public sealed class RankLearningTests
{
    private const int Kinds = 4, Articles = 6;

    [Theory]
    [InlineData(ExplorationKind.EpsilonGreedy, 1)]
    [InlineData(ExplorationKind.LinUcb, 1)]
    [InlineData(ExplorationKind.Thompson, 1)]
    [InlineData(ExplorationKind.EpsilonGreedy, 4)]
    [InlineData(ExplorationKind.LinUcb, 4)]
    [InlineData(ExplorationKind.Thompson, 4)]
    public void EveryPolicy_EarnsWellAboveUniformChoice(ExplorationKind kind, int shards)
    {
        var policy = new Exploration { Kind = kind, Epsilon = 0.05 };
        var space = new FeatureSpace(12, [("context", "action")], false, 0.1);
        var view = new RankView([.. Enumerable.Range(0, shards).Select(_ => RankModel.ReadOrStart(null, space, 0.1))]);
        var candidates = Enumerable.Range(0, Kinds).Select(reader => Enumerable.Range(0, Articles)
            .Select(article => space.Combine(Read($$"""{"reader":{"kind":"k{{reader}}"} }"""), Read($$"""{"topic":"t{{article}}"}"""))).ToList()).ToArray();
        var random = new Random(1);
        var (means, factor, propensities) = (new float[Articles], new double[Articles * Articles], new double[Articles]);
        var earned = 0.0;
        for (var n = 0; n < 2000; n++)
        {
            var reader = random.Next(Kinds);
            view.Score(candidates[reader], means, factor);
            Cholesky.FactorSemidefinite(factor, Articles);
            var chosen = policy.Choose(means, factor, (ulong)n, propensities);
            var chance = chosen == reader ? 0.8 : 0.1;
            view.Shards[n % shards].Reward(candidates[reader][chosen], random.NextDouble() < chance ? 1 : 0);
            if (n >= 1500) earned += chance / 500;
        }
        Assert.True(earned > 2.5 * (0.8 + (Articles - 1) * 0.1) / Articles, $"{earned:0.000}");
    }

    private static IReadOnlyCollection<FeatureGroup> Read(string json)
    {
        var reader = new FeatureReader();
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        reader.Read(ref cursor, "features");
        return reader.Groups;
    }
}
