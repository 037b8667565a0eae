using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class TemperatureTests
{
    private const int Classes = 4;

    [Theory]
    [InlineData(0.5)]
    [InlineData(2)]
    [InlineData(3)]
    public void ProbabilitiesScaledByT_AreScaledBack(double temperature)
    {
        // Labels drawn from the probabilities: nothing to scale. Then they are made too sure or not sure enough.
        var (probabilities, labels) = Drawn(20_000);
        Temperature.Apply(probabilities, Classes, 1 / temperature);

        Assert.Equal(temperature, Temperature.Fit(probabilities, labels, standardErrors: 0), temperature * 0.05);
    }

    [Fact]
    public void LeastLikelihood_IsBelowItsNeighbours()
    {
        var (probabilities, labels) = Drawn(500);
        Temperature.Apply(probabilities, Classes, 0.6);
        var best = Temperature.Fit(probabilities, labels, standardErrors: 0);

        Assert.True(Likelihood(best) < Likelihood(best * 1.02));
        Assert.True(Likelihood(best) < Likelihood(best / 1.02));

        double Likelihood(double temperature)
        {
            var scaled = probabilities.ToArray();
            Temperature.Apply(scaled, Classes, temperature);
            return Calibration.NegativeLogLikelihood(scaled, labels);
        }
    }

    [Fact]
    public void NotToBeToldFromTheBest_TheTemperatureNearestToOneIsTaken()
    {
        var (probabilities, labels) = Drawn(2_000);
        Temperature.Apply(probabilities, Classes, 0.8);
        var best = Temperature.Fit(probabilities, labels, standardErrors: 0);
        var fitted = Temperature.Fit(probabilities, labels);

        Assert.InRange(fitted, 1.001, best - 0.001);
        Assert.Equal(1, Temperature.Fit(probabilities, labels, standardErrors: 100));
    }

    [Theory]
    [InlineData(0.3)]
    [InlineData(4)]
    public void Scaling_KeepsTheOrderAndTheSum(double temperature)
    {
        var (probabilities, _) = Drawn(200);
        var scaled = probabilities.ToArray();
        Temperature.Apply(scaled, Classes, temperature);
        for (var row = 0; row < 200; row++)
        {
            var before = probabilities.AsSpan(row * Classes, Classes).ToArray();
            var after = scaled.AsSpan(row * Classes, Classes).ToArray();

            Assert.Equal(1, after.Sum(), 1e-5);
            Assert.Equal(Order(before), Order(after));
        }

        static int[] Order(float[] values) => [.. Enumerable.Range(0, values.Length).OrderBy(i => values[i])];
    }

    [Fact]
    public void EveryAnswerRight_StopsAtTheLeastTemperature() =>
        Assert.Equal(Temperature.Least, Temperature.Fit([0.6f, 0.4f, 0.7f, 0.3f], [0, 0], standardErrors: 0), 1e-6);

    [Fact]
    public void ProbabilityOfZero_IsNoTrouble()
    {
        float[] row = [1, 0, 0];
        Temperature.Apply(row, 3, 2);

        Assert.Equal([1f, 0f, 0f], row.Select(p => MathF.Round(p, 6)));
        Assert.True(double.IsFinite(Temperature.Fit([1, 0, 1, 0], [0, 1])));
    }

    private static (float[] Probabilities, int[] Labels) Drawn(int rows)
    {
        var random = new Random(11);
        var probabilities = CombineTests.Some(random, rows, Classes);
        // Surer than that, as models are.
        Temperature.Apply(probabilities, Classes, 0.3);
        var labels = new int[rows];
        for (var i = 0; i < rows; i++)
        {
            var rest = random.NextSingle();
            while (labels[i] < Classes - 1 && (rest -= probabilities[i * Classes + labels[i]]) > 0) labels[i]++;
        }
        return (probabilities, labels);
    }
}
