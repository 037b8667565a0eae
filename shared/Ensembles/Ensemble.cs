using System.Numerics.Tensors;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Cascades;
using Skiff.Models;
using Skiff.Selection;
using Temperature = Skiff.Selection.Temperature;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Ensembles;

/// <summary>What one member said of a row.</summary>
/// <param name="Weight">Its part of the answer.</param>
/// <param name="Label">Its likeliest; -1 when it is missing.</param>
/// <param name="Missing">Why it is: <c>deadline</c>, <c>busy</c>, <c>unavailable</c>, <c>failed</c> or <c>not_finite</c>; null when it isn't.</param>
public sealed record MemberAnswer(string Model, double Weight, int Label, float Confidence, string? Missing);

/// <summary>What an ensemble says about one row; its probabilities are the combined ones, or the votes' parts.</summary>
public sealed class EnsembleAnswer : StageAnswer
{
    /// <summary>-1 when nobody is there.</summary>
    public int Label { get; init; } = -1;

    /// <summary>The chance that the label is right, as far as the app is calibrated.</summary>
    public double Confidence { get; init; }

    /// <summary>The member that a policy chose, or null for all of them.</summary>
    public string? Chosen { get; init; }

    /// <summary>The probability with which the policy chose this one.</summary>
    public double Propensity { get; init; } = 1;

    /// <summary>Those that were asked.</summary>
    public IReadOnlyList<MemberAnswer> Members { get; init; } = [];

    /// <summary>What a policy will need when feedback comes; empty without one.</summary>
    public byte[] Kept { get; init; } = [];
}

/// <summary>
/// Runs models side by side and makes one answer of theirs (Clipper, Crankshaw et al., NSDI 2017, section 5). At the deadline it answers with what has arrived: a member that is missing counts as what it says on
/// average, and does not vote.
/// </summary>
/// <param name="objective">Within which the app answers.</param>
public sealed class Ensemble(EnsembleDocument document, int classes, TimeSpan objective, ModelHost models, TimeProvider time)
{
    private static readonly string[] Reasons = ["deadline", "busy", "unavailable", "failed", "not_finite"]; // the first is what the answer says

    private readonly MemberMeans _means = new(document.Members.Count, classes);
    private readonly ConfidenceMap? _map = document.Map();
    private readonly double[] _weights = Normalise(document.Weights, document.Members.Count);

    public EnsemblePolicy? Policy { get; } = document.Policy is { } policy ? new EnsemblePolicy(policy, document.Members, classes) : null;

    public IReadOnlyList<string> Members => document.Members;

    /// <param name="buffer">Its content must stay as it is until the members have ended that are late; when there are, it is marked so that nobody uses it again.</param>
    /// <param name="input">All rows, shape [N, …].</param>
    /// <param name="chosen">The member that runs; -1 for all.</param>
    /// <param name="terms">At the deadline the run is over.</param>
    public async ValueTask<EnsembleRun> RunAsync(string tenant, TensorBuffer buffer, Tensor input, int chosen, Terms terms, CancellationToken cancellation)
    {
        var run = new EnsembleRun(document.Members.Count, chosen);
        // A description of its own: the request's is used again when the request is over, and a member may still be late then.
        var own = new Tensor { Name = input.Name, Type = input.Type, Shape = input.Shape, Offset = input.Offset, Length = input.Length };
        using var timer = terms.Deadline == long.MaxValue ? null : DeadlineTimer.Start(time, terms.Deadline, () => run.Close());
        try
        {
            for (var m = 0; m < document.Members.Count; m++)
            {
                if (chosen < 0 || chosen == m) RunThreads.Many.Queue(new Work(this, run, m, tenant, buffer, own, terms), terms.Deadline);
            }
            await run.Done.WaitAsync(cancellation);
        }
        finally
        {
            if (run.Close()) buffer.Abandon();
        }
        return run;
    }

    /// <summary>Makes one answer of what was said of a row.</summary>
    /// <param name="weights">Of the members, as a policy has learnt them; null for the app's own.</param>
    /// <param name="propensity">With which the one was chosen that ran.</param>
    /// <exception cref="RequestException">Nobody is there, and not because it took too long or there was too much to do.</exception>
    public EnsembleAnswer Answer(EnsembleRun run, int row, double[]? weights, double propensity)
    {
        weights ??= _weights;
        var members = document.Members.Count;
        var probabilities = new float[members * classes];
        var answers = new List<MemberAnswer>(run.Chosen < 0 ? members : 1);
        var present = 0UL;
        for (var m = 0; m < members; m++)
        {
            if (run.Chosen >= 0 && run.Chosen != m) continue;
            var weight = run.Chosen < 0 ? weights[m] : 1;
            var said = run.Answers[m] is { } all ? (ReadOnlySpan<float>)all.AsSpan(row * classes, classes) : [];
            var missing = run.Missing[m] ?? (said.ContainsNotFinite() ? "not_finite" : null);
            if (missing is null)
            {
                said.CopyTo(probabilities.AsSpan(m * classes));
                present |= 1UL << m;
            }
            var label = missing is null ? TensorPrimitives.IndexOfMax(said) : -1;
            answers.Add(new MemberAnswer(document.Members[m], weight, label, label < 0 ? 0 : said[label], missing));
        }
        var cut = Array.Find(Reasons, reason => answers.Exists(answer => answer.Missing == reason));
        if (present == 0)
        {
            if (cut is not ("deadline" or "busy" or "not_finite") && run.Failure is { } failure) throw new RequestException(((RequestException)failure).Refusal, failure.Message);
            return new EnsembleAnswer { CutShort = cut, Members = answers };
        }
        return Combined(run.Chosen, probabilities, present, weights, propensity, answers, cut);
    }

    private EnsembleAnswer Combined(int chosen, float[] probabilities, ulong present, double[] weights, double propensity, List<MemberAnswer> members, string? cut)
    {
        var combined = new float[classes];
        int label;
        double confidence;
        var kept = Policy?.Keep(chosen, probabilities, present) ?? [];
        if (chosen >= 0)
        {
            probabilities.AsSpan(chosen * classes, classes).CopyTo(combined);
            if (document.Temperature != 1) Temperature.Apply(combined, classes, document.Temperature);
            label = TensorPrimitives.IndexOfMax<float>(combined);
            confidence = combined[label];
        }
        else
        {
            _means.FillMissing(probabilities, present);
            if (document.Combine == CombineBy.Majority) label = Combine.Majority(probabilities, weights, present, combined);
            else
            {
                Combine.WeightedMean(probabilities, weights, combined);
                if (document.Temperature != 1) Temperature.Apply(combined, classes, document.Temperature);
                label = TensorPrimitives.IndexOfMax<float>(combined);
            }
            var agreement = _map is not null || document.Combine == CombineBy.Majority ? Combine.Agreement(probabilities, classes, present, label) : 0;
            confidence = _map?.Chance(agreement) ?? (document.Combine == CombineBy.Majority ? agreement : combined[label]);
        }
        return new EnsembleAnswer
        {
            Stage = 0,
            Probabilities = combined,
            CutShort = cut,
            Label = label,
            Confidence = confidence,
            Chosen = chosen < 0 ? null : document.Members[chosen],
            Propensity = propensity,
            Members = members,
            Kept = kept,
        };
    }

    /// <summary>Runs one member to its end, whether or not somebody still waits for it. It must not throw.</summary>
    private async Task RunMemberAsync(EnsembleRun run, int member, string tenant, TensorBuffer buffer, Tensor input, Terms terms)
    {
        try
        {
            if (run.IsClosed) throw new RequestException(Refusal.DeadlineExceeded, "the deadline passed before the model ran");
            // Not cancelled with the request, which may be over: what has not begun by the deadline is not begun.
            using var lease = await models.AcquireAsync(tenant, document.Members[member], null, CancellationToken.None);
            lease.RequireFit(input, -1);
            using var outputs = await RunModelAsync(lease, buffer, input, terms);
            var scores = outputs.Floats(0);
            var rows = (int)input.Shape[0];
            // Said here and not before the run, because a model may leave the number of its classes open.
            if (scores.Length != rows * classes) throw lease.Misfit($"gives {scores.Length} scores for {rows} rows of {classes} classes");
            var answers = new float[scores.Length];
            for (var at = 0; at < answers.Length; at += classes) Cascade.Softmax(scores.Slice(at, classes), answers.AsSpan(at, classes));
            // Late ones too, or of a member that always is, nobody would ever know what it says on average.
            _means.Observe(member, answers);
            run.Arrive(member, answers, lease.Manifest.Version, outputs.RunTime);
        }
        catch (RequestException e)
        {
            run.Miss(member, ReasonOf(e.Refusal), e);
        }
        catch (Exception e)
        {
            // Whatever it is: whoever waits must hear of it.
            run.Miss(member, "failed", new RequestException(Refusal.Unavailable, $"model '{document.Members[member]}' can't be asked: {e.Message}"));
        }
    }

    private async ValueTask<ModelOutputs> RunModelAsync(ModelLease lease, TensorBuffer buffer, Tensor input, Terms terms)
    {
        try
        {
            return await lease.RunAsync(buffer, [input], terms, objective, CancellationToken.None);
        }
        catch (ModelFailedException e)
        {
            lease.Statistics.Failed(0);
            // Shape and type were checked: what is left are values, such as an item that the model has no row for.
            throw RequestException.Invalid($"model '{lease.Manifest.Name}' could not be run on this input: {e.Message}");
        }
    }

    private static string ReasonOf(Refusal refusal) => refusal switch
    {
        Refusal.DeadlineExceeded => "deadline",
        Refusal.Busy => "busy",
        Refusal.Invalid => "failed",
        _ => "unavailable",
    };

    private static double[] Normalise(IReadOnlyList<double>? weights, int members)
    {
        var sum = weights?.Sum() ?? members;
        return [.. Enumerable.Range(0, members).Select(m => (weights?[m] ?? 1) / sum)];
    }

    /// <summary>A member's turn.</summary>
    private sealed class Work(Ensemble ensemble, EnsembleRun run, int member, string tenant, TensorBuffer buffer, Tensor input, Terms terms) : IThreadPoolWorkItem
    {
        public void Execute() => _ = ensemble.RunMemberAsync(run, member, tenant, buffer, input, terms);
    }
}
