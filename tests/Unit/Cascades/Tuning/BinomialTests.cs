using FsCheck;
using FsCheck.Fluent;
using Skiff.Cascades.Tuning;

namespace Skiff.Unit.Cascades.Tuning;

public sealed class BinomialTests
{
    // Polynomials in closed form: I(x; 1, b) = 1 − (1 − x)ᵇ, I(x; a, 1) = xᵃ, I(x; 2, 2) = x²(3 − 2x); and symmetry.
    [Theory]
    [InlineData(1, 5, 0.2, 0.67232)]
    [InlineData(5, 1, 0.8, 0.32768)]
    [InlineData(2, 2, 0.3, 0.216)]
    [InlineData(0.5, 0.5, 0.5, 0.5)]
    [InlineData(0.5, 0.5, 0.25, 1.0 / 3)] // 2/π · asin √x
    public void IncompleteBeta_IsTheKnownValue(double a, double b, double x, double expected) => Assert.Equal(expected, Binomial.IncompleteBeta(a, b, x), 1e-12);

    [Fact]
    public void IncompleteBetaOfEqualLargeParameters_IsAHalfInTheMiddle() => Assert.Equal(0.5, Binomial.IncompleteBeta(5000, 5000, 0.5), 1e-10);

    [Theory]
    [InlineData(0.5, 0.5723649429247001)] // ln √π
    [InlineData(1, 0)]
    [InlineData(2, 0)]
    [InlineData(11, 15.104412573075516)] // ln 10!
    [InlineData(101, 363.73937555556349)] // ln 100!
    public void LogGamma_IsTheKnownValue(double x, double expected) => Assert.Equal(expected, Binomial.LogGamma(x), 1e-12);

    // 0 of n: 1 − α^(1/n). 5 of 100 at 2.5% on either side: the tables' (.0164, .1128).
    [Theory]
    [InlineData(0, 100, 0.025, 0, 0.0362166926451750)]
    [InlineData(5, 100, 0.025, 0.0164318791820525, 0.1128349111054625)]
    [InlineData(100, 100, 0.025, 0.9637833073548250, 1)]
    public void ClopperPearson_IsTheKnownInterval(int k, int n, double alpha, double lower, double upper)
    {
        Assert.Equal(lower, Binomial.Lower(k, n, alpha), 1e-12);
        Assert.Equal(upper, Binomial.Upper(k, n, alpha), 1e-12);
    }

    [Fact]
    public void Cumulative_IsTheSumOfTheProbabilities() => Prop.ForAll<byte, byte, byte>((a, b, c) =>
    {
        var (n, p) = (1 + a, (b + 0.5) / 256);
        var k = c % n;
        var sum = Enumerable.Range(0, k + 1).Sum(i => Math.Exp(Binomial.LogProbability(i, n, p)));
        Assert.Equal(sum, Binomial.Cumulative(k, n, p), 1e-11);
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void Bounds_AreWhereTheTailIsAsRareAsAsked() => Prop.ForAll<ushort, ushort>((a, b) =>
    {
        var n = 1 + a;
        var k = b % n;
        Assert.Equal(0.05, Binomial.Cumulative(k, n, Binomial.Upper(k, n, 0.05)), 1e-8);
        if (k > 0) Assert.Equal(0.05, 1 - Binomial.Cumulative(k - 1, n, Binomial.Lower(k, n, 0.05)), 1e-8);
    }).QuickCheckThrowOnFailure();
}
