namespace Skiff.Cascades.Tuning;

/// <summary>What every stage says about the same labelled rows, and what it costs to ask.</summary>
public sealed class TuningRows
{
    private readonly bool[][] _right;
    private readonly StageChain _chain;

    /// <param name="probabilities">For each stage, from cheap to heavy, K class probabilities a row.</param>
    /// <param name="labels">For each row, the index of its class.</param>
    /// <param name="microseconds">For each stage, the time of a run on one row, without what it continues from.</param>
    /// <param name="chain">Which stages continue from which; null where all take the app's input.</param>
    /// <exception cref="ArgumentException">They don't fit each other, or a number is none.</exception>
    public TuningRows(IReadOnlyList<float[]> probabilities, int[] labels, int classes, IReadOnlyList<double> microseconds, StageChain? chain = null)
    {
        if (probabilities.Count < 2) throw new ArgumentException("there is nothing to tune: a cascade has at least two stages");
        if (microseconds.Count != probabilities.Count) throw new ArgumentException($"{probabilities.Count} stages have {microseconds.Count} costs");
        if (microseconds.Any(cost => !(cost >= 0))) throw new ArgumentException("a stage's cost is a time of 0 or more");
        if (labels.AsSpan().ContainsAnyExceptInRange(0, classes - 1)) throw new ArgumentException($"a label is none of the {classes} classes");
        (Probabilities, Labels, Classes, Microseconds) = (probabilities, labels, classes, microseconds);
        _chain = chain ?? StageChain.Unlinked(probabilities.Count);
        _right = new bool[probabilities.Count][];
        for (var stage = 0; stage < probabilities.Count; stage++)
        {
            if (probabilities[stage].Length != labels.Length * classes)
                throw new ArgumentException($"stage {stage} has {probabilities[stage].Length} probabilities for {labels.Length} rows of {classes} classes");
            _right[stage] = Judge(stage);
        }
    }

    public IReadOnlyList<float[]> Probabilities { get; }
    public int[] Labels { get; }
    public int Classes { get; }
    public IReadOnlyList<double> Microseconds { get; }
    public int Stages => Probabilities.Count;
    public int Count => Labels.Length;

    /// <summary>Whether a stage's likeliest class is the label, for each row.</summary>
    public ReadOnlySpan<bool> Right(int stage) => _right[stage];

    public double Accuracy(int stage) => _right[stage].Count(right => right) / (double)Count;

    /// <summary>The stages that run where these answer: themselves, and those that they continue from; ascending.</summary>
    public int[] Needed(IReadOnlyList<int> stages) => _chain.Needed(stages);

    /// <summary>The time of a row that only this stage answers: with the runs of what it continues from.</summary>
    public double Alone(int stage) => Needed([stage]).Sum(needed => Microseconds[needed]);

    /// <summary>For each stage of a path, the time that a row takes from where the one before would not answer until this one has run.</summary>
    public double[] Costs(IReadOnlyList<int> path)
    {
        var costs = new double[path.Count];
        foreach (var stage in Needed(path)) costs[path.TakeWhile(answers => answers < stage).Count()] += Microseconds[stage];
        return costs;
    }

    /// <summary>The same stages on other rows, which may repeat.</summary>
    public TuningRows Take(ReadOnlySpan<int> rows)
    {
        var probabilities = new float[Stages][];
        var labels = new int[rows.Length];
        for (var stage = 0; stage < Stages; stage++) probabilities[stage] = new float[rows.Length * Classes];
        for (var i = 0; i < rows.Length; i++)
        {
            labels[i] = Labels[rows[i]];
            for (var stage = 0; stage < Stages; stage++) Probabilities[stage].AsSpan(rows[i] * Classes, Classes).CopyTo(probabilities[stage].AsSpan(i * Classes));
        }
        return new TuningRows(probabilities, labels, Classes, Microseconds, _chain);
    }

    private bool[] Judge(int stage)
    {
        var right = new bool[Count];
        for (var row = 0; row < Count; row++)
        {
            var scores = Probabilities[stage].AsSpan(row * Classes, Classes);
            var best = 0;
            for (var k = 0; k < Classes; k++)
            {
                if (float.IsNaN(scores[k])) throw new ArgumentException($"stage {stage} gives no number for row {row}");
                if (scores[k] > scores[best]) best = k;
            }
            right[row] = best == Labels[row];
        }
        return right;
    }
}
