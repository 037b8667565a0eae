using System.Numerics.Tensors;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Routing;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Cascades;

/// <summary>A stage: a model, and the gate that lets its answers out. Without one the last stage answers all, and any other nothing: it computes what a later one continues from.</summary>
/// <param name="From">What it takes; null for the app's input.</param>
/// <param name="Heavy">How the heavy tier is asked for it, where there is one; null for a model that runs here.</param>
public sealed record Stage(string Model, Gate? Gate, StageOutput? From = null, TierModel? Heavy = null);

/// <summary>An output of an earlier stage.</summary>
public readonly record struct StageOutput(int Stage, string Name);

/// <summary>What a cascade says about one row.</summary>
public class StageAnswer
{
    /// <summary>Index of the stage that answered; -1 when none did in time.</summary>
    public int Stage { get; set; } = -1;

    /// <summary>K class probabilities of that stage.</summary>
    public float[] Probabilities { get; set; } = [];

    /// <summary>Why a later stage did not have its say, although this one said "I don't know": <c>deadline</c>, <c>busy</c> or <c>unavailable</c>; null when all is well.</summary>
    public string? CutShort { get; set; }

    /// <summary>The confidence each stage had that ran on this row, in order.</summary>
    public List<float> Confidences { get; } = [];
}

/// <summary>A stage as it ran for one request: which version, on how many rows, for how long.</summary>
/// <param name="OnTier">Of a replica's time, for a stage that ran on the heavy tier.</param>
public readonly record struct StageRun(int Stage, int Version, int Rows, TimeSpan Duration, TimeSpan OnTier = default);

/// <summary>
/// Runs cheap models first and hands on the rows they are not sure of (IDK cascades, Wang et al. 2017). Rows of one request leave at different stages.
/// </summary>
/// <param name="objective">Within which the app answers; a row may pass all stages, so each has its part.</param>
/// <param name="tier">Where heavy stages run; null for here. When it is down or slow, what the stages before have said is the answer.</param>
public sealed class Cascade(IReadOnlyList<Stage> stages, int classes, TimeSpan objective, ModelHost models, TimeProvider time, HeavyTier? tier = null)
{
    private readonly TimeSpan _stageObjective = objective / stages.Count;

    /// <param name="input">All rows, shape [N, …]; the buffer is extended by what later stages need.</param>
    /// <param name="terms">After the deadline no further stage is begun; under pressure gates are lower than the app has them, and what leaves by that is marked <c>busy</c>.</param>
    /// <returns>An answer for each row, in order, and what ran.</returns>
    /// <exception cref="RequestException">The first stage can't run.</exception>
    public async ValueTask<(StageAnswer[] Answers, List<StageRun> Runs)> RunAsync(
        string tenant, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        var rows = (int)input.Shape[0];
        var answers = new StageAnswer[rows];
        for (var i = 0; i < rows; i++) answers[i] = new StageAnswer();
        var runs = new List<StageRun>(stages.Count);
        var open = Enumerable.Range(0, rows).ToArray();
        var pressure = terms.Pressure?.For(terms.Priority) ?? 0;
        var began = time.GetTimestamp();
        var ran = TimeSpan.Zero;
        var gaveUp = false;
        var inputs = new StageInputs(stages, buffer, input);
        for (var stage = 0; stage < stages.Count && open.Length > 0; stage++)
        {
            var cut = time.GetTimestamp() >= terms.Deadline ? "deadline" : null;
            if (cut is null)
            {
                try
                {
                    if (tier is not null && stages[stage].Heavy is { } heavy)
                    {
                        var answer = await tier.RunAsync(tenant, heavy, buffer, inputs.OfApp(open), terms, objective, cancellation);
                        if (answer.Scores.Length != open.Length * classes) throw RequestException.Unavailable($"the heavy tier's version {answer.Version} of model '{heavy.Name}' gives {answer.Scores.Length} scores for {open.Length} rows of {classes} classes");
                        runs.Add(new StageRun(stage, answer.Version, open.Length, answer.Duration, answer.Share));
                        open = Decide(stage, answer.Scores, open, answers, terms.Pressure?.Lowers(pressure, stage) ?? 0);
                        continue;
                    }
                    using var lease = await models.AcquireAsync(tenant, stages[stage].Model, null, cancellation);
                    var run = await RunStageAsync(stage, lease, inputs, open, answers, terms, pressure, cancellation);
                    runs.Add(run.Ran);
                    ran += run.Ran.Duration;
                    open = run.Open;
                    continue;
                }
                catch (RequestException e) when (Reason(isFirst: stage == 0 && (tier is null || stages[stage].Heavy is null), e.Refusal) is { } reason)
                {
                    cut = reason;
                }
            }
            gaveUp = cut != "unavailable";
            foreach (var row in open) answers[row].CutShort = cut;
            break;
        }
        if (gaveUp) terms.Pressure?.GaveUp();
        else terms.Pressure?.Waited(time.GetElapsedTime(began) - ran);
        return (answers, runs);
    }

    /// <param name="isFirst">Whether there is nothing else to answer with, and it is ourselves who refuse.</param>
    /// <returns>Why the cascade ends before a stage whose refusal is of this kind; null where the refusal is the answer.</returns>
    private static string? Reason(bool isFirst, Refusal refusal) => refusal switch
    {
        Refusal.DeadlineExceeded => "deadline",
        Refusal.Busy => "busy",
        Refusal.Unavailable or Refusal.Invalid when !isFirst => "unavailable",
        _ => null,
    };

    /// <returns>The rows that the stage would not answer, and what ran.</returns>
    private async ValueTask<(int[] Open, StageRun Ran)> RunStageAsync(
        int stage, ModelLease lease, StageInputs inputs, int[] rows, StageAnswer[] answers, Terms terms, double pressure, CancellationToken cancellation)
    {
        var input = inputs.Of(stage, lease, rows);
        lease.RequireFit(input, -1);
        using var outputs = await RunModelAsync(lease, inputs.Buffer, input, terms, cancellation);
        var ran = new StageRun(stage, lease.Manifest.Version, rows.Length, outputs.RunTime);
        var scores = outputs.Floats(0);
        // Said here and not before the run, because a model may leave the number of its classes open.
        if (scores.Length != rows.Length * classes) throw lease.Misfit($"gives {scores.Length} scores for {rows.Length} rows of {classes} classes");
        var open = Decide(stage, scores, rows, answers, terms.Pressure?.Lowers(pressure, stage) ?? 0);
        inputs.Keep(stage, lease, outputs, rows, open);
        return (open, ran);
    }

    /// <param name="scores">K for each of the rows.</param>
    /// <param name="lowered">The gate, from 0 to 1.</param>
    private int[] Decide(int stage, ReadOnlySpan<float> scores, int[] rows, StageAnswer[] answers, double lowered)
    {
        var isLast = stage == stages.Count - 1;
        var unsure = new List<int>(isLast ? 0 : rows.Length);
        for (var i = 0; i < rows.Length; i++)
        {
            var answer = answers[rows[i]];
            answer.Stage = stage;
            if (answer.Probabilities.Length != classes) answer.Probabilities = new float[classes];
            Softmax(scores.Slice(i * classes, classes), answer.Probabilities);
            var gate = stages[stage].Gate;
            var confidence = gate?.Confidence(answer.Probabilities) ?? TensorPrimitives.Max<float>(answer.Probabilities);
            answer.Confidences.Add(confidence);
            if (isLast || confidence >= gate?.At) continue;
            if (lowered > 0 && confidence >= gate?.At * (1 - lowered)) answer.CutShort = "busy";
            else unsure.Add(rows[i]);
        }
        return [.. unsure];
    }

    /// <param name="scores">K scores as a model gives them.</param>
    internal static void Softmax(ReadOnlySpan<float> scores, Span<float> probabilities)
    {
        // Less the largest: e^89 is beyond a float, and the framework takes the scores as they come.
        TensorPrimitives.Subtract(scores, TensorPrimitives.Max(scores), probabilities);
        TensorPrimitives.SoftMax<float>(probabilities, probabilities);
    }

    private async ValueTask<ModelOutputs> RunModelAsync(ModelLease lease, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        try
        {
            return await lease.RunAsync(buffer, [input], terms, _stageObjective, cancellation);
        }
        catch (ModelFailedException e)
        {
            lease.Statistics.Failed(0);
            // Shape and type were checked: what is left are values, such as an item that the model has no row for.
            throw RequestException.Invalid($"model '{lease.Manifest.Name}' could not be run on this input: {e.Message}");
        }
    }

    /// <summary>Some rows of a tensor, one behind the other.</summary>
    internal static Tensor Gather(TensorBuffer buffer, Tensor input, int[] rows)
    {
        var rowBytes = input.Length / (int)input.Shape[0];
        var tensor = new Tensor { Name = input.Name, Type = input.Type, Shape = [rows.Length, .. input.Shape.AsSpan(1)], Length = rows.Length * rowBytes };
        tensor.Offset = buffer.Allocate(tensor.Length);
        for (var i = 0; i < rows.Length; i++)
        {
            buffer.Span(input.Offset + rows[i] * rowBytes, rowBytes).CopyTo(buffer.Span(tensor.Offset + i * rowBytes, rowBytes));
        }
        return tensor;
    }
}
