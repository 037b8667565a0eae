using System.Numerics.Tensors;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Cascades;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Planning;
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

    /// <summary>After this many ms no further model is begun; null for no limit.</summary>
    public double? DeadlineMs { get; init; }

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

    /// <summary>Why the answer is less than it could be: <c>deadline</c>, <c>busy</c>, <c>unavailable</c>, <c>not_finite</c>; null when it isn't.</summary>
    public string? Degraded { get; init; }

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
public sealed record PredictResult(App App, IReadOnlyList<Prediction> Predictions, IReadOnlyDictionary<string, int> Versions);

/// <summary>
/// The way of a prediction: cache, cascade, then the personal head over the features, then the sealed decision. A prediction writes nothing.
/// </summary>
public sealed class Predictor(ModelHost models, CascadeCache cascades, IStateStore state, PendingFeedback pending, DecisionSeal seal, PredictorOptions options, TimeProvider time)
{
    /// <exception cref="RequestException">A model that the answer can't do without is unavailable.</exception>
    public async ValueTask<PredictResult> PredictAsync(PredictRequest request, CancellationToken cancellation)
    {
        var app = request.App;
        var rows = (int)request.Input.Shape[0];
        var deadline = request.DeadlineMs is { } ms ? (long)(request.Arrived + ms * time.TimestampFrequency / 1000) : long.MaxValue;
        var versions = new Dictionary<string, int>();
        var (inCascade, inHead) = (TimeSpan.Zero, TimeSpan.Zero);
        var stateUsd = 0.0;

        CascadeAnswers? answers = null;
        if (app.Cascade is { } cascade)
        {
            answers = await cascades.RunAsync(app, cascade, request.Buffer, request.Input, deadline, cancellation);
            foreach (var run in answers.Value.Runs)
            {
                versions[app.Document.Cascade[run.Stage].Model] = run.Version;
                inCascade += run.Duration;
            }
        }

        var personal = default(Features?);
        if (app.Head is { } head && time.GetTimestamp() < deadline)
        {
            var features = await ExtractAsync(request, head, cancellation);
            versions[head.Document.Features] = features.Version;
            inHead = features.Duration;
            stateUsd = features.StateUsd;
            personal = features;
        }

        var predictions = new Prediction[rows];
        var shared = (Prices.Compute(inHead) + Prices.FunctionRequest + stateUsd) / Math.Max(rows, 1);
        var computed = Prices.Compute(inCascade) / Math.Max(answers?.Computed ?? 0, 1);
        for (var row = 0; row < rows; row++)
        {
            var origin = answers?.Origin(row) ?? default;
            var prediction = predictions[row] = Answer(request, row, answers?.Answers[row], personal);
            (prediction.Origin, prediction.CostUsd) = (origin, origin.Source == AnswerSource.Computed ? shared + computed : shared);
        }
        return new PredictResult(app, predictions, versions);
    }

    /// <summary>φ of the rows of a request, on the version that the user's head was learnt on, and that head.</summary>
    public async ValueTask<Features> ExtractAsync(PredictRequest request, Head head, CancellationToken cancellation)
    {
        var app = request.App;
        HeadWeights? weights = null;
        var stateUsd = 0.0;
        if (request.User is { } user)
        {
            var key = new UserKey(app.Tenant, app.Name, user);
            await pending.WaitAsync(key, options.ReadYourWritesWait, time, cancellation);
            (weights, stateUsd) = await state.ReadWeightsAsync(key, cancellation);
            if (weights is not null && weights.Weights.Length != head.Dimensions * head.Outputs) weights = null;
        }
        using var lease = await models.AcquireAsync(app.Tenant, head.Document.Features, weights?.FeaturesVersion, cancellation);
        lease.RequireFit(request.Input, head.Width);
        var (values, runTime) = await RunAsync(lease, request, head, cancellation);
        return new Features(values, lease.Manifest.Version, weights, runTime, stateUsd);
    }

    private static async ValueTask<(float[][] Rows, TimeSpan RunTime)> RunAsync(ModelLease lease, PredictRequest request, Head head, CancellationToken cancellation)
    {
        try
        {
            using var outputs = await lease.RunAsync(request.Buffer, [request.Input], long.MaxValue, request.App.Document.Objective, cancellation);
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

    private Prediction Answer(PredictRequest request, int row, StageAnswer? answer, Features? personal)
    {
        var app = request.App;
        var hasAnswer = answer is { Stage: >= 0 };
        if (app.Head is null || personal is null) return hasAnswer ? FromCascade(request, answer!) : DefaultFor(app, answer?.CutShort ?? "deadline");

        var phi = personal.Rows[row];
        var scores = new float[app.Head.Outputs];
        if (hasAnswer) answer!.Probabilities.CopyTo(scores, 0);
        var weights = personal.Weights;
        RidgeHead.Score(weights?.Weights ?? app.Head.InitialWeights, phi, scores);
        if (((ReadOnlySpan<float>)scores).ContainsNotFinite()) return Default(app, "not_finite");

        var isRegression = app.Head.Document.Kind == HeadKind.Regression;
        var label = isRegression ? -1 : TensorPrimitives.IndexOfMax(scores);
        return new Prediction
        {
            Id = seal.Seal(Decide(request, label) with
            {
                FeaturesVersion = personal.Version,
                PriorVersion = weights?.PriorVersion ?? app.Head.PriorVersion,
                Features = phi,
                Base = hasAnswer ? answer!.Probabilities : [],
            }),
            Label = isRegression ? null : label,
            Output = isRegression ? scores[0] + (weights?.Offset ?? app.Head.Offset) : null,
            Confidence = isRegression ? null : Math.Clamp(scores[label], 0, 1),
            Stage = app.Head.Document.Features,
            Degraded = answer?.CutShort,
            Scores = scores,
            StageConfidences = answer?.Confidences ?? [],
        };
    }

    private Prediction FromCascade(PredictRequest request, StageAnswer answer)
    {
        if (((ReadOnlySpan<float>)answer.Probabilities).ContainsNotFinite()) return Default(request.App, "not_finite");
        var label = TensorPrimitives.IndexOfMax(answer.Probabilities);
        return new Prediction
        {
            Id = seal.Seal(Decide(request, label)),
            Label = label,
            Confidence = answer.Probabilities[label],
            Stage = request.App.Document.Cascade[answer.Stage].Model,
            // Without the head it is the global answer, and less than the app promises.
            Degraded = answer.CutShort ?? (request.App.Head is null ? null : "deadline"),
            Scores = answer.Probabilities,
            StageConfidences = answer.Confidences,
        };
    }

    /// <exception cref="RequestException">There is too much to do, and the app has no default to give instead.</exception>
    private static Prediction DefaultFor(App app, string reason) => reason == "busy" && app.Document.Default is { Label: null, Output: null }
        ? throw new RequestException(Refusal.Busy, $"app '{app.Name}' has more to do than it can, and no default answer; try again later")
        : Default(app, reason);

    private static Prediction Default(App app, string reason) =>
        new() { Label = app.Document.Default.Label, Output = app.Document.Default.Output, IsDefault = true, Degraded = reason };

    private Decision Decide(PredictRequest request, int label) => new()
    {
        Tenant = request.App.Tenant,
        App = request.App.Name,
        AppVersion = request.App.Version,
        User = request.User ?? "",
        Label = label,
        Expires = time.GetUtcNow() + options.DecisionLifetime,
    };
}

public sealed record PredictorOptions
{
    /// <summary>How long feedback on a decision is taken.</summary>
    public TimeSpan DecisionLifetime { get; init; } = TimeSpan.FromDays(7);

    /// <summary>How long a prediction waits at most for its user's feedback that this process has accepted and not yet learnt.</summary>
    public TimeSpan ReadYourWritesWait { get; init; } = TimeSpan.FromMilliseconds(100);
}

/// <summary>φ of each row, the version it was made by, and the user's head if there is one.</summary>
/// <param name="StateUsd">What reading the head has cost.</param>
public sealed record Features(float[][] Rows, int Version, HeadWeights? Weights, TimeSpan Duration, double StateUsd);

