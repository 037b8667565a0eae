using System.Text.Json;
using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class PriorRefreshTests
{
    private const double Strength = 0.5;

    [Fact]
    public void NewPrior_IsTheBatchSolutionOverTheOldOneAndAllUsersExamples()
    {
        var prior = Start();
        var head = Head.FromPrior(new HeadDocument { Features = "f", Kind = HeadKind.Classes, PriorStrength = Strength, Guards = GuardDocument.Off }, 2, 1, prior);
        var random = new Random(1);
        var all = new List<(float[] Phi, float[] Target)>();
        var heads = Enumerable.Range(0, 5).Select(_ => Learn(head, random, all)).ToList();

        var (refreshed, _) = PriorRefresh.Refresh(prior, Strength, heads, cap: double.PositiveInfinity);

        double[] gram = [.. prior.Gram];
        foreach (var (phi, _) in all)
            for (var i = 0; i < 3; i++)
                for (var j = 0; j < 3; j++) gram[i * 3 + j] += phi[i] * phi[j];
        for (var i = 0; i < 9; i++) Assert.Equal(gram[i], refreshed.Gram[i], 1e-2 * Math.Abs(gram[i]) + 1e-2);
        // The head that would have learnt it all, from the old prior at its whole strength.
        var whole = new LearningHead(Head.FromPrior(head.Document with { PriorStrength = 1 }, 2, 1, prior), null);
        foreach (var (phi, target) in all) whole.Learn(phi, [.. target], DateTimeOffset.UnixEpoch);
        for (var i = 0; i < 6; i++) Assert.Equal(whole.Weights[i], refreshed.Weights[i], 1e-2);
    }

    [Fact]
    public void OneBusyUser_IsNotThePopulation()
    {
        var prior = Start();
        var head = Head.FromPrior(new HeadDocument { Features = "f", Kind = HeadKind.Classes, PriorStrength = Strength, Guards = GuardDocument.Off }, 2, 1, prior);
        var busy = Enumerable.Range(0, 50).Aggregate((HeadState?)null, (state, seed) => Learn(head, new Random(seed), [], state));

        var (refreshed, _) = PriorRefresh.Refresh(prior, Strength, [busy!]);

        Assert.InRange(Trace(refreshed), Trace(prior), Trace(prior) * 1.1001);
    }

    [Fact]
    public void OneUsersWildValue_PullsNoFurtherThanOthersDo()
    {
        var prior = Start();
        var head = Head.FromPrior(new HeadDocument { Features = "f", Kind = HeadKind.Classes, PriorStrength = Strength, Guards = GuardDocument.Off }, 2, 1, prior);
        var heads = Enumerable.Range(0, 30).Select(seed => Learn(head, new Random(seed), [])).ToList();
        var (honest, _) = PriorRefresh.Refresh(prior, Strength, heads);
        var wild = new LearningHead(head, null);
        wild.Learn([0.3f, 0.2f, 1], [1e6f, 0], DateTimeOffset.UnixEpoch);
        heads.Add(new HeadState(new HeadWeights { FeaturesVersion = 1, PriorVersion = 1, Updates = 1, Weights = wild.Weights, Offset = 0, Tag = "" }, wild.Covariance));

        var (refreshed, used) = PriorRefresh.Refresh(prior, Strength, heads);

        Assert.Equal(31, used);
        for (var i = 0; i < 6; i++) Assert.Equal(honest.Weights[i], refreshed.Weights[i], 0.3); // four of thirty
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.9)]
    [InlineData(0.98)]
    [InlineData(0.999)]
    public void HeadsThatForget_CountWithWhatTheyRemember(double gamma)
    {
        var prior = Start();
        var head = Head.FromPrior(new HeadDocument { Features = "f", Kind = HeadKind.Classes, PriorStrength = Strength, Guards = GuardDocument.Off, Forgetting = gamma }, 2, 1, prior);
        var all = new List<(float[] Phi, float[] Target)>();
        var state = Enumerable.Range(0, 12).Aggregate((HeadState?)null, (state, seed) => Learn(head, new Random(seed), all, state))!;

        var (refreshed, used) = PriorRefresh.Refresh(head, prior, 1, [state], double.PositiveInfinity);

        Assert.Equal(1, used);
        // An example counts γ for each that came after it, and itself.
        double[] gram = [.. prior.Gram];
        for (var n = 0; n < all.Count; n++)
            for (var i = 0; i < 3; i++)
                for (var j = 0; j < 3; j++) gram[i * 3 + j] += Math.Pow(gamma, all.Count - n) * all[n].Phi[i] * all[n].Phi[j];
        for (var i = 0; i < 9; i++) Assert.Equal(gram[i], refreshed.Gram[i], 1e-2 * Math.Abs(gram[i]) + 1e-2);
        // Between where it began and where the user is.
        var (from, to) = (Distance(prior.Weights, state.Weights.Weights), Distance(refreshed.Weights, state.Weights.Weights));
        Assert.InRange(to, 0, from);
    }

    [Fact]
    public void NoUsers_ChangeNothing()
    {
        var prior = Start();
        var (refreshed, _) = PriorRefresh.Refresh(prior, Strength, []);

        Assert.Equal(prior.Gram, refreshed.Gram);
        for (var i = 0; i < 6; i++) Assert.Equal(prior.Weights[i], refreshed.Weights[i], 1e-5);
    }

    [Fact]
    public void PublishedDocument_ReadsBackTheSame()
    {
        foreach (var prior in new[] { Start(), Prior.Parse("""{"mu":7.5,"w0":[1,2],"lambda_diag":[3,4]}"""u8) })
        {
            var again = Prior.Parse(prior.ToJson());

            Assert.Equal((prior.Dimensions, prior.Outputs, prior.Offset), (again.Dimensions, again.Outputs, again.Offset));
            Assert.Equal(prior.Gram, again.Gram);
            Assert.Equal(prior.Weights, again.Weights);
        }
    }

    private static double Trace(Prior prior) => Enumerable.Range(0, prior.Dimensions).Sum(prior.Precision);

    private static Prior Start() => Prior.Parse(JsonSerializer.SerializeToUtf8Bytes(new Dictionary<string, double[][]>
    {
        ["prior_mean"] = [[0.5, -0.5], [0.1, 0.2], [0, 1]],
        ["prior_gram"] = [[20, 3, 1], [3, 15, 2], [1, 2, 30]],
    }));

    private static HeadState Learn(Head head, Random random, List<(float[] Phi, float[] Target)> all, HeadState? state = null)
    {
        var learning = new LearningHead(head, state);
        for (var n = 0; n < 20; n++)
        {
            float[] phi = [random.NextSingle() * 2 - 1, random.NextSingle() * 2 - 1, 1], target = random.Next(2) == 0 ? [1, 0] : [0, 1];
            all.Add((phi, [.. target]));
            learning.Learn(phi, target, DateTimeOffset.UnixEpoch);
        }
        return new HeadState(new HeadWeights { FeaturesVersion = 1, PriorVersion = 1, Updates = 20, Weights = learning.Weights, Offset = 0, Tag = "" }, learning.Covariance) { Memory = learning.Memory.ToBytes() };
    }

    private static double Distance(float[] a, float[] b) => Math.Sqrt(a.Zip(b, (x, y) => (double)(x - y) * (x - y)).Sum());
}
