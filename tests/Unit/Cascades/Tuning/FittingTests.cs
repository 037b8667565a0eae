using Skiff.Cascades;
using Skiff.Cascades.Tuning;

namespace Skiff.Unit.Cascades.Tuning;

public sealed class FittingTests
{
    private static readonly int[] All = [.. Enumerable.Range(0, 4000)];

    [Fact]
    public void OverconfidentScores_AreTemperedToTheirTrueChances()
    {
        // The stage says p², scaled, where p would be true.
        var (labels, said) = Draw(power: 2);

        Assert.Equal(2, Fitting.Temperature(said, 3, labels, All), 0.15);
    }

    [Fact]
    public void TrueChances_AreHardlyTempered()
    {
        var (labels, said) = Draw(power: 1);

        Assert.Equal(1, Fitting.Temperature(said, 3, labels, All), 0.06);
    }

    [Fact]
    public void TemperatureThatDoesNotGeneralise_IsNotTaken()
    {
        // Even rows want to be sharper, odd ones flatter: what the one half teaches is worse for the other.
        float[] said = [.. Enumerable.Repeat<float[]>([0.6f, 0.2f, 0.2f], 100).SelectMany(row => row)];
        int[] labels = [.. Enumerable.Range(0, 100).Select(row => row % 2)];

        Assert.Equal(1, Fitting.Temperature(said, 3, labels, All.AsSpan(0, 100)));
    }

    [Fact]
    public void LearnedGate_IsSureWhereHandingOnDoesNotHelp()
    {
        var rows = SomeRows.Draw(1, 4000, [0.7, 0.97]);
        bool[] helps = [.. Enumerable.Range(0, rows.Count).Select(row => rows.Right(1)[row] && !rows.Right(0)[row])];

        var gate = new Gate(GateOn.Learned, 0.5) { Weights = Fitting.Weights(rows.Probabilities[0], 3, helps, All) };

        // Calibrated in the large, and in order: that is what the gradient's being 0 says.
        var confidences = All.Select(row => (double)gate.Confidence(rows.Probabilities[0].AsSpan(row * 3, 3))).ToArray();
        Assert.Equal(1 - helps.Count(help => help) / 4000.0, confidences.Average(), 0.005);
        Assert.True(gate.Confidence([0.98f, 0.01f, 0.01f]) > 0.9);
        Assert.True(gate.Confidence([0.4f, 0.3f, 0.3f]) < 0.75);
    }

    [Fact]
    public void RowsOfOneKind_GiveFiniteWeights()
    {
        var rows = SomeRows.Draw(2, 500, [0.7, 0.97]);

        Assert.All(Fitting.Weights(rows.Probabilities[0], 3, new bool[500], All.AsSpan(0, 500)), weight => Assert.True(double.IsFinite(weight)));
    }

    private static (int[] Labels, float[] Said) Draw(double power)
    {
        var random = new Random(7);
        var (labels, said) = (new int[All.Length], new float[All.Length * 3]);
        foreach (var row in All)
        {
            var truth = Enumerable.Range(0, 3).Select(_ => Math.Exp(2 * random.NextDouble())).ToArray();
            var (sum, tempered) = (truth.Sum(), truth.Sum(value => Math.Pow(value, power)));
            var draw = random.NextDouble() * sum;
            labels[row] = draw < truth[0] ? 0 : draw < truth[0] + truth[1] ? 1 : 2;
            for (var k = 0; k < 3; k++) said[row * 3 + k] = (float)(Math.Pow(truth[k], power) / tempered);
        }
        return (labels, said);
    }
}
