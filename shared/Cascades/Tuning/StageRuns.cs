using Skiff.Models;

namespace Skiff.Cascades.Tuning;

/// <summary>Asks the stages about labelled rows, and measures what asking costs.</summary>
/// <param name="stages">From the cheapest to the heaviest, a session for each.</param>
public sealed class StageRuns(IReadOnlyList<Stage> stages, IReadOnlyList<ModelSession> sessions, LabelledRows rows)
{
    private const int Batch = 32;

    /// <summary>Of what stages continue from; the rows' own buffer keeps what it holds.</summary>
    private readonly TensorBuffer _between = new();

    /// <summary>What one stage says of every row. A stage that continues from others has them run again, rather than all rows' tensors be kept.</summary>
    /// <param name="progress">Called with the rows done so far.</param>
    /// <returns>K class probabilities a row.</returns>
    /// <exception cref="FormatException">The model can't be run on these rows, or does not give K scores a row.</exception>
    public float[] Probabilities(int stage, int classes, Action<int> progress, CancellationToken cancellation)
    {
        var probabilities = new float[rows.Count * classes];
        for (var first = 0; first < rows.Count; first += Batch)
        {
            cancellation.ThrowIfCancellationRequested();
            var count = Math.Min(Batch, rows.Count - first);
            try
            {
                _between.Clear();
                using var outputs = Run(stage, rows.Rows(first, count));
                var scores = outputs.Floats(0);
                if (scores.Length != count * classes) throw new FormatException($"model '{stages[stage].Model}' gives {scores.Length} scores for {count} rows of {classes} classes");
                for (var i = 0; i < count; i++) Cascade.Softmax(scores.Slice(i * classes, classes), probabilities.AsSpan((first + i) * classes, classes));
            }
            catch (ModelFailedException e)
            {
                throw new FormatException($"model '{stages[stage].Model}' could not be run on rows {first} to {first + count - 1}: {e.Message}", e);
            }
            progress(first + count);
        }
        return probabilities;
    }

    /// <summary>
    /// The median time of runs on one row, in µs, each stage's, without what it continues from; the stages take turns, so that whatever else the machine does meets them alike.
    /// </summary>
    public double[] Microseconds(int repeats, TimeProvider time, CancellationToken cancellation)
    {
        const int warmUp = 20;
        var taken = stages.Select(_ => new double[repeats]).ToArray();
        var outputs = new ModelOutputs?[stages.Count];
        for (var i = -warmUp; i < repeats; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            // Rows from all over the file: what is in cache for one is not for the next.
            var row = rows.Rows((int)((long)(i + warmUp) * 7919 % rows.Count), 1);
            _between.Clear();
            try
            {
                for (var stage = 0; stage < stages.Count; stage++)
                {
                    var started = time.GetTimestamp();
                    // The copy of what a stage continues from is a part of its cost.
                    outputs[stage] = stages[stage].From is { } from ? sessions[stage].Run(_between, [Between(outputs[from.Stage]!, from.Name)]) : sessions[stage].Run(rows.Buffer, [row]);
                    if (i >= 0) taken[stage][i] = time.GetElapsedTime(started).TotalMicroseconds;
                }
            }
            finally
            {
                foreach (var output in outputs) output?.Dispose();
                Array.Clear(outputs);
            }
        }
        return [.. taken.Select(times => times.Order().ElementAt(repeats / 2))];
    }

    private ModelOutputs Run(int stage, Tensor input)
    {
        if (stages[stage].From is not { } from) return sessions[stage].Run(rows.Buffer, [input]);
        using var before = Run(from.Stage, input);
        return sessions[stage].Run(_between, [Between(before, from.Name)]);
    }

    private Tensor Between(ModelOutputs outputs, string name) => StageInputs.Copy(_between, outputs, StageInputs.IndexOf(outputs, name), null);
}
