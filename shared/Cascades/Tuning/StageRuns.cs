using Skiff.Models;

namespace Skiff.Cascades.Tuning;

/// <summary>Asks the stages about labelled rows, and measures what asking costs.</summary>
public static class StageRuns
{
    private const int Batch = 32;

    /// <param name="progress">Called with the rows done so far.</param>
    /// <returns>K class probabilities a row.</returns>
    /// <exception cref="FormatException">The model can't be run on these rows, or does not give K scores a row.</exception>
    public static float[] Probabilities(ModelSession session, string model, LabelledRows rows, int classes, Action<int> progress, CancellationToken cancellation)
    {
        var probabilities = new float[rows.Count * classes];
        for (var first = 0; first < rows.Count; first += Batch)
        {
            cancellation.ThrowIfCancellationRequested();
            var count = Math.Min(Batch, rows.Count - first);
            try
            {
                using var outputs = session.Run(rows.Buffer, [rows.Rows(first, count)]);
                var scores = outputs.Floats(0);
                if (scores.Length != count * classes) throw new FormatException($"model '{model}' gives {scores.Length} scores for {count} rows of {classes} classes");
                for (var i = 0; i < count; i++) Cascade.Softmax(scores.Slice(i * classes, classes), probabilities.AsSpan((first + i) * classes, classes));
            }
            catch (ModelFailedException e)
            {
                throw new FormatException($"model '{model}' could not be run on rows {first} to {first + count - 1}: {e.Message}", e);
            }
            progress(first + count);
        }
        return probabilities;
    }

    /// <summary>The median time of runs on one row, in µs, each stage's; the stages take turns, so that whatever else the machine does meets them alike.</summary>
    public static double[] Microseconds(IReadOnlyList<ModelSession> stages, LabelledRows rows, int repeats, TimeProvider time, CancellationToken cancellation)
    {
        const int warmUp = 20;
        var taken = stages.Select(_ => new double[repeats]).ToArray();
        for (var i = -warmUp; i < repeats; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            // Rows from all over the file: what is in cache for one is not for the next.
            var row = rows.Rows((int)((long)(i + warmUp) * 7919 % rows.Count), 1);
            for (var stage = 0; stage < stages.Count; stage++)
            {
                var started = time.GetTimestamp();
                stages[stage].Run(rows.Buffer, [row]).Dispose();
                if (i >= 0) taken[stage][i] = time.GetElapsedTime(started).TotalMicroseconds;
            }
        }
        return [.. taken.Select(times => times.Order().ElementAt(repeats / 2))];
    }
}
