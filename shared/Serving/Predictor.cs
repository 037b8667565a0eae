using System.Numerics.Tensors;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Caching;
using Skiff.Cascades;
using Skiff.Ensembles;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Planning;
using Skiff.Routing;
using Skiff.Selection;
using Tensor = Skiff.Models.Tensor;

namespace Skiff.Serving;

/// <summary>A request to an app, in neutral form. The rows lie in the buffer as the tensor says.</summary>
public sealed record PredictRequest
{
    public required App App { get; init; }
    public required TensorBuffer Buffer { get; init; }

    /// <summary>Shape [N, …].</summary>
    public required Tensor Input { get; init; }

    /// <summary>Whose head answers; null for nobody's.</summary>
    public string? User { get; init; }

    /// <summary>Whose policy answers, where the app's goes by contexts.</summary>
    public string? Context { get; init; }

    /// <summary>After this many ms no further model is begun; null for no limit.</summary>
    public double? DeadlineMs { get; init; }

    /// <summary>One of <see cref="Priorities"/>.</summary>
    public int Priority { get; init; } = Priorities.Normal;

    /// <summary>What the request is part of; null for none.</summary>
    public TraceParent? Trace { get; init; }

    /// <summary>Whether the user's head is to be what the store has now, not what is kept of it here.</summary>
    public bool IsFresh { get; init; }

    /// <summary>When the request arrived, a timestamp of the <see cref="TimeProvider"/>.</summary>
    public required long Arrived { get; init; }
}

/// <summary>What an app answers for one row.</summary>
public sealed record Prediction
{
    /// <summary>The sealed decision; null when there is nothing to give feedback on.</summary>
    public string? Id { get; init; }

    /// <summary>Index of the label, or null.</summary>
    public int? Label { get; init; }

    /// <summary>The value, for a regression.</summary>
    public double? Output { get; init; }

    /// <summary>From 0 to 1; null where the app has none.</summary>
    public double? Confidence { get; init; }

    /// <summary>The model that answered.</summary>
    public string? Stage { get; init; }

    public bool IsDefault { get; init; }

    /// <summary>Why the answer is less than it could be: <c>deadline</c>, <c>busy</c>, <c>unavailable</c>, <c>failed</c>, <c>not_finite</c>, <c>unsure</c>; null when it isn't.</summary>
    public string? Degraded { get; init; }

    /// <summary>What each of an ensemble's members said that were asked.</summary>
    public IReadOnlyList<MemberAnswer> Members { get; init; } = [];

    /// <summary>The probability with which a policy chose the member that answered; null without such a policy.</summary>
    public double? Propensity { get; init; }

    /// <summary>One score a label.</summary>
    public float[] Scores { get; init; } = [];

    /// <summary>The confidence of each stage that ran, in order.</summary>
    public IReadOnlyList<float> StageConfidences { get; init; } = [];

    /// <summary>Where the cascade's answer came from; a head's share is always computed.</summary>
    public AnswerOrigin Origin { get; internal set; }

    /// <summary>Of this row; of the cascade's time nothing where its answer was not computed for it.</summary>
    public double CostUsd { get; internal set; }
}

/// <summary>Everything about an answered request.</summary>
/// <param name="Versions">Of each model that ran.</param>
/// <param name="Head">Where the user's head came from; null where none was looked for.</param>
public sealed record PredictResult(App App, IReadOnlyList<Prediction> Predictions, IReadOnlyDictionary<string, int> Versions, HeadRead? Head = null);

/// <summary>
/// The way of a prediction: cache, cascade, then the personal head over the features, then the sealed decision. A prediction writes nothing.
/// </summary>
public sealed class Predictor(ModelHost models, CascadeCache cascades, HeadCache heads, PendingFeedback pending, DecisionSeal seal, PredictorOptions options, TimeProvider time)
{
    /// <exception cref="RequestException">A model that the answer can't do without is unavailable.</exception>
    public async ValueTask<PredictResult> PredictAsync(PredictRequest request, CancellationToken cancellation)
    {
        var app = request.App;
        var rows = (int)request.Input.Shape[0];
        var terms = TermsOf(request);
        var versions = new Dictionary<string, int>();
        var (inCascade, onTier, inHead) = (TimeSpan.Zero, TimeSpan.Zero, TimeSpan.Zero);
        var stateUsd = 0.0;

        CascadeAnswers? answers = null;
        if (app.Cascade is { } cascade)
        {
            answers = await cascades.RunAsync(app, cascade, request.Buffer, request.Input, terms, cancellation);
            foreach (var run in answers.Value.Runs)
            {
                versions[app.Document.Cascade[run.Stage].Model] = run.Version;
                inCascade += run.Duration;
                onTier += run.OnTier;
            }
        }

        EnsembleAnswers? together = null;
        if (app.Ensemble is { } ensemble)
        {
            together = await AskAsync(request, ensemble, terms, cancellation);
            foreach (var run in together.Runs)
            {
                versions[ensemble.Members[run.Member]] = run.Version;
                inCascade += run.Duration;
            }
            stateUsd = together.Read?.CostUsd ?? 0;
        }

        var personal = default(Features?);
        var impersonal = app.Head is null ? null : "deadline";
        if (app.Head is { } head && time.GetTimestamp() < terms.Deadline)
        {
            try
            {
                // Read once, where head and policy are the user's both.
                var features = await ExtractAsync(request, head, terms, cancellation, app.Ensemble?.Policy is { Per: PolicyPer.User } ? together!.Read : null);
                versions[head.Document.Features] = features.Version;
                inHead = features.Duration;
                stateUsd += features.StateUsd;
                personal = features;
            }
            catch (RequestException e) when (e.Refusal is Refusal.Busy or Refusal.DeadlineExceeded)
            {
                app.Pressure.GaveUp();
                impersonal = e.Refusal == Refusal.Busy ? "busy" : "deadline";
            }
        }

        var predictions = new Prediction[rows];
        var shared = (Prices.Compute(inHead) + Prices.FunctionRequest + stateUsd) / Math.Max(rows, 1);
        var computed = (Prices.Compute(inCascade) + Prices.Replica(onTier)) / Math.Max(answers?.Computed ?? together?.Answers.Length ?? 0, 1);
        for (var row = 0; row < rows; row++)
        {
            var origin = answers?.Origin(row) ?? default;
            var prediction = Answer(request, row, answers?.Answers[row] ?? together?.Answers[row], personal, impersonal);
            predictions[row] = prediction = together is null ? prediction : Finish(app, prediction, together.Answers[row]);
            (prediction.Origin, prediction.CostUsd) = (origin, origin.Source == AnswerSource.Computed ? shared + computed : shared);
        }
        app.Answered(time.GetElapsedTime(request.Arrived));
        return new PredictResult(app, predictions, versions, personal?.Read);
    }

    /// <summary>What an app answers when it has too much to do to run anything: its default, for each row.</summary>
    public static PredictResult Shed(App app, int rows)
    {
        var predictions = new Prediction[rows];
        Array.Fill(predictions, Default(app, "busy"));
        return new PredictResult(app, predictions, new Dictionary<string, int>());
    }

    /// <summary>
    /// Until when and before whom the request's models are run. The objective counts once the app has met it here and its models are loaded: whoever comes before waits for that, no longer than they say themselves.
    /// </summary>
    private Terms TermsOf(PredictRequest request)
    {
        var app = request.App;
        var isWarm = app.IsWarm;
        for (var i = 0; isWarm && i < app.Models.Count; i++) isWarm = models.IsSettled(app.Tenant, app.Models[i]);
        return new Terms(Deadline.Of(request.Arrived, isWarm ? app.Document.Objective : null, request.DeadlineMs, 0, time), request.Priority, isWarm ? app.Pressure : null, request.Trace);
    }

    /// <summary>What an ensemble says about the rows of a request: by the weights, or by the one member, of the user's or the context's policy.</summary>
    /// <param name="terms">At the deadline it answers with what it has.</param>
    internal async ValueTask<EnsembleAnswers> AskAsync(PredictRequest request, Ensemble ensemble, Terms terms, CancellationToken cancellation)
    {
        var app = request.App;
        HeadRead? read = null;
        PolicyState? learnt = null;
        if (ensemble.Policy is { } policy)
        {
            UserKey? key = policy.Per == PolicyPer.User
                ? request.User is { } user ? new UserKey(app.Tenant, app.Name, user) : null
                : request.Context is { } context ? UserKey.OfContext(app.Tenant, app.Name, context) : null;
            if (key is { } owner) read = await ReadAsync(owner, request, terms, cancellation);
            learnt = policy.Read(read?.Weights?.Policy);
        }
        var (chosen, propensity) = ensemble.Policy is { Chooses: true } chooser ? chooser.Choose(learnt!, (ulong)options.Random.NextInt64()) : (-1, 1);
        var weights = ensemble.Policy is { Chooses: false } weighter ? weighter.Weights(learnt!) : null;
        var run = await ensemble.RunAsync(app.Tenant, request.Buffer, request.Input, chosen, terms, cancellation);
        return new EnsembleAnswers([.. Enumerable.Range(0, (int)request.Input.Shape[0]).Select(row => ensemble.Answer(run, row, weights, propensity))], run.Runs, read);
    }

    /// <summary>Reads somebody's state, after what they have under way here was learnt, or a while has passed; half of what is left at most, the rest is for the models.</summary>
    private async ValueTask<HeadRead> ReadAsync(UserKey key, PredictRequest request, Terms terms, CancellationToken cancellation)
    {
        var left = TimeSpan.FromSeconds(Math.Max(0, terms.Deadline - time.GetTimestamp()) / 2.0 / time.TimestampFrequency);
        await pending.WaitAsync(key, left < options.ReadYourWritesWait ? left : options.ReadYourWritesWait, time, cancellation);
        // What is kept is kept for the head's sake: an app without one says nothing about how old it may be.
        return await heads.ReadAsync(key, request.App.Head?.Document.Cache ?? HeadCacheDocument.Off, request.IsFresh, cancellation);
    }

    /// <summary>φ of the rows of a request, on the version that the user's head was learnt on, and that head.</summary>
    /// <param name="read">The user's state, where it has been read.</param>
    /// <exception cref="RequestException">The feature model is unavailable, or couldn't be run in time.</exception>
    public async ValueTask<Features> ExtractAsync(PredictRequest request, Head head, Terms terms, CancellationToken cancellation, HeadRead? read = null)
    {
        var app = request.App;
        var stateUsd = 0.0;
        if (read is null && request.User is { } user)
        {
            read = await ReadAsync(new UserKey(app.Tenant, app.Name, user), request, terms, cancellation);
            stateUsd = read.Value.CostUsd;
        }
        var weights = read?.Weights;
        if (weights is not null && weights.Weights.Length != head.Dimensions * head.Outputs) weights = null;
        using var lease = await models.AcquireAsync(app.Tenant, head.Document.Features, weights?.FeaturesVersion, cancellation);
        lease.RequireFit(request.Input, head.Width);
        var (values, runTime) = await RunAsync(lease, request, head, terms, cancellation);
        return new Features(values, lease.Manifest.Version, weights, runTime, stateUsd) { Read = read };
    }

    private static async ValueTask<(float[][] Rows, TimeSpan RunTime)> RunAsync(ModelLease lease, PredictRequest request, Head head, Terms terms, CancellationToken cancellation)
    {
        try
        {
            using var outputs = await lease.RunAsync(request.Buffer, [request.Input], terms, request.App.Document.Objective, cancellation);
            var output = outputs.Floats(0);
            var rows = new float[(int)request.Input.Shape[0]][];
            for (var row = 0; row < rows.Length; row++)
            {
                rows[row] = new float[head.Dimensions];
                head.ReadFeatures(output.Slice(row * head.Width, head.Width), rows[row]);
            }
            return (rows, outputs.RunTime);
        }
        catch (ModelFailedException e)
        {
            // Shape and type were checked: what a feature model can still object to is a value, such as an item that it has no row for.
            throw RequestException.Invalid($"feature model '{lease.Manifest.Name}' could not be run on this input: {e.Message}");
        }
    }

    /// <param name="impersonal">Why there is no head's answer, where there should be one.</param>
    private Prediction Answer(PredictRequest request, int row, StageAnswer? answer, Features? personal, string? impersonal)
    {
        var app = request.App;
        var hasAnswer = answer is { Stage: >= 0 };
        if (app.Head is null || personal is null) return hasAnswer ? Global(request, answer!, impersonal) : DefaultFor(app, answer?.CutShort ?? impersonal ?? "deadline");

        var phi = personal.Rows[row];
        var scores = new float[app.Head.Outputs];
        if (hasAnswer) answer!.Probabilities.CopyTo(scores, 0);
        var weights = personal.Weights;
        RidgeHead.Score(weights?.Weights ?? app.Head.InitialWeights, phi, scores);
        if (((ReadOnlySpan<float>)scores).ContainsNotFinite()) return Default(app, "not_finite");

        var isRegression = app.Head.Document.Kind != HeadKind.Classes;
        var label = isRegression ? -1 : TensorPrimitives.IndexOfMax(scores);
        var confidence = isRegression ? default(double?) : Math.Clamp(scores[label], 0, 1);
        return new Prediction
        {
            Id = seal.Seal(Decide(request, label, confidence, answer) with
            {
                FeaturesVersion = personal.Version,
                PriorVersion = weights?.PriorVersion ?? app.Head.PriorVersion,
                Features = phi,
                Base = hasAnswer ? answer!.Probabilities : [],
            }),
            Label = isRegression ? null : label,
            Output = isRegression ? scores[0] + (weights?.Offset ?? app.Head.Offset) : null,
            Confidence = confidence,
            Stage = app.Head.Document.Features,
            Degraded = answer?.CutShort,
            Scores = scores,
            StageConfidences = answer?.Confidences ?? [],
        };
    }

    /// <summary>What a cascade or an ensemble says to everybody.</summary>
    private Prediction Global(PredictRequest request, StageAnswer answer, string? impersonal)
    {
        if (((ReadOnlySpan<float>)answer.Probabilities).ContainsNotFinite()) return Default(request.App, "not_finite");
        var together = answer as EnsembleAnswer;
        var label = together?.Label ?? TensorPrimitives.IndexOfMax(answer.Probabilities);
        var confidence = together?.Confidence ?? answer.Probabilities[label];
        return new Prediction
        {
            Id = seal.Seal(Decide(request, label, confidence, answer)),
            Label = label,
            Confidence = confidence,
            Stage = together is null ? request.App.Document.Cascade[answer.Stage].Model : together.Chosen ?? "ensemble",
            // Without the head it is the global answer, and less than the app promises.
            Degraded = answer.CutShort ?? impersonal,
            Scores = answer.Probabilities,
            StageConfidences = answer.Confidences,
        };
    }

    /// <summary>With what an ensemble's members said, and the default in place of an answer that is less sure than the app allows. Feedback on that one teaches as much as on any other.</summary>
    private static Prediction Finish(App app, Prediction prediction, EnsembleAnswer answer)
    {
        prediction = prediction with { Members = answer.Members, Propensity = answer.Chosen is null ? null : answer.Propensity };
        return IsUnsure(app, prediction.Confidence) ? prediction with { Label = app.Document.Default.Label, IsDefault = true, Degraded = "unsure" } : prediction;
    }

    private static bool IsUnsure(App app, double? confidence) => confidence < app.Document.Ensemble?.Floor;

    /// <exception cref="RequestException">There is too much to do, and the app has no default to give instead.</exception>
    private static Prediction DefaultFor(App app, string reason) => reason == "busy" && !app.HasDefault ? throw new RequestException(Refusal.Busy, BusyMessage(app)) : Default(app, reason);

    public static string BusyMessage(App app) => $"app '{app.Name}' has more to do than it can{(app.HasDefault ? "" : ", and no default answer")}; try again later";

    private static Prediction Default(App app, string reason) =>
        new() { Label = app.Document.Default.Label, Output = app.Document.Default.Output, IsDefault = true, Degraded = reason };

    private Decision Decide(PredictRequest request, int label, double? confidence, StageAnswer? answer)
    {
        var answered = IsUnsure(request.App, confidence) ? request.App.Document.Default.Label ?? -1 : label;
        var now = time.GetUtcNow();
        return new()
        {
            Tenant = request.App.Tenant,
            App = request.App.Name,
            AppVersion = request.App.Version,
            User = request.User ?? "",
            Label = answered,
            Propensity = (float)((answer as EnsembleAnswer)?.Propensity ?? 1),
            Context = request.Context ?? "",
            Members = (answer as EnsembleAnswer)?.Kept ?? [],
            Made = now,
            Due = now + request.App.SilenceAfter(request.User, request.Context, answered),
            Expires = now + options.DecisionLifetime,
        };
    }
}

public sealed record PredictorOptions
{
    /// <summary>How long feedback on a decision is taken.</summary>
    public TimeSpan DecisionLifetime { get; init; } = TimeSpan.FromDays(7);

    /// <summary>How long a prediction waits at most for its user's feedback that this process has accepted and not yet learnt.</summary>
    public TimeSpan ReadYourWritesWait { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Where the seeds of policies' choices come from; for several threads at once.</summary>
    public Random Random { get; init; } = Random.Shared;
}

/// <summary>What an ensemble says about the rows of a request, what ran, and the state that was read for its policy.</summary>
internal sealed record EnsembleAnswers(EnsembleAnswer[] Answers, IReadOnlyList<MemberRun> Runs, HeadRead? Read);

/// <summary>φ of each row, the version it was made by, and the user's head if there is one.</summary>
/// <param name="StateUsd">What reading the head has cost.</param>
public sealed record Features(float[][] Rows, int Version, HeadWeights? Weights, TimeSpan Duration, double StateUsd)
{
    /// <summary>What was read of the user; null for nobody.</summary>
    public HeadRead? Read { get; init; }
}

