using FsCheck;
using FsCheck.Fluent;
using Skiff.Cascades.Tuning;

namespace Skiff.Unit.Cascades.Tuning;

public sealed class PairedDropTests
{
    [Theory]
    [InlineData(45, 0.1, 0.05)]
    [InlineData(70, 0.05, 0.05)]
    [InlineData(30, 0.2, 0.2)]
    public void RefutingATrueDrop_IsNoLikelierThanAsked(int rows, double epsilon, double delta)
    {
        // Every table that is refuted, then its chance under many rates with a drop of epsilon or more, summed exactly.
        var refuted = (from lost in Enumerable.Range(0, rows + 1) from won in Enumerable.Range(0, rows + 1 - lost)
                       where new PairedDrop(lost, won, rows).PValue(epsilon, delta) <= delta
                       select (lost, won)).ToArray();
        Assert.NotEmpty(refuted);
        foreach (var drop in new[] { epsilon, epsilon * 1.1, epsilon * 1.5 })
        {
            for (var wonShare = 0.0; drop + 2 * wonShare <= 1; wonShare += 0.0125)
            {
                var (l, w) = (drop + wonShare, wonShare);
                var chance = refuted.Sum(table => Math.Exp(LogMultinomial(table.lost, table.won, rows, l, w)));
                Assert.True(chance <= delta, $"drop {drop}, won {wonShare}: refuted with probability {chance}");
            }
        }
    }

    [Theory]
    [InlineData(0.0025, 0.05)]
    [InlineData(0.005, 0.005)]
    [InlineData(0.02, 0.1)]
    public void FewerRowsThanNeeded_NeverSufficeAndHalfAgainAsManyDo(double epsilon, double delta)
    {
        var needed = PairedDrop.RowsNeeded(epsilon, delta);

        Assert.True(new PairedDrop(0, 0, needed + needed / 2).PValue(epsilon) <= delta);
        Assert.False(new PairedDrop(0, 0, needed - 1).PValue(epsilon) <= delta);
    }

    [Fact]
    public void Upper_IsBetweenTheMeasuredDropAndClopperPearson() => Prop.ForAll<byte, byte>((a, b) =>
    {
        var drop = new PairedDrop(a % 60, b % 60, 2000);

        var upper = drop.Upper(0.05);

        Assert.InRange(upper, Math.Max(0, drop.Measured), Math.Max(1e-6, drop.ClopperPearsonUpper(0.05)));
        Assert.True(drop.PValue(upper) <= 0.05 + 1e-6);
        if (upper > 1e-5) Assert.True(drop.PValue(upper * 0.99) > 0.05);
    }).Check(Config.QuickThrowOnFailure.WithMaxTest(15));

    [Fact]
    public void OneMoreLostOrOneFewerWon_IsWeakerEvidence() => Prop.ForAll<byte, byte>((a, b) =>
    {
        var (lost, won) = (a % 40, 1 + b % 40);
        var p = new PairedDrop(lost, won, 3000).PValue(0.01);

        Assert.True(new PairedDrop(lost + 1, won, 3000).PValue(0.01) >= p - 1e-9);
        Assert.True(new PairedDrop(lost, won - 1, 3000).PValue(0.01) >= p - 1e-9);
    }).Check(Config.QuickThrowOnFailure.WithMaxTest(50));

    [Fact]
    public void MeasuredDropOfEpsilonOrMore_IsNoEvidence() => Assert.Equal(1, new PairedDrop(60, 10, 5000).PValue(0.01));

    private static double LogMultinomial(int lost, int won, int rows, double l, double w) =>
        Binomial.LogGamma(rows + 1) - Binomial.LogGamma(lost + 1) - Binomial.LogGamma(won + 1) - Binomial.LogGamma(rows - lost - won + 1)
        + Power(lost, l) + Power(won, w) + Power(rows - lost - won, 1 - l - w);

    private static double Power(int count, double p) => count == 0 ? 0 : count * Math.Log(Math.Max(p, 1e-300));
}
