using Skiff.Personalization;

namespace Skiff.Unit.Personalization;

public sealed class RidgeHeadTests
{
    private const int D = 7;
    private const int K = 3;

    [Fact]
    public void ManyUpdates_EqualTheBatchSolution()
    {
        var random = new Random(1);
        var gram = PositiveDefinite(random);
        const double strength = 0.3;
        var prior = Draw(random, K * D);
        var weights = prior.ToArray();
        var covariance = RidgeHead.InvertScaled(gram, D, strength);
        var scratch = new float[D];

        // The batch: A = κG + Σ φφᵀ, B = κG W₀ + Σ φ targetᵀ.
        var a = gram.Select(value => value * strength).ToArray();
        var b = new double[D * K];
        for (var i = 0; i < D; i++)
            for (var k = 0; k < K; k++)
                for (var j = 0; j < D; j++) b[i * K + k] += strength * gram[i * D + j] * prior[k * D + j];

        for (var n = 0; n < 200; n++)
        {
            var phi = Draw(random, D);
            var target = Draw(random, K);
            for (var i = 0; i < D; i++)
            {
                for (var j = 0; j < D; j++) a[i * D + j] += phi[i] * phi[j];
                for (var k = 0; k < K; k++) b[i * K + k] += phi[i] * target[k];
            }
            RidgeHead.Update(weights, covariance, phi, target, scratch);
        }

        var batch = Solve(a, b);
        for (var k = 0; k < K; k++)
            for (var i = 0; i < D; i++) Assert.Equal(batch[i * K + k], weights[k * D + i], 1e-4);
    }

    [Fact]
    public void Update_LeavesTheResidualFromBeforeIt()
    {
        float[] weights = [1, 2], phi = [3, 4], residual = [20];

        RidgeHead.Update(weights, [1, 0, 1], phi, residual, new float[2]);

        Assert.Equal(20 - (1 * 3 + 2 * 4), residual[0]);
    }

    [Fact]
    public void DeadFeature_KeepsItsWeightAndItsVariance()
    {
        float[] weights = [0, 5], covariance = [1, 0, 2];

        for (var i = 0; i < 1000; i++) RidgeHead.Update(weights, covariance, [1, 0], [1f], new float[2]);

        Assert.Equal(5, weights[1]);
        Assert.Equal(2, covariance[2]);
        Assert.InRange(weights[0], 0.99f, 1);
    }

    [Fact]
    public void Score_AddsToItsBase()
    {
        float[] scores = [10, 20];

        RidgeHead.Score([1, 2, 3, 4], [1, 1], scores);

        Assert.Equal([13f, 27f], scores);
    }

    [Fact]
    public void Multiply_MirrorsTheUpperTriangle()
    {
        var product = new float[3];

        RidgeHead.Multiply([1, 2, 3, /**/ 4, 5, /**/ 6], [1, 10, 100], product);

        Assert.Equal([321f, 542f, 653f], product);
    }

    [Fact]
    public void InvertScaled_TimesTheMatrix_IsTheIdentity()
    {
        var gram = PositiveDefinite(new Random(2));
        var inverse = RidgeHead.InvertScaled(gram, D, 0.5);
        for (var i = 0; i < D; i++)
        {
            var column = gram.Skip(i * D).Take(D).Select(value => (float)(0.5 * value)).ToArray();
            var product = new float[D];
            RidgeHead.Multiply(inverse, column, product);
            for (var j = 0; j < D; j++) Assert.Equal(i == j ? 1 : 0, product[j], 1e-4);
        }
    }

    [Fact]
    public void InvertScaled_OfAMatrixThatIsNotPositiveDefinite_SaysSo()
    {
        var error = Assert.Throws<ArgumentException>(() => RidgeHead.InvertScaled([1, 2, 2, 1], 2, 1));

        Assert.Contains("not positive definite", error.Message);
    }

    [Fact]
    public void Update_AllocatesNothing()
    {
        float[] weights = new float[65 * 10], covariance = new float[RidgeHead.PackedLength(65)], phi = new float[65], residual = new float[10], scratch = new float[65];
        RidgeHead.Update(weights, covariance, phi, residual, scratch);
        var before = GC.GetAllocatedBytesForCurrentThread();

        for (var i = 0; i < 100; i++) RidgeHead.Update(weights, covariance, phi, residual, scratch);

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    private static float[] Draw(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (float)(random.NextDouble() * 2 - 1))];

    private static double[] PositiveDefinite(Random random)
    {
        var gram = new double[D * D];
        for (var n = 0; n < 3 * D; n++)
        {
            var x = Draw(random, D);
            for (var i = 0; i < D; i++)
                for (var j = 0; j < D; j++) gram[i * D + j] += x[i] * x[j];
        }
        return gram;
    }

    /// <summary>Gauss–Jordan with pivoting: slow, plain and independent of what is tested.</summary>
    private static double[] Solve(double[] a, double[] b)
    {
        for (var c = 0; c < D; c++)
        {
            var pivot = Enumerable.Range(c, D - c).MaxBy(r => Math.Abs(a[r * D + c]));
            for (var j = 0; j < D; j++) (a[c * D + j], a[pivot * D + j]) = (a[pivot * D + j], a[c * D + j]);
            for (var k = 0; k < K; k++) (b[c * K + k], b[pivot * K + k]) = (b[pivot * K + k], b[c * K + k]);
            var scale = a[c * D + c];
            for (var j = 0; j < D; j++) a[c * D + j] /= scale;
            for (var k = 0; k < K; k++) b[c * K + k] /= scale;
            for (var r = 0; r < D; r++)
            {
                if (r == c) continue;
                var factor = a[r * D + c];
                for (var j = 0; j < D; j++) a[r * D + j] -= factor * a[c * D + j];
                for (var k = 0; k < K; k++) b[r * K + k] -= factor * b[c * K + k];
            }
        }
        return b;
    }
}
