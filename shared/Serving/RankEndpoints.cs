using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Apps;
using Skiff.Ranking;

namespace Skiff.Serving;

/// <summary>Apps that rank, over REST; what became of a ranking is their feedback.</summary>
public sealed class RankEndpoints(Gateway gateway, AppHost apps, Ranker ranker, TimeProvider time)
{
    public void Map(IEndpointRouteBuilder routes) => routes.MapPost("/apps/{app}/rank", gateway.For(Scopes.Predict, RankAsync));

    /// <summary>Feedback on an app that ranks: a reward, or that something was shown after all.</summary>
    public async Task FeedbackAsync(HttpContext http, App app)
    {
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        var feedback = RankRequestReader.ReadFeedback(exchange.Body);
        if (feedback.IsActivation) await ranker.ActivateAsync(app, feedback.Event, http.RequestAborted);
        else await ranker.RewardAsync(app, feedback.Event, feedback.Rewards, feedback.FeedbackId, http.RequestAborted);
        var json = exchange.Json;
        json.WriteStartObject();
        json.WriteString("feedback_id"u8, feedback.FeedbackId ?? feedback.Event);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 202, Gateway.Json, http.RequestAborted);
    }

    /// <returns>What an app has learnt that ranks; null for others.</returns>
    public async ValueTask<RankView?> ViewAsync(App app, CancellationToken cancellation) => app.Document.Rank is null ? null : await ranker.ViewAsync(app, cancellation);

    /// <summary>Says what an app that ranks does and has learnt.</summary>
    public static void Describe(Utf8JsonWriter json, App app, RankView view)
    {
        var document = app.Document.Rank!;
        json.WriteStartObject("rank"u8);
        json.WriteString("policy"u8, JsonNamingPolicy.SnakeCaseLower.ConvertName(app.Exploration!.Kind.ToString()));
        json.WriteNumber("epsilon"u8, app.Exploration.Epsilon);
        json.WriteString("mode"u8, JsonNamingPolicy.SnakeCaseLower.ConvertName(document.Mode.ToString()));
        json.WriteString("reward_wait"u8, document.RewardWait);
        json.WriteNumber("default_reward"u8, document.DefaultReward);
        json.WriteString("aggregation"u8, JsonNamingPolicy.SnakeCaseLower.ConvertName(document.Aggregation.ToString()));
        json.WriteNumber("learnt"u8, view.Updates);
        Write("rewards"u8, "mean_reward"u8, view.Rewards);
        Write("imitated"u8, "agreement"u8, view.Agreement);
        json.WriteEndObject();

        void Write(ReadOnlySpan<byte> count, ReadOnlySpan<byte> mean, RunningShare share)
        {
            json.WriteNumber(count, share.Count);
            if (share.Count > 0) json.WriteNumber(mean, Math.Round(share.Mean, 6));
            else json.WriteNull(mean);
        }
    }

    private async Task RankAsync(HttpContext http, Caller caller)
    {
        var arrived = time.GetTimestamp();
        var app = await apps.GetAsync(caller.Tenant, (string)http.Request.RouteValues["app"]!, http.RequestAborted);
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        var request = RankRequestReader.ReadRank(exchange.Body);
        var decision = await ranker.RankAsync(app, request, http.RequestAborted);

        var json = exchange.Json;
        json.WriteStartObject();
        json.WriteString("id"u8, decision.EventId);
        if (request.Slots.Count == 0) Write(json, decision.Slots[0]);
        else
        {
            json.WriteStartArray("slots"u8);
            foreach (var slot in decision.Slots)
            {
                json.WriteStartObject();
                json.WriteString("id"u8, slot.Slot);
                Write(json, slot);
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        json.WriteStartObject("versions"u8);
        json.WriteNumber("app"u8, app.Version);
        json.WriteEndObject();
        json.WriteNumber("latency_ms"u8, Math.Round(time.GetElapsedTime(arrived).TotalMilliseconds, 3));
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private static void Write(Utf8JsonWriter json, SlotDecision slot)
    {
        json.WriteString("chosen"u8, slot.Chosen);
        WriteRanking(json, slot.Ranking);
    }

    internal static void WriteRanking(Utf8JsonWriter json, IReadOnlyList<RankedAction> ranking)
    {
        json.WriteStartArray("ranking"u8);
        foreach (var action in ranking)
        {
            json.WriteStartObject();
            json.WriteString("id"u8, action.Id);
            json.WriteNumber("probability"u8, action.Probability);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }
}
