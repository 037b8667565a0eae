using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Logging;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Serving;

/// <summary>
/// What stands before every handler: the caller is found by key, and whatever goes wrong becomes one JSON error, <c>{"error":"…"}</c>: the caller's mistakes with their reason,
/// our own without a trace of how we are built.
/// </summary>
/// <param name="trustsCallers">Whether something before it says who is one of us (<see cref="TrustedCaller"/>).</param>
public sealed class Gateway(ApiKeys keys, ILogger<Gateway> log, bool trustsCallers = false)
{
    public const string Json = "application/json";

    /// <summary>A handler for callers with a scope.</summary>
    public RequestDelegate For(Scopes scope, Func<HttpContext, Caller, Task> handler) => async http =>
    {
        try
        {
            await handler(http, Find(http, scope));
        }
        catch (Exception e)
        {
            await FailAsync(http, e);
        }
    };

    /// <summary>The same for a handler that is called so often that its state is pooled.</summary>
    public RequestDelegate For(Scopes scope, Func<HttpContext, Caller, ValueTask> handler) => async http =>
    {
        try
        {
            await handler(http, Find(http, scope));
        }
        catch (Exception e)
        {
            await FailAsync(http, e);
        }
    };

    private Caller Find(HttpContext http, Scopes scope)
    {
        if (trustsCallers && http.Features.Get<TrustedCaller>() is { } trusted && trusted.Caller.Scopes.HasFlag(scope)) return trusted.Caller;
        RefuseForeignPages(http.Request);
        return keys.Authorize(KeyOf(http.Request), scope);
    }

    /// <summary>A handler for everybody, key or not.</summary>
    public RequestDelegate Open(Func<HttpContext, Task> handler) => async http =>
    {
        try
        {
            await handler(http);
        }
        catch (Exception e)
        {
            await FailAsync(http, e);
        }
    };

    /// <summary>Answers requests that no route takes; in the way of the others it leaves nothing.</summary>
    public static RequestDelegate OrNoRoute(RequestDelegate next) => http => http.GetEndpoint() is RouteEndpoint ? next(http) : NoRouteAsync(http, next);

    /// <summary>Answers that nothing stands at this address, or not under this method, which is what the router then says by the status alone.</summary>
    private static async Task NoRouteAsync(HttpContext http, RequestDelegate next)
    {
        await next(http);
        await NoRouteAsync(http);
    }

    private static Task NoRouteAsync(HttpContext http)
    {
        var request = http.Request;
        return http.Response.StatusCode == 405
            ? AnswerErrorAsync(http, 405, $"{request.Method} is not what {request.Path} takes; it takes {http.Response.Headers.Allow}")
            : AnswerErrorAsync(http, 404, $"nothing at {request.Method} {request.Path}; GET /openapi/v1.json lists what there is");
    }

    /// <summary>
    /// Without keys only this machine can reach us, and with it every web page that its browser shows: one that calls us from elsewhere says so in <c>Origin</c>, and one whose
    /// name was pointed at this machine (DNS rebinding) in <c>Host</c>.
    /// </summary>
    private void RefuseForeignPages(HttpRequest request)
    {
        if (!keys.IsEmpty) return;
        var origin = request.Headers.Origin;
        var isForeign = origin.Count > 0 && !origin.Equals($"{request.Scheme}://{request.Host.Value}");
        if (isForeign || !IsLoopback(request.Host.Host))
        {
            throw new RequestException(Refusal.Forbidden, "without keys only programs and pages of this machine may call: use http://127.0.0.1 or http://localhost, or set SKIFF_API_KEYS");
        }
    }

    /// <summary>Whether a host name or address means this machine and nothing else.</summary>
    public static bool IsLoopback(string host) =>
        host.Length == 0 || host == "127.0.0.1" || host.Equals("localhost", StringComparison.OrdinalIgnoreCase)
        || (IPAddress.TryParse(host, out var address) && IPAddress.IsLoopback(address)
            // Brackets are IPv6's: Kestrel takes [127.0.0.1] for a name, and listens for a name everywhere.
            && host.StartsWith('[') == host.EndsWith(']') && (!host.StartsWith('[') || address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6));

    private static string? KeyOf(HttpRequest request)
    {
        var authorization = request.Headers.Authorization;
        if (authorization.Count == 1 && authorization[0] is { } value && value.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase)) return value["Bearer ".Length..].Trim();
        return request.Headers["Ocp-Apim-Subscription-Key"] is [{ } key] ? key : null;
    }

    private async Task FailAsync(HttpContext http, Exception e)
    {
        switch (e)
        {
            case OperationCanceledException when http.RequestAborted.IsCancellationRequested:
                // The caller has gone: nobody reads an answer.
                return;
            case Microsoft.AspNetCore.Connections.ConnectionResetException:
                return;
            case RequestException refused:
                if (refused.Refusal == Refusal.Unauthenticated) http.Response.Headers.WWWAuthenticate = "Bearer";
                if (refused.Refusal is Refusal.Unavailable or Refusal.Busy) http.Response.Headers.RetryAfter = "1";
                await AnswerErrorAsync(http, refused.Status, refused.Message);
                return;
            case InvalidNameException:
                await AnswerErrorAsync(http, 400, e.Message);
                return;
            case BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge }:
                await AnswerErrorAsync(http, 413, TooLarge(http));
                return;
            case BadHttpRequestException malformed:
                await AnswerErrorAsync(http, malformed.StatusCode, malformed.Message);
                return;
            case StoreException:
                log.LogError("{Method} {Path}, request {Id}: {Error}", http.Request.Method, http.Request.Path, IdOf(http), e.Message);
                http.Response.Headers.RetryAfter = "1";
                await AnswerErrorAsync(http, 503, "the store can't be reached or written just now; nothing was changed. The server's log says more");
                return;
            default:
                log.LogError(e, "{Method} {Path} failed, request {Id}", http.Request.Method, http.Request.Path, IdOf(http));
                await AnswerErrorAsync(http, 500, $"internal error; the server's log has it as request {IdOf(http)}");
                return;
        }
    }

    /// <summary>The trace that the caller says it belongs to, which is the same at everybody it passes; otherwise our own.</summary>
    private static string IdOf(HttpContext http) => TraceParent.Read(http.Request.Headers)?.TraceId ?? http.TraceIdentifier;

    /// <summary>Refuses for having too much to do, at the least cost: no exception, nothing looked up.</summary>
    public static Task AnswerBusyAsync(HttpContext http, string message)
    {
        http.Response.Headers.RetryAfter = "1";
        return AnswerErrorAsync(http, 503, message);
    }

    private static string TooLarge(HttpContext http)
    {
        var limit = http.Features.Get<Microsoft.AspNetCore.Http.Features.IHttpMaxRequestBodySizeFeature>()?.MaxRequestBodySize;
        return $"the body is too large: it takes at most {limit} bytes (SKIFF_MAX_BODY_BYTES)";
    }

    private static async Task AnswerErrorAsync(HttpContext http, int status, string message)
    {
        if (http.Response.HasStarted)
        {
            http.Abort();
            return;
        }
        using var exchange = Exchange.Rent();
        if (PersonalizerEndpoints.IsAt(http.Request.Path)) PersonalizerEndpoints.WriteError(exchange.Json, status, message);
        else WriteError(exchange.Json, message);
        await exchange.SendAsync(http.Response, status, Json, http.RequestAborted);
    }

    private static void WriteError(Utf8JsonWriter json, string message)
    {
        json.WriteStartObject();
        json.WriteString("error"u8, message);
        json.WriteEndObject();
    }
}
