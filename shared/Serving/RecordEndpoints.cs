using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Personalization;
using Skiff.Ranking;

namespace Skiff.Serving;

/// <summary>What is kept, for those who answer for it: a user's records, to be shown and erased, and the quarantine. Scope: admin.</summary>
public sealed class RecordEndpoints(Gateway gateway, AppHost apps, IStateStore state, IFeedbackQueue queue, FeedbackLog log, FeedbackLearner learner, PendingFeedback pending, HeadCache heads, TimeProvider time)
{
    private const int MostListed = 1000;

    /// <summary>How long an export waits for feedback that this process has accepted and not yet learnt.</summary>
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(2);

    public void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/apps/{app}/users/{user}", gateway.For(Scopes.Admin, ExportAsync));
        routes.MapDelete("/apps/{app}/users/{user}", gateway.For(Scopes.Admin, EraseAsync));
        routes.MapGet("/apps/{app}/quarantine", gateway.For(Scopes.Admin, ListAsync));
        routes.MapPost("/apps/{app}/quarantine/{id}/release", gateway.For(Scopes.Admin, ReleaseAsync));
    }

    private async Task ExportAsync(HttpContext http, Caller caller)
    {
        var user = UserOf(http, caller);
        using var exchange = Exchange.Rent();
        var json = exchange.Json;
        await pending.WaitAsync(user, LongestWait, time, http.RequestAborted);
        var (head, _) = await state.ReadUserAsync(user, http.RequestAborted);
        var feedback = await ReadFeedbackAsync(user, http.RequestAborted);
        var waiting = new List<WaitingEvent>();
        if (state is IEventStore events)
        {
            await foreach (var one in events.ReadEventsAsync(user, http.RequestAborted)) waiting.Add(one);
        }
        if (head is null && feedback.Count == 0 && waiting.Count == 0) throw RequestException.NotFound("nothing is kept of this user");
        json.WriteStartObject();
        json.WriteString("user"u8, user.User);
        if (head is not null)
        {
            json.WritePropertyName("head"u8);
            FeedbackJsonWriter.Write(json, head);
        }
        json.WriteStartArray("feedback"u8);
        foreach (var kept in feedback) FeedbackJsonWriter.Write(json, kept, whole: true);
        json.WriteEndArray();
        json.WriteStartArray("waiting"u8);
        foreach (var one in waiting) FeedbackJsonWriter.Write(json, one);
        json.WriteEndArray();
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    /// <summary>What is in the log, and what the store has that is not there yet or has changed since: each once, in order.</summary>
    private async Task<IReadOnlyList<KeptFeedback>> ReadFeedbackAsync(UserKey user, CancellationToken cancellation)
    {
        var latest = new Dictionary<(string, string), KeptFeedback>();
        foreach (var kept in await log.ReadAsync(user, cancellation)) Add(kept);
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(user.Tenant, user.App) { User = user.User }, cancellation)) Add(kept);
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(user.Tenant, UserKey.OfShard("", user.App, 0).App) { Naming = user.User }, cancellation)) Add(kept);
        return [.. latest.Values.OrderBy(kept => kept.Committed).ThenBy(kept => kept.Order)];

        void Add(KeptFeedback kept)
        {
            var id = (kept.Accepted.Message.Owner.App, kept.Accepted.Message.FeedbackId);
            if (!latest.TryGetValue(id, out var other) || other.Order <= kept.Order) latest[id] = kept;
        }
    }

    private async Task EraseAsync(HttpContext http, Caller caller)
    {
        // Whole milliseconds, and none of what was accepted so far is after them.
        var now = DateTimeOffset.FromUnixTimeMilliseconds(time.GetUtcNow().ToUnixTimeMilliseconds() + 1);
        var user = UserOf(http, caller);
        try
        {
            await state.EraseAsync(user, now, http.RequestAborted);
            await queue.EraseAsync(user, now, http.RequestAborted);
        }
        finally
        {
            heads.Changed(user);
        }
        http.Response.StatusCode = StatusCodes.Status204NoContent;
    }

    private async Task ListAsync(HttpContext http, Caller caller)
    {
        var app = await apps.GetAsync(caller.Tenant, (string)http.Request.RouteValues["app"]!, http.RequestAborted);
        using var exchange = Exchange.Rent();
        var json = exchange.Json;
        var count = 0;
        json.WriteStartObject();
        json.WriteStartArray("quarantine"u8);
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(app.Tenant, app.Name) { OnlyQuarantined = true }, http.RequestAborted))
        {
            if (++count <= MostListed) FeedbackJsonWriter.Write(json, kept, whole: false);
        }
        json.WriteEndArray();
        json.WriteNumber("count"u8, count);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private async Task ReleaseAsync(HttpContext http, Caller caller)
    {
        var app = await apps.GetAsync(caller.Tenant, (string)http.Request.RouteValues["app"]!, http.RequestAborted);
        var id = RawPath.Part(http, 2);
        var released = await learner.ReleaseAsync(app.Tenant, app.Name, accepted => accepted.Message.FeedbackId == id, http.RequestAborted);
        if (released is not [var one]) throw RequestException.NotFound("no such feedback in quarantine");
        using var exchange = Exchange.Rent();
        var json = exchange.Json;
        json.WriteStartObject();
        json.WriteString("feedback_id"u8, id);
        json.WriteBoolean("learnt"u8, one.Learnt);
        if (one.Note is { } note) json.WriteString("reason"u8, note.StartsWith(AcceptedFeedback.Quarantine, StringComparison.Ordinal) ? note[AcceptedFeedback.Quarantine.Length..] : note);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    /// <summary>Without asking whether there is such an app: records outlive it.</summary>
    private static UserKey UserOf(HttpContext http, Caller caller)
    {
        var app = Store.Names.Check("app", (string)http.Request.RouteValues["app"]!);
        var user = RawPath.Part(http, 1);
        if (user.Length > AppRequestReader.LongestUser) throw RequestException.Invalid($"a user's name has at most {AppRequestReader.LongestUser} characters");
        return new UserKey(caller.Tenant, app, user);
    }
}
