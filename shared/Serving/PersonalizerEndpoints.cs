using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Apps;
using Skiff.Ranking;

namespace Skiff.Serving;

/// <summary>
/// The REST of Azure Personalizer, retired on 1 October 2026, so that its clients work with another endpoint and key. What was a resource there is a tenant here, and its learning loop the app of the name <see cref="AppName"/>.
/// </summary>
/// <param name="publisher">Null where documents can't be published from here.</param>
public sealed class PersonalizerEndpoints(Gateway gateway, AppHost apps, Ranker ranker, Publisher? publisher)
{
    public const string AppName = "personalizer";

    private static readonly string[] Versions = ["v1.0", "v1.1-preview.1", "v1.1-preview.2", "v1.1-preview.3"];

    public void Map(IEndpointRouteBuilder routes)
    {
        routes.MapPost("/personalizer/{version}/rank", gateway.For(Scopes.Predict, RankAsync));
        routes.MapPost("/personalizer/{version}/events/{event}/reward", gateway.For(Scopes.Feedback, RewardAsync));
        routes.MapPost("/personalizer/{version}/events/{event}/activate", gateway.For(Scopes.Feedback, ActivateAsync));
        routes.MapPost("/personalizer/{version}/multislot/rank", gateway.For(Scopes.Predict, RankSlotsAsync));
        routes.MapPost("/personalizer/{version}/multislot/events/{event}/reward", gateway.For(Scopes.Feedback, RewardSlotsAsync));
        routes.MapPost("/personalizer/{version}/multislot/events/{event}/activate", gateway.For(Scopes.Feedback, ActivateAsync));
        routes.MapGet("/personalizer/{version}/configurations/service", gateway.For(Scopes.Predict, ReadConfigurationAsync));
        routes.MapPut("/personalizer/{version}/configurations/service", gateway.For(Scopes.Admin, WriteConfigurationAsync));
    }

    /// <summary>Whether errors at a path are told as Azure told them.</summary>
    public static bool IsAt(PathString path) => path.StartsWithSegments("/personalizer");

    /// <summary><c>{"error":{"code","message"}}</c>, with the codes that its clients know where they know one.</summary>
    public static void WriteError(Utf8JsonWriter json, int status, string message)
    {
        json.WriteStartObject();
        json.WriteStartObject("error"u8);
        json.WriteString("code"u8, status switch
        {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "ResourceNotFound",
            405 => "MethodNotAllowed",
            413 => "PayloadTooLarge",
            501 => "NotImplemented",
            503 => "ServiceUnavailable",
            _ => "InternalServerError",
        });
        json.WriteString("message"u8, message);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private async Task RankAsync(HttpContext http, Caller caller)
    {
        var app = await FindAsync(http, caller);
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        var decision = await ranker.RankAsync(app, RankRequestReader.ReadPersonalizer(exchange.Body, hasSlots: false), http.RequestAborted);
        var json = exchange.Json;
        json.WriteStartObject();
        RankEndpoints.WriteRanking(json, decision.Slots[0].Ranking);
        json.WriteString("eventId"u8, decision.EventId);
        json.WriteString("rewardActionId"u8, decision.Slots[0].Chosen);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 201, Gateway.Json, http.RequestAborted);
    }

    private async Task RankSlotsAsync(HttpContext http, Caller caller)
    {
        var app = await FindAsync(http, caller);
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        var decision = await ranker.RankAsync(app, RankRequestReader.ReadPersonalizer(exchange.Body, hasSlots: true), http.RequestAborted);
        var json = exchange.Json;
        json.WriteStartObject();
        json.WriteStartArray("slots"u8);
        foreach (var slot in decision.Slots)
        {
            json.WriteStartObject();
            json.WriteString("id"u8, slot.Slot);
            json.WriteString("rewardActionId"u8, slot.Chosen);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteString("eventId"u8, decision.EventId);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 201, Gateway.Json, http.RequestAborted);
    }

    private Task RewardAsync(HttpContext http, Caller caller) => RewardAsync(http, caller, body => [new SlotReward("", RankRequestReader.ReadReward(body))]);

    private Task RewardSlotsAsync(HttpContext http, Caller caller) => RewardAsync(http, caller, RankRequestReader.ReadSlotRewards);

    private async Task RewardAsync(HttpContext http, Caller caller, RewardReader read)
    {
        var app = await FindAsync(http, caller);
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        await ranker.RewardAsync(app, EventOf(http), read(exchange.Body), null, http.RequestAborted);
        http.Response.StatusCode = 204;
    }

    private async Task ActivateAsync(HttpContext http, Caller caller)
    {
        await ranker.ActivateAsync(await FindAsync(http, caller), EventOf(http), http.RequestAborted);
        http.Response.StatusCode = 204;
    }

    private async Task ReadConfigurationAsync(HttpContext http, Caller caller)
    {
        var app = await FindAsync(http, caller);
        using var exchange = Exchange.Rent();
        ServiceConfiguration.Write(exchange.Json, app.Document.Rank!);
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private async Task WriteConfigurationAsync(HttpContext http, Caller caller)
    {
        var app = await FindAsync(http, caller);
        if (publisher is null) throw new RequestException(Refusal.Unsupported, "a function publishes nothing: change the document and publish it with 'skiff app push FILE'");
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        var document = app.Document with { Rank = ServiceConfiguration.Read(exchange.Body, app.Document.Rank!) };
        try
        {
            await publisher.PushAppAsync(caller.Tenant, document.ToJson(), http.RequestAborted);
        }
        catch (PublishException e)
        {
            throw RequestException.Invalid(e.Message);
        }
        await apps.LookAgainAsync(caller.Tenant, AppName);
        ServiceConfiguration.Write(exchange.Json, document.Rank);
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private async ValueTask<App> FindAsync(HttpContext http, Caller caller)
    {
        var version = (string)http.Request.RouteValues["version"]!;
        if (!Versions.Contains(version)) throw RequestException.NotFound($"no version '{version}' of the API: it takes {string.Join(", ", Versions)}");
        var app = await apps.GetAsync(caller.Tenant, AppName, http.RequestAborted);
        return app.Document.Rank is not null ? app : throw RequestException.Unavailable($"app '{AppName}' doesn't rank: its document has no 'rank'");
    }

    /// <summary>The router leaves an escaped slash as it is, as a path's parts need it.</summary>
    private static string EventOf(HttpContext http) => RawPath.Part(http, 2);

    private delegate IReadOnlyList<SlotReward> RewardReader(ReadOnlySpan<byte> body);
}
