using Skiff.Caching;
using Skiff.Selection;

namespace Skiff.Unit.Caching;

public sealed class SignHashTests
{
    private const int Elements = 100;

    [Fact]
    public void BitsThatDiffer_AreTheAngleOverPi()
    {
        var signs = new SignHash(Elements, 64, 16);
        var random = new SeededRandom(3);
        foreach (var angle in new[] { 0.1, 0.5, 1.2 })
        {
            // Two directions at right angles, without their means, which the planes don't see.
            var (a, b) = (Direction(ref random), Direction(ref random));
            var along = a.Zip(b, (x, y) => x * y).Sum();
            b = Unit([.. b.Zip(a, (y, x) => y - along * x)]);
            var turned = a.Zip(b, (x, y) => (float)(Math.Cos(angle) * x + Math.Sin(angle) * y)).ToArray();

            Assert.InRange(Differing(signs, [.. a.Select(x => (float)x)], turned) / 1024.0, angle / Math.PI - 0.06, angle / Math.PI + 0.06);
        }
    }

    [Fact]
    public void BrighterRow_FallsWhereItFellBefore()
    {
        var random = new SeededRandom(4);
        var row = Enumerable.Range(0, Elements).Select(_ => (float)random.NextDouble()).ToArray();

        var differing = Differing(new SignHash(Elements, 64, 16), row, [.. row.Select(x => 3 * x + 0.5f)]);

        // All but those that lie on a plane, up to rounding.
        Assert.InRange(differing, 0, 1);
    }

    [Fact]
    public void SamePlanes_ComeOutOfEveryMaking()
    {
        var row = Enumerable.Range(0, Elements).Select(i => (float)Math.Sin(i)).ToArray();

        Assert.Equal(0, Differing(new SignHash(Elements, 16, 4), new SignHash(Elements, 16, 4), row, row));
    }

    private static int Differing(SignHash signs, float[] a, float[] b) => Differing(signs, signs, a, b);

    private static int Differing(SignHash first, SignHash second, float[] a, float[] b)
    {
        var (x, y) = (new ulong[first.Tables], new ulong[second.Tables]);
        first.Codes(a, x);
        second.Codes(b, y);
        return x.Zip(y, (one, other) => System.Numerics.BitOperations.PopCount(one ^ other)).Sum();
    }

    private static double[] Direction(ref SeededRandom random)
    {
        var values = new double[Elements];
        for (var i = 0; i < Elements; i++) values[i] = random.NextNormal();
        var mean = values.Average();
        return Unit([.. values.Select(x => x - mean)]);
    }

    private static double[] Unit(double[] values)
    {
        var length = Math.Sqrt(values.Sum(x => x * x));
        return [.. values.Select(x => x / length)];
    }
}
