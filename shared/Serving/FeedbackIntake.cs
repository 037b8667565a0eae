using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Ensembles;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;

namespace Skiff.Serving;

/// <summary>Feedback as a caller gives it, in neutral form: on a decision by its id, or on an input that it brings along.</summary>
public sealed record FeedbackRequest
{
    /// <summary>The decision's id; null when user and input are given.</summary>
    public string? Id { get; init; }

    public string? User { get; init; }

    /// <summary>Whose policy learns, where the app's goes by contexts.</summary>
    public string? Context { get; init; }

    /// <summary>One row in the buffer; null when an id is given.</summary>
    public Tensor? Input { get; init; }

    /// <summary>Index of the right label.</summary>
    public int? Label { get; init; }

    public double? Value { get; init; }

    public string? FeedbackId { get; init; }

    /// <summary>Which of the tenant's keys it came with; null where that is not known.</summary>
    public string? Caller { get; init; }
}

/// <summary>Accepts feedback: checks it, finds its user and features, and puts it into the queue. When it returns, the feedback is durable.</summary>
/// <param name="pending">Who has feedback under way; null where another process learns it, which nobody here would hear of.</param>
public sealed class FeedbackIntake(Predictor predictor, IFeedbackQueue queue, PendingFeedback? pending, DecisionSeal seal, FeedbackStatistics statistics, TimeProvider time)
{
    /// <summary>What the id of feedback begins with that silence was faster than: kept beside it.</summary>
    private const string LateId = "late:";

    /// <summary>Accepts all of them or none.</summary>
    /// <param name="buffer">Where the requests' inputs lie.</param>
    /// <returns>The feedback ids, in order.</returns>
    /// <exception cref="RequestException">One of them can't be accepted; the message says which, if there are several.</exception>
    public async Task<IReadOnlyList<string>> AcceptAsync(App app, IReadOnlyList<FeedbackRequest> requests, TensorBuffer buffer, CancellationToken cancellation)
    {
        var prepared = new List<(FeedbackMessage Message, DateTimeOffset? Due)>(requests.Count);
        for (var i = 0; i < requests.Count; i++)
        {
            try
            {
                prepared.Add(await PrepareAsync(app, requests[i], buffer, cancellation));
            }
            catch (RequestException e) when (requests.Count > 1)
            {
                throw new RequestException(e.Refusal, $"feedback[{i}]: {e.Message}; none of the {requests.Count} was accepted");
            }
        }

        // Only now, for the others' inputs may have taken their time: where silence was faster, it has the decision's id.
        var now = time.GetUtcNow();
        var ids = new string[requests.Count];
        var messages = new List<FeedbackMessage>(requests.Count);
        for (var i = 0; i < ids.Length; i++)
        {
            var (message, due) = prepared[i];
            if (now >= due) message = message with { Late = true, FeedbackId = LateId + message.FeedbackId };
            ids[i] = message.FeedbackId;
            messages.AddRange(ByOwner(app, message with { Caller = requests[i].Caller }));
        }

        foreach (var message in messages) pending?.Add(message);
        try
        {
            await queue.SendAsync(messages, cancellation);
        }
        catch
        {
            foreach (var message in messages) pending?.Remove(message);
            throw;
        }
        statistics.Of(app.Tenant).AddAccepted(messages.Count);
        return ids;
    }

    /// <summary>Where an app takes silence for feedback, has that of these decisions waited for; durable when it returns.</summary>
    /// <param name="caller">Whose silence it would be.</param>
    public async ValueTask AwaitAsync(App app, IReadOnlyList<Prediction> predictions, string? caller, CancellationToken cancellation)
    {
        if (app.Document.Feedback?.Implicit is not { } rule) return;
        var messages = new List<FeedbackMessage>(predictions.Count);
        foreach (var prediction in predictions)
        {
            if (prediction.Id is not { } id || seal.Open(id, app.Tenant, app.Name) is not { Due: { } due } decision) continue;
            var (label, value) = rule.Of(decision.Label);
            foreach (var message in ByOwner(app, MessageOn(app, decision, id, label, value) with { Caller = caller }))
            {
                if (message.Owner.User.Length > 0) messages.Add(ImplicitFeedback.Waiting(message, due));
            }
        }
        if (messages.Count > 0) await queue.SendAsync(messages, cancellation);
    }

    /// <summary>A policy that goes by contexts learns apart from the user's head: by a message of its own, which says nothing of the user. Each counts once.</summary>
    private static IEnumerable<FeedbackMessage> ByOwner(App app, FeedbackMessage message)
    {
        if (message.Context is null || app.Ensemble?.Policy is not { Per: PolicyPer.Context }) return [message with { Context = null }];
        var ofContext = message with { User = "", Features = [], Base = [] };
        return app.Head is null || message.User.Length == 0 ? [ofContext] : [ofContext, message with { Context = null, Members = null, Propensity = null }];
    }

    /// <returns>The message, and until when it counts before silence, where an app takes that for feedback.</returns>
    private async ValueTask<(FeedbackMessage Message, DateTimeOffset? Due)> PrepareAsync(App app, FeedbackRequest request, TensorBuffer buffer, CancellationToken cancellation)
    {
        CheckAnswer(app, request);
        if (request.Id is { } id)
        {
            // Forged, foreign or long expired: one answer for all, so that nobody learns from it which it was.
            var decision = seal.Open(id, app.Tenant, app.Name) ?? throw RequestException.NotFound("no such decision, or its time for feedback is over");
            if (decision.Due is not null && request.FeedbackId is not null) throw RequestException.Invalid($"'feedback_id' is of no use here: app '{app.Name}' takes silence for feedback, so a decision has one, under the decision's own id; leave it out");
            var said = MessageOn(app, decision, id, request.Label, request.Value) with { FeedbackId = request.FeedbackId ?? id };
            return (said.At >= decision.Expires ? said with { Late = true } : said, decision.Due);
        }

        var message = new FeedbackMessage
        {
            Tenant = app.Tenant,
            App = app.Name,
            User = request.User ?? "",
            Context = request.Context,
            FeedbackId = request.FeedbackId ?? Guid.NewGuid().ToString("n"),
            Label = request.Label,
            Value = request.Value,
            Input = app.Document.KeepInputs ? buffer.Span(request.Input!.Offset, request.Input.Length).ToArray() : null,
            At = time.GetUtcNow(),
        };
        var predict = new PredictRequest { App = app, Buffer = buffer, Input = request.Input!, User = request.User, Context = request.Context, IsFresh = true, Arrived = time.GetTimestamp() };
        EnsembleAnswer? together = null;
        if (app.Ensemble is { } ensemble && (app.Head is not null || ensemble.Policy is not null))
        {
            // In its own time: nobody waits for an answer.
            together = (await predictor.AskAsync(predict, ensemble, Terms.Patient, cancellation)).Answers[0];
            if (together.Kept.Length > 0) message = message with { Members = together.Kept, Propensity = together.Propensity };
        }
        if (app.Head is not { } head || request.User is null) return (message, null);
        var features = await predictor.ExtractAsync(predict, head, Terms.Patient, cancellation);
        if (((ReadOnlySpan<float>)features.Rows[0]).ContainsNotFinite()) throw RequestException.Invalid("the features of this input are not finite: nothing can be learnt from it");
        var global = app.Cascade is { } cascade
            ? (await cascade.RunAsync(app.Tenant, buffer, request.Input!, long.MaxValue, cancellation)).Answers[0].Probabilities
            : together?.Probabilities ?? [];
        message = message with
        {
            FeaturesVersion = features.Version,
            PriorVersion = features.Weights?.PriorVersion ?? head.PriorVersion,
            Features = ToBytes(features.Rows[0]),
            Base = ToBytes(global),
        };
        return (message, null);
    }

    private FeedbackMessage MessageOn(App app, Decision decision, string id, int? label, double? value) => new()
    {
        Tenant = app.Tenant,
        App = app.Name,
        User = decision.User,
        FeedbackId = id,
        Label = label,
        Value = value,
        Answered = decision.Label >= 0 ? decision.Label : null,
        FeaturesVersion = decision.FeaturesVersion,
        PriorVersion = decision.PriorVersion,
        Features = ToBytes(decision.Features),
        Base = ToBytes(decision.Base),
        Context = decision.Context.Length > 0 ? decision.Context : null,
        Members = decision.Members.Length > 0 ? decision.Members : null,
        Propensity = decision.Members.Length > 0 ? decision.Propensity : null,
        Decided = decision.Made,
        At = time.GetUtcNow(),
    };

    private static void CheckAnswer(App app, FeedbackRequest request)
    {
        if (app.Document.Labels.Count > 0)
        {
            if (request.Value is not null) throw RequestException.Invalid($"app '{app.Name}' takes 'label', not 'value'");
            if (request.Label is null) throw RequestException.Invalid($"'label' is missing: it takes 0 to {app.Document.Labels.Count - 1}, or a label's name");
        }
        else
        {
            if (request.Label is not null) throw RequestException.Invalid($"app '{app.Name}' has no labels: it takes 'value', a number");
            if (request.Value is null) throw RequestException.Invalid("'value' is missing: it takes a number");
        }
    }

    private static byte[] ToBytes(float[] values) => MemoryMarshal.AsBytes<float>(values).ToArray();
}
