using System.Runtime.InteropServices;
using Skiff.Apps;
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

    /// <summary>One row in the buffer; null when an id is given.</summary>
    public Tensor? Input { get; init; }

    /// <summary>Index of the right label.</summary>
    public int? Label { get; init; }

    public double? Value { get; init; }

    public string? FeedbackId { get; init; }
}

/// <summary>Accepts feedback: checks it, finds its user and features, and puts it into the queue. When it returns, the feedback is durable.</summary>
/// <param name="pending">Who has feedback under way; null where another process learns it, which nobody here would hear of.</param>
public sealed class FeedbackIntake(Predictor predictor, IFeedbackQueue queue, PendingFeedback? pending, DecisionSeal seal, FeedbackStatistics statistics, TimeProvider time)
{
    /// <summary>Accepts all of them or none.</summary>
    /// <param name="buffer">Where the requests' inputs lie.</param>
    /// <returns>The feedback ids, in order.</returns>
    /// <exception cref="RequestException">One of them can't be accepted; the message says which, if there are several.</exception>
    public async Task<IReadOnlyList<string>> AcceptAsync(App app, IReadOnlyList<FeedbackRequest> requests, TensorBuffer buffer, CancellationToken cancellation)
    {
        var messages = new FeedbackMessage[requests.Count];
        for (var i = 0; i < messages.Length; i++)
        {
            try
            {
                messages[i] = await PrepareAsync(app, requests[i], buffer, cancellation);
            }
            catch (RequestException e) when (messages.Length > 1)
            {
                throw new RequestException(e.Refusal, $"feedback[{i}]: {e.Message}; none of the {messages.Length} was accepted");
            }
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
        statistics.Of(app.Tenant).AddAccepted(messages.Length);
        return [.. messages.Select(message => message.FeedbackId)];
    }

    private async ValueTask<FeedbackMessage> PrepareAsync(App app, FeedbackRequest request, TensorBuffer buffer, CancellationToken cancellation)
    {
        CheckAnswer(app, request);
        if (request.Id is { } id)
        {
            // Forged, foreign or expired: one answer for all, so that nobody learns from it which it was.
            var decision = seal.Open(id, app.Tenant, app.Name) ?? throw RequestException.NotFound("no such decision, or its time for feedback is over");
            return new FeedbackMessage
            {
                Tenant = app.Tenant,
                App = app.Name,
                User = decision.User,
                FeedbackId = request.FeedbackId ?? id,
                Label = request.Label,
                Value = request.Value,
                Answered = decision.Label >= 0 ? decision.Label : null,
                FeaturesVersion = decision.FeaturesVersion,
                PriorVersion = decision.PriorVersion,
                Features = ToBytes(decision.Features),
                Base = ToBytes(decision.Base),
                At = time.GetUtcNow(),
            };
        }

        var message = new FeedbackMessage
        {
            Tenant = app.Tenant,
            App = app.Name,
            User = request.User!,
            FeedbackId = request.FeedbackId ?? Guid.NewGuid().ToString("n"),
            Label = request.Label,
            Value = request.Value,
            At = time.GetUtcNow(),
        };
        if (app.Head is not { } head) return message;
        var predict = new PredictRequest { App = app, Buffer = buffer, Input = request.Input!, User = request.User, Arrived = time.GetTimestamp() };
        var features = await predictor.ExtractAsync(predict, head, cancellation);
        if (((ReadOnlySpan<float>)features.Rows[0]).ContainsNotFinite()) throw RequestException.Invalid("the features of this input are not finite: nothing can be learnt from it");
        var global = app.Cascade is { } cascade
            ? (await cascade.RunAsync(app.Tenant, buffer, request.Input!, long.MaxValue, cancellation)).Answers[0].Probabilities
            : [];
        return message with
        {
            FeaturesVersion = features.Version,
            PriorVersion = features.Weights?.PriorVersion ?? head.PriorVersion,
            Features = ToBytes(features.Rows[0]),
            Base = ToBytes(global),
        };
    }

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
