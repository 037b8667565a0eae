using System.Collections.Concurrent;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Skiff.Support;

/// <summary>What happens to a request between us and a service.</summary>
public enum Fault
{
    None,

    /// <summary>500; the service never sees it.</summary>
    ServerError,

    /// <summary>503, or 400 with a throttling error where the protocol is JSON; the service never sees it.</summary>
    SlowDown,

    /// <summary>409: S3's answer to some of several writers at once.</summary>
    Conflict,

    /// <summary>412: a condition does not hold; the service never sees it.</summary>
    Precondition,

    /// <summary>403: the client's clock is an hour behind; the service never sees it.</summary>
    Skew,

    /// <summary>403: the client may not do that; the service never sees it.</summary>
    Denied,

    /// <summary>The connection is reset; the service never sees it.</summary>
    Reset,

    /// <summary>The service does it; the connection is reset before the answer.</summary>
    LostAnswer,

    /// <summary>The service does it; the connection ends in the middle of the answer's body, or before the answer if it has none.</summary>
    Truncate,

    /// <summary>The service does it; the answer stops in the middle of its body, or does not come if it has none, and the connection stays.</summary>
    Stall,

    /// <summary>SQS only: the last entry of a batch is refused, for no fault of the sender; the service sees the others, of which there must be some.</summary>
    Partial,
}

/// <summary>An HTTP proxy on loopback that does to each request what the test wants.</summary>
public sealed class FaultProxy : IAsyncDisposable
{
    private static readonly HttpClient Client = new(new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false });
    private static readonly TimeSpan Skew = TimeSpan.FromHours(1);

    private readonly WebApplication _app;
    private readonly Uri _target;
    private readonly SemaphoreSlim? _lane;
    private readonly ConcurrentDictionary<Fault, int> _counts = new();

    private FaultProxy(WebApplication app, Uri target, bool oneAtATime)
    {
        if (oneAtATime) _lane = new SemaphoreSlim(1);
        _app = app;
        _target = target;
    }

    public Uri Address => new(_app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    /// <summary>Decides about each request; called by several at once.</summary>
    public Func<HttpRequest, Fault> Plan { get; set; } = _ => Fault.None;

    /// <summary>How many requests met a fault.</summary>
    public int Count(Fault fault) => _counts.GetValueOrDefault(fault);

    /// <param name="oneAtATime">The service sees one request at a time.</param>
    public static async Task<FaultProxy> StartAsync(Uri target, bool oneAtATime = false)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0").ConfigureKestrel(kestrel => kestrel.Limits.MaxRequestBodySize = null);
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(host => host.ShutdownTimeout = TimeSpan.Zero);
        var app = builder.Build();
        var proxy = new FaultProxy(app, target, oneAtATime);
        app.Run(proxy.HandleAsync);
        await app.StartAsync();
        return proxy;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task HandleAsync(HttpContext context)
    {
        var fault = Plan(context.Request);
        _counts.AddOrUpdate(fault, 1, (_, count) => count + 1);
        switch (fault)
        {
            case Fault.ServerError:
                await RefuseAsync(context, HttpStatusCode.InternalServerError, "InternalError");
                return;
            case Fault.SlowDown when IsJson(context):
                await RefuseAsync(context, HttpStatusCode.BadRequest, "ThrottlingException");
                return;
            case Fault.SlowDown:
                await RefuseAsync(context, HttpStatusCode.ServiceUnavailable, "SlowDown");
                return;
            case Fault.Conflict:
                await RefuseAsync(context, HttpStatusCode.Conflict, "ConditionalRequestConflict");
                return;
            case Fault.Precondition:
                await RefuseAsync(context, HttpStatusCode.PreconditionFailed, "PreconditionFailed");
                return;
            case Fault.Skew:
                await RefuseAsync(context, HttpStatusCode.Forbidden, "RequestTimeTooSkewed");
                return;
            case Fault.Denied:
                await RefuseAsync(context, HttpStatusCode.Forbidden, "AccessDenied");
                return;
            case Fault.Reset:
                context.Abort();
                return;
            default:
                await ForwardAsync(context, fault);
                return;
        }
    }

    private async Task ForwardAsync(HttpContext context, Fault fault)
    {
        var target = context.Features.Get<IHttpRequestFeature>()!.RawTarget;
        using var request = new HttpRequestMessage(new HttpMethod(context.Request.Method), new Uri(_target, target));
        var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body);
        body.Position = 0;
        string? refused = null;
        if (fault == Fault.Partial) body = WithoutLastEntry(body, out refused);
        request.Content = new StreamContent(body);
        foreach (var (name, values) in context.Request.Headers)
        {
            if (name is "Transfer-Encoding" or "Expect" or "Connection" || (refused is not null && name == "Content-Length")) continue;
            if (!request.Headers.TryAddWithoutValidation(name, values.AsEnumerable())) request.Content.Headers.TryAddWithoutValidation(name, values.AsEnumerable());
        }
        var (response, content) = await SendAsync(request);
        using var _ = response;
        if (refused is not null)
        {
            var answer = JsonNode.Parse(content)!;
            answer["Failed"] = new JsonArray(new JsonObject { ["Id"] = refused, ["Code"] = "InternalError", ["Message"] = "injected", ["SenderFault"] = false });
            content = Encoding.UTF8.GetBytes(answer.ToJsonString());
            response.Content.Headers.ContentLength = content.Length;
        }
        if (fault == Fault.LostAnswer || (fault == Fault.Truncate && content.Length == 0))
        {
            context.Abort();
            return;
        }
        context.Response.StatusCode = (int)response.StatusCode;
        foreach (var (name, values) in response.Headers.Concat(response.Content.Headers))
        {
            if (name is not ("Transfer-Encoding" or "Connection")) context.Response.Headers[name] = values.ToArray();
        }
        if (fault is Fault.Truncate or Fault.Stall)
        {
            if (content.Length > 0) await context.Response.Body.WriteAsync(content.AsMemory(0, content.Length / 2));
            if (content.Length > 0) await context.Response.Body.FlushAsync();
            if (fault == Fault.Stall) await Task.Delay(Timeout.Infinite, context.RequestAborted).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            context.Abort();
            return;
        }
        if (content.Length > 0) await context.Response.Body.WriteAsync(content);
    }

    private static MemoryStream WithoutLastEntry(MemoryStream body, out string refused)
    {
        var batch = JsonNode.Parse(body)!;
        var entries = batch["Entries"]!.AsArray();
        refused = (string)entries[^1]!["Id"]!;
        entries.RemoveAt(entries.Count - 1);
        return new MemoryStream(Encoding.UTF8.GetBytes(batch.ToJsonString()));
    }

    private async Task<(HttpResponseMessage Response, byte[] Content)> SendAsync(HttpRequestMessage request)
    {
        if (_lane is not null) await _lane.WaitAsync();
        try
        {
            var response = await Client.SendAsync(request);
            return (response, await response.Content.ReadAsByteArrayAsync());
        }
        finally
        {
            _lane?.Release();
        }
    }

    private static bool IsJson(HttpContext context) => context.Request.Headers.ContainsKey("X-Amz-Target");

    private static async Task RefuseAsync(HttpContext context, HttpStatusCode status, string code)
    {
        // Clients send their body first and then look at the answer.
        await context.Request.Body.CopyToAsync(Stream.Null);
        context.Response.StatusCode = (int)status;
        if (code == "RequestTimeTooSkewed") context.Response.Headers.Date = (DateTimeOffset.UtcNow + Skew).ToString("r");
        if (IsJson(context)) context.Response.Headers["x-amzn-errortype"] = code;
        await context.Response.WriteAsync(IsJson(context) ? $$"""{"__type":"{{code}}","message":"injected"}""" : $"<Error><Code>{code}</Code><Message>injected</Message></Error>");
    }
}
