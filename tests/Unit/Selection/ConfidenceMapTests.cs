using FsCheck;
using FsCheck.Fluent;
using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class ConfidenceMapTests
{
    [Fact]
    public void WhateverItIsFittedOn_ItNeverFallsAndReadsBack()
    {
        Check.One(Config.QuickThrowOnFailure, Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            var grain = random.Next(1, 200);
            var scores = Enumerable.Range(0, random.Next(1, 500)).Select(_ => random.Next(grain) / (double)grain).ToArray();
            var map = ConfidenceMap.Fit(scores, [.. scores.Select(_ => random.Next(3) == 0)]);
            var read = ConfidenceMap.FromNumbers(map.ToNumbers());
            var last = 0.0;
            for (var score = -0.1; score < 1.1; score += 0.003)
            {
                var chance = map.Chance(score);
                Assert.InRange(chance, last, 1);
                Assert.Equal(chance, read.Chance(score));
                last = chance;
            }
            Assert.InRange(map.ToNumbers().Length, 2, 2 * 2 * 32);
        }));
    }

    [Fact]
    public void GroupsInOrder_HaveTheirOwnAccuracy()
    {
        var map = ConfidenceMap.Fit(Repeat((0.5, 1000), (1, 1000)), Outcomes((400, 1000), (900, 1000)));

        Assert.Equal(0.4, map.Chance(0.5), 0.001);
        Assert.Equal(0.9, map.Chance(1), 0.001);
        Assert.Equal(0.65, map.Chance(0.75), 0.001);
    }

    [Fact]
    public void GroupsOutOfOrder_ArePooled()
    {
        // .7 of 100 before .4 of 300: together .475 of 400.
        var map = ConfidenceMap.Fit(Repeat((0, 1000), (0.3, 100), (0.6, 300)), Outcomes((100, 1000), (70, 100), (120, 300)));

        Assert.Equal(0.475, map.Chance(0.3), 0.005);
        Assert.Equal(map.Chance(0.3), map.Chance(0.6));
        Assert.Equal(0.1, map.Chance(0), 0.005);
    }

    [Fact]
    public void AFewAnswersAllRight_AreNotCertain() => Assert.InRange(ConfidenceMap.Fit(Repeat((0, 10), (1, 3)), Outcomes((2, 10), (3, 3))).Chance(1), 0.8, 0.95);

    [Fact]
    public void ScoresInAnyOrder_GiveOneMap()
    {
        double[] scores = [1, 0, 0.5, 1, 0, 0.5];
        bool[] correct = [true, false, true, true, false, false];

        Assert.Equal(ConfidenceMap.Fit([0, 0, 0.5, 0.5, 1, 1], [false, false, true, false, true, true]).ToNumbers(), ConfidenceMap.Fit(scores, correct).ToNumbers());
    }

    [Theory]
    [InlineData(new double[0])]
    [InlineData(new[] { 0.5 })]
    [InlineData(new[] { 0.5, 0.5, 0.5, 0.6 })] // The score stays.
    [InlineData(new[] { 0.5, 0.5, 0.4, 0.6 })] // The score falls.
    [InlineData(new[] { 0.5, 0.7, 0.6, 0.6 })] // The chance falls.
    [InlineData(new[] { 0.5, 1.1 })]
    [InlineData(new[] { 0.5, double.NaN })]
    [InlineData(new[] { double.NaN, 0.5 })]
    public void NumbersThatAreNoMap_AreRefused(double[] numbers) => Assert.Throws<FormatException>(() => ConfidenceMap.FromNumbers(numbers));

    private static double[] Repeat(params (double Score, int Count)[] groups) => [.. groups.SelectMany(group => Enumerable.Repeat(group.Score, group.Count))];

    private static bool[] Outcomes(params (int Right, int Count)[] groups) => [.. groups.SelectMany(group => Enumerable.Range(0, group.Count).Select(i => i < group.Right))];
}
