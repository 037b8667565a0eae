using FsCheck;
using FsCheck.Fluent;
using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class CombineTests
{
    // Three members over three classes: the first two prefer 0 a little, the third is sure of 2.
    private static readonly float[] Members = [0.5f, 0.3f, 0.2f, /**/ 0.4f, 0.3f, 0.3f, /**/ 0.05f, 0.05f, 0.9f];

    [Fact]
    public void Mean_IsThatOfEachClass()
    {
        var combined = new float[3];
        Combine.Mean(Members, combined);

        AssertClose([0.95f / 3, 0.65f / 3, 1.4f / 3], combined);
    }

    [Fact]
    public void WeightedMean_TakesWeightsOfAnySum()
    {
        var combined = new float[3];
        Combine.WeightedMean(Members, [2, 0, 6], combined);

        AssertClose([0.25f * 0.5f + 0.75f * 0.05f, 0.25f * 0.3f + 0.75f * 0.05f, 0.25f * 0.2f + 0.75f * 0.9f], combined);
    }

    [Fact]
    public void Majority_CountsVotesNotProbabilities()
    {
        var shares = new float[3];

        Assert.Equal(0, Combine.Majority(Members, [], 0b111, shares));
        AssertClose([2 / 3f, 0, 1 / 3f], shares);
    }

    [Fact]
    public void EqualVotes_GoToTheClassWithMoreProbability_MissingMembersIncluded()
    {
        var shares = new float[3];

        // The second is missing: one vote each for 0 and 2; the probabilities of all three favour 2.
        Assert.Equal(2, Combine.Majority(Members, [], 0b101, shares));
        AssertClose([0.5f, 0, 0.5f], shares);
    }

    [Fact]
    public void HeavierVotes_Win()
    {
        var shares = new float[3];

        Assert.Equal(2, Combine.Majority(Members, [0.2, 0.2, 0.6], 0b111, shares));
        AssertClose([0.4f, 0, 0.6f], shares);
    }

    [Fact]
    public void NobodyThere_TheMeansDecideAndNobodyVotes()
    {
        var shares = new float[3];

        Assert.Equal(2, Combine.Majority(Members, [], 0, shares));
        AssertClose([0, 0, 0], shares);
    }

    [Theory]
    [InlineData(0b111, 0, 2 / 3.0)]
    [InlineData(0b111, 2, 1 / 3.0)]
    [InlineData(0b111, 1, 0)]
    [InlineData(0b101, 0, 1 / 3.0)] // A missing member agrees with nobody.
    public void Agreement_IsTheShareOfAllMembersThatVoteForTheLabel(int present, int label, double expected) =>
        Assert.Equal(expected, Combine.Agreement(Members, 3, (ulong)present, label), 1e-9);

    [Fact]
    public void SixtyFourMembers_AreAllCounted()
    {
        var members = Enumerable.Range(0, 64).SelectMany(_ => new[] { 0.2f, 0.8f }).ToArray();

        Assert.Equal(1, Combine.Agreement(members, 2, Combine.Everyone(64), 1));
        Assert.Throws<ArgumentException>(() => Combine.Mean([.. members, 0.2f, 0.8f], new float[2]));
    }

    [Fact]
    public void ValuesThatAreNotRowsOfTheClasses_AreRefused() => Assert.Throws<ArgumentException>(() => Combine.Mean(Members.AsSpan(1), new float[3]));

    [Fact]
    public void AnyMembersAndWeights_CombineToProbabilities()
    {
        Check.One(Config.QuickThrowOnFailure, Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            var (count, classes) = (random.Next(1, 65), random.Next(1, 20));
            var members = Some(random, count, classes);
            var weights = Enumerable.Range(0, count).Select(_ => random.NextDouble() + 1e-6).ToArray();
            var combined = new float[classes];

            Combine.WeightedMean(members, weights, combined);
            Assert.Equal(1, combined.Sum(), 1e-4);
            Assert.All(combined, p => Assert.InRange(p, 0, 1.0001f));

            var losses = new double[count];
            Combine.MixtureLosses(members, [.. weights.Select(weight => weight / weights.Sum())], Combine.Everyone(count), random.Next(classes), combined, losses);
            Assert.All(losses, loss => Assert.InRange(loss, 0, 1));
        }));
    }

    [Fact]
    public void MixtureLosses_AreLeastForTheMemberThatIsRightAndNaNForTheMissing()
    {
        var losses = new double[3];
        Combine.MixtureLosses(Members, [1 / 3.0, 1 / 3.0, 1 / 3.0], 0b101, 2, new float[3], losses);

        Assert.True(losses[2] < losses[0]);
        Assert.True(double.IsNaN(losses[1]));
    }

    [Fact]
    public void Combining_AllocatesNothing()
    {
        var combined = new float[3];
        double[] weights = [1, 2, 3], losses = new double[3];
        Run();
        var before = GC.GetAllocatedBytesForCurrentThread();

        for (var i = 0; i < 100; i++) Run();

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Run()
        {
            Combine.Mean(Members, combined);
            Combine.WeightedMean(Members, weights, combined);
            Combine.Majority(Members, weights, 0b111, combined);
            Combine.Agreement(Members, 3, 0b111, 0);
            Combine.MixtureLosses(Members, weights, 0b111, 0, combined, losses);
        }
    }

    internal static float[] Some(Random random, int rows, int classes)
    {
        var values = new float[rows * classes];
        for (var row = 0; row < rows; row++)
        {
            var span = values.AsSpan(row * classes, classes);
            foreach (ref var value in span) value = random.NextSingle() + 1e-3f;
            var sum = 0f;
            foreach (var value in span) sum += value;
            foreach (ref var value in span) value /= sum;
        }
        return values;
    }

    private static void AssertClose(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++) Assert.Equal(expected[i], actual[i], 1e-6f);
    }
}
