using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Caching;
using Skiff.Cascades;
using Skiff.Models;
using Skiff.Ranking;
using Skiff.Routing;

namespace Skiff.Serving;

/// <summary>Apps over REST: what they are, their predictions, and feedback on these.</summary>
public sealed class AppEndpoints(Gateway gateway, AppHost apps, Predictor predictor, FeedbackIntake intake, RankEndpoints ranking, TimeProvider time)
{
    public void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/apps", gateway.For(Scopes.Predict, ListAsync));
        routes.MapGet("/apps/{app}", gateway.For(Scopes.Predict, DescribeAsync));
        routes.MapPost("/apps/{app}/predict", gateway.For(Scopes.Predict, PredictAsync));
        routes.MapPost("/apps/{app}/feedback", gateway.For(Scopes.Feedback, FeedbackAsync));
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask PredictAsync(HttpContext http, Caller caller)
    {
        var arrived = time.GetTimestamp();
        var app = await FindAsync(http, caller);
        if (app.Document.Rank is not null) throw RequestException.Invalid($"app '{app.Name}' ranks and predicts nothing: it takes POST /apps/{app.Name}/rank");
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        // Under pressure most requests are not even parsed: a refusal must cost next to nothing, or refusing is all that is done.
        var isOrdinary = !AppRequestReader.MayHavePriority(exchange.Body);
        var shedding = isOrdinary ? app.Pressure.Admit(Priorities.Normal) : Shedding.None;
        if (shedding == Shedding.Refused)
        {
            await Gateway.AnswerBusyAsync(http, Predictor.BusyMessage(app));
            return;
        }
        var asked = AppRequestReader.ReadPredict(exchange.Body, app, exchange.Infer);
        if (!isOrdinary && (shedding = app.Pressure.Admit(asked.Priority)) == Shedding.Refused)
        {
            await Gateway.AnswerBusyAsync(http, Predictor.BusyMessage(app));
            return;
        }
        var result = shedding == Shedding.Default
            ? Predictor.Shed(app, (int)asked.Input.Shape[0])
            : await predictor.PredictAsync(
                new PredictRequest
                {
                    App = app, Buffer = exchange.Infer.Buffer, Input = asked.Input, User = asked.User, Context = asked.Context, DeadlineMs = Deadline.Nearest(asked.DeadlineMs, http.Request), Priority = asked.Priority, IsFresh = WantsFresh(http.Request), Trace = TraceParent.Read(http.Request.Headers), Arrived = arrived,
                },
                http.RequestAborted);
        await intake.AwaitAsync(app, result.Predictions, caller.Key, http.RequestAborted);

        var json = exchange.Json;
        var latency = time.GetElapsedTime(arrived).TotalMilliseconds;
        if (asked.IsBatch)
        {
            json.WriteStartObject();
            json.WriteStartArray("predictions"u8);
            foreach (var prediction in result.Predictions) Write(json, result, prediction, latency, asked.Explain);
            json.WriteEndArray();
            json.WriteEndObject();
        }
        else Write(json, result, result.Predictions[0], latency, asked.Explain);
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    /// <summary>As HTTP says it: nothing kept without a look whether it still holds.</summary>
    private static bool WantsFresh(HttpRequest request) => request.Headers.CacheControl is { Count: > 0 } control && control.ToString().Contains("no-cache", StringComparison.OrdinalIgnoreCase);

    private async Task FeedbackAsync(HttpContext http, Caller caller)
    {
        var app = await FindAsync(http, caller);
        if (app.Document.Rank is not null)
        {
            await ranking.FeedbackAsync(http, app);
            return;
        }
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        var (requests, isBatch) = AppRequestReader.ReadFeedback(exchange.Body, app, exchange.Infer);
        var ids = await intake.AcceptAsync(app, [.. requests.Select(request => request with { Caller = caller.Key })], exchange.Infer.Buffer, http.RequestAborted);

        var json = exchange.Json;
        json.WriteStartObject();
        if (isBatch)
        {
            json.WriteStartArray("feedback_ids"u8);
            foreach (var id in ids) json.WriteStringValue(id);
            json.WriteEndArray();
        }
        else json.WriteString("feedback_id"u8, ids[0]);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 202, Gateway.Json, http.RequestAborted);
    }

    private async Task ListAsync(HttpContext http, Caller caller)
    {
        using var exchange = Exchange.Rent();
        var json = exchange.Json;
        json.WriteStartObject();
        json.WriteStartArray("apps"u8);
        foreach (var name in await apps.NamesAsync(caller.Tenant, http.RequestAborted))
        {
            try
            {
                var app = await apps.GetAsync(caller.Tenant, name, http.RequestAborted);
                Write(json, app, await ranking.ViewAsync(app, http.RequestAborted));
            }
            catch (Exception e) when (e is RequestException or Store.StoreException)
            {
                json.WriteStartObject();
                json.WriteString("name"u8, name);
                json.WriteString("error"u8, e is RequestException ? e.Message : "it can't be read from the store; the server's log says more");
                json.WriteEndObject();
            }
        }
        json.WriteEndArray();
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private async Task DescribeAsync(HttpContext http, Caller caller)
    {
        var app = await FindAsync(http, caller);
        using var exchange = Exchange.Rent();
        Write(exchange.Json, app, await ranking.ViewAsync(app, http.RequestAborted));
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private async ValueTask<App> FindAsync(HttpContext http, Caller caller) =>
        await apps.GetAsync(caller.Tenant, (string)http.Request.RouteValues["app"]!, http.RequestAborted);

    private static void Write(Utf8JsonWriter json, PredictResult result, Prediction prediction, double latencyMs, bool explain)
    {
        var labels = result.App.Document.Labels;
        json.WriteStartObject();
        if (prediction.Id is { } id) json.WriteString("id"u8, id);
        if (labels.Count > 0)
        {
            if (prediction.Label is { } label)
            {
                json.WriteNumber("label"u8, label);
                json.WriteString("label_name"u8, labels[label]);
            }
            else json.WriteNull("label"u8);
        }
        else if (prediction.Output is { } output) json.WriteNumber("output"u8, Math.Round(output, 6));
        else json.WriteNull("output"u8);
        if (prediction.Confidence is { } confidence) json.WriteNumber("confidence"u8, Math.Round(confidence, 6));
        if (prediction.Stage is { } stage) json.WriteString("stage"u8, stage);
        json.WriteBoolean("is_default"u8, prediction.IsDefault);
        if (prediction.Degraded is { } degraded) json.WriteString("degraded"u8, degraded);
        if (prediction.Members.Any(member => member.Missing is not null))
        {
            json.WriteStartArray("missing"u8);
            foreach (var member in prediction.Members)
            {
                if (member.Missing is not null) json.WriteStringValue(member.Model);
            }
            json.WriteEndArray();
        }
        if (prediction.Origin.Source != AnswerSource.Computed) json.WriteString("cached"u8, Name(prediction.Origin.Source));
        json.WriteStartObject("versions"u8);
        json.WriteNumber("app"u8, result.App.Version);
        foreach (var (model, version) in result.Versions) json.WriteNumber(model, version);
        json.WriteEndObject();
        json.WriteNumber("cost_usd"u8, Math.Round(prediction.CostUsd, 12));
        json.WriteNumber("latency_ms"u8, Math.Round(latencyMs, 3));
        if (explain) WriteExplanation(json, result, prediction);
        json.WriteEndObject();
    }

    private static ReadOnlySpan<byte> Name(AnswerSource source) => source switch
    {
        AnswerSource.Exact => "exact"u8,
        AnswerSource.Joined => "joined"u8,
        AnswerSource.Approximate => "approximate"u8,
        _ => "computed"u8,
    };

    private static ReadOnlySpan<byte> Name(HeadSource source) => source switch
    {
        HeadSource.Kept => "kept"u8,
        HeadSource.Checked => "checked"u8,
        _ => "store"u8,
    };

    private static void WriteExplanation(Utf8JsonWriter json, PredictResult result, Prediction prediction)
    {
        var app = result.App;
        json.WriteStartObject("explanation"u8);
        if (app.Document.Cache.IsOn)
        {
            json.WriteStartObject("cache"u8);
            json.WriteString("from"u8, Name(prediction.Origin.Source));
            if (prediction.Origin.Source == AnswerSource.Approximate) json.WriteNumber("distance"u8, Math.Round(prediction.Origin.Distance, 6));
            json.WriteEndObject();
        }
        if (result.Head is { } head)
        {
            json.WriteStartObject("head"u8);
            json.WriteString("from"u8, Name(head.Source));
            json.WriteNumber("updates"u8, head.Weights?.Updates ?? 0);
            json.WriteEndObject();
        }
        // Nobody is told of what there is not.
        if (app.Pressure.Level is > 0 and var pressure) json.WriteNumber("pressure"u8, Math.Round(pressure, 3));
        json.WriteStartArray("scores"u8);
        foreach (var score in prediction.Scores) json.WriteNumberValue(Math.Round(score, 6));
        json.WriteEndArray();
        json.WriteStartArray("stages"u8);
        for (var i = 0; i < prediction.StageConfidences.Count; i++)
        {
            var stage = app.Document.Cascade[i];
            json.WriteStartObject();
            json.WriteString("model"u8, stage.Model);
            var confidence = prediction.StageConfidences[i];
            // A stage whose scores overflow has none; a later one may answer all the same.
            if (float.IsFinite(confidence)) json.WriteNumber("confidence"u8, Math.Round(confidence, 6));
            else json.WriteNull("confidence"u8);
            if (stage.Gate is { } gate) json.WriteNumber("gate"u8, gate.At);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        if (app.Ensemble is not null) WriteMembers(json, prediction);
        json.WriteEndObject();
    }

    private static void WriteMembers(Utf8JsonWriter json, Prediction prediction)
    {
        json.WriteStartArray("members"u8);
        foreach (var member in prediction.Members)
        {
            json.WriteStartObject();
            json.WriteString("model"u8, member.Model);
            json.WriteNumber("weight"u8, Math.Round(member.Weight, 6));
            if (member.Missing is { } missing) json.WriteString("missing"u8, missing);
            else
            {
                json.WriteNumber("label"u8, member.Label);
                json.WriteNumber("confidence"u8, Math.Round(member.Confidence, 6));
            }
            json.WriteEndObject();
        }
        json.WriteEndArray();
        if (prediction.Propensity is { } propensity) json.WriteNumber("propensity"u8, Math.Round(propensity, 9));
    }

    /// <param name="learnt">Of an app that ranks; null for others.</param>
    private static void Write(Utf8JsonWriter json, App app, RankView? learnt)
    {
        var document = app.Document;
        json.WriteStartObject();
        json.WriteString("name"u8, app.Name);
        json.WriteNumber("version"u8, app.Version);
        if (learnt is not null)
        {
            RankEndpoints.Describe(json, app, learnt);
            json.WriteEndObject();
            return;
        }
        json.WriteStartObject("input"u8);
        json.WriteString("name"u8, document.Input.Name);
        json.WriteString("type"u8, app.InputType.WireName());
        json.WriteStartArray("shape"u8);
        foreach (var dimension in document.Input.Shape) json.WriteNumberValue(dimension);
        json.WriteEndArray();
        json.WriteEndObject();
        if (document.Labels.Count > 0)
        {
            json.WriteStartArray("labels"u8);
            foreach (var label in document.Labels) json.WriteStringValue(label);
            json.WriteEndArray();
        }
        json.WriteNumber("objective_ms"u8, document.ObjectiveMs);
        json.WriteNumber("pressure"u8, Math.Round(app.Pressure.Level, 3));
        json.WriteStartArray("cascade"u8);
        foreach (var stage in document.Cascade) json.WriteStringValue(stage.Model);
        json.WriteEndArray();
        if (document.Ensemble is { } ensemble)
        {
            json.WriteStartArray("ensemble"u8);
            foreach (var member in ensemble.Members) json.WriteStringValue(member);
            json.WriteEndArray();
        }
        if (document.Head is { } head)
        {
            json.WriteStartObject("head"u8);
            json.WriteString("kind"u8, head.Kind.ToString().ToLowerInvariant());
            json.WriteString("features"u8, head.Features);
            if (head.Prior is { } prior) json.WriteString("prior"u8, prior);
            json.WriteEndObject();
        }
        json.WriteEndObject();
    }
}
