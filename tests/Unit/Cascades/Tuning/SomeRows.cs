using Skiff.Cascades.Tuning;

namespace Skiff.Unit.Cascades.Tuning;

/// <summary>Rows of three classes made up from a seed: each has a difficulty that all stages feel, a better stage less.</summary>
internal static class SomeRows
{
    public const int Classes = 3;

    /// <param name="skills">For each stage from 0, guessing, to 1, hardly ever wrong.</param>
    public static TuningRows Draw(int seed, int count, double[] skills, double[]? microseconds = null)
    {
        var random = new Random(seed);
        var labels = new int[count];
        var probabilities = skills.Select(_ => new float[count * Classes]).ToArray();
        for (var row = 0; row < count; row++)
        {
            labels[row] = random.Next(Classes);
            var difficulty = random.NextDouble();
            for (var stage = 0; stage < skills.Length; stage++)
            {
                // The chance to be right, which the stage knows and says.
                var sure = 1.0 / Classes + (1 - 1.0 / Classes) * Math.Clamp(1 - Math.Pow(difficulty, 1 / (1.0001 - skills[stage])), 0, 1);
                var said = random.NextDouble() < sure ? labels[row] : (labels[row] + 1 + random.Next(Classes - 1)) % Classes;
                for (var k = 0; k < Classes; k++) probabilities[stage][row * Classes + k] = (float)(k == said ? sure : (1 - sure) / (Classes - 1));
            }
        }
        return new TuningRows(probabilities, labels, Classes, microseconds ?? [.. skills.Select((_, stage) => Math.Pow(4, stage))]);
    }
}
