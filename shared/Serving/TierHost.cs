using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Serving;

/// <summary>What a replica of the heavy tier stands on.</summary>
public sealed record TierParts
{
    public required IObjectStore Objects { get; init; }
    public required ApiKeys Keys { get; init; }

    /// <summary>What callers of ours sign with; null where only we can reach it, and who reaches it is trusted.</summary>
    public CallerSignature? Signature { get; init; }

    public ModelHostOptions Models { get; init; } = new();
    public TimeProvider Time { get; init; } = TimeProvider.System;
    public required ILoggerFactory Logging { get; init; }
}

/// <summary>
/// A replica of the heavy tier: the engine's models behind the Open Inference Protocol, without apps and state. It says with each answer how it is (<see cref="ReplicaReport"/>), is ready when its models are loaded and warm, and
/// leaves in order: first it says so, then it answers what has begun.
/// </summary>
public sealed class TierHost
{
    private const int Held = 1 << 16;

    private readonly Gateway _gateway;
    private readonly OipEndpoints _oip;
    private readonly Metrics _metrics;
    private readonly CallerSignature? _signature;
    private readonly bool _hasKeys;
    private readonly TimeProvider _time;
    private readonly TimeSpan _aliasInterval;
    private readonly ILogger _log;
    private int _inFlight;
    private volatile bool _isReady;
    private volatile bool _isLeaving;

    public TierHost(TierParts parts)
    {
        _time = parts.Time;
        _signature = parts.Signature;
        _hasKeys = !parts.Keys.IsEmpty;
        _aliasInterval = parts.Models.AliasInterval;
        _log = parts.Logging.CreateLogger<TierHost>();
        _gateway = new Gateway(parts.Keys, parts.Logging.CreateLogger<Gateway>(), trustsCallers: true);
        var store = new ModelStore(parts.Objects, _time);
        Models = new ModelHost(store, parts.Models, _time, parts.Logging.CreateLogger<ModelHost>());
        _oip = new OipEndpoints(_gateway, Models, hasRepositoryControl: false, _time, parts.Models.Provider);
        var apps = new AppHost(store, Models, _aliasInterval, _time, parts.Logging.CreateLogger<AppHost>());
        _metrics = new Metrics(Models, apps, new FeedbackStatistics(), new CacheStatistics(), new PredictionCache(0), null, _time);
    }

    public ModelHost Models { get; }

    /// <summary>Requests that have begun and are not answered.</summary>
    public int InFlight => Volatile.Read(ref _inFlight);

    public void Map(WebApplication app)
    {
        app.Use(next => http => HandleAsync(http, next));
        app.Use(Gateway.OrNoRoute);
        _oip.Map(app);
        app.MapGet("/load", _gateway.For(Scopes.Predict, (http, _) => WriteLoadAsync(http)));
        app.MapGet("/healthz", _gateway.Open(http => http.Response.WriteAsync("ok\n", http.RequestAborted)));
        app.MapGet("/metrics", _gateway.For(Scopes.Predict, (http, caller) =>
        {
            http.Response.ContentType = Metrics.ContentType;
            return http.Response.WriteAsync(_metrics.Write(caller.Tenant), http.RequestAborted);
        }));
    }

    /// <summary>Loads models and warms them; then it is ready, also where one could not be loaded, which is logged: the others need not wait for it.</summary>
    public async Task PreloadAsync(IEnumerable<(string Tenant, string Model)> models)
    {
        await Task.WhenAll(models.Select(async one =>
        {
            try
            {
                (await Models.AcquireAsync(one.Tenant, one.Model, null, CancellationToken.None)).Dispose();
            }
            catch (Exception e) when (e is RequestException or StoreException)
            {
                _log.LogError("can't load model {Model} of tenant {Tenant} ahead: {Error}", one.Model, one.Tenant, e.Message);
            }
        }));
        _isReady = true;
    }

    /// <summary>How it is, for others who keep that; null while it takes no requests.</summary>
    public (double Load, int Queue, IEnumerable<(string Tenant, string Model)> Warm)? Describe()
    {
        if (!_isReady || _isLeaving) return null;
        var (load, queue) = Load();
        return (load, queue, Warm());
    }

    /// <summary>Says to all who ask that it is leaving; requests are answered all the same.</summary>
    public void Leave() => _isLeaving = true;

    /// <summary>Notices moved aliases without waiting for a request, until cancelled.</summary>
    public async Task WatchAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(_aliasInterval, _time);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellation))
            {
                try
                {
                    await Models.RefreshDueAsync();
                }
                catch (Exception e)
                {
                    // The next look may go better; one that fails must not be the last.
                    _log.LogError(e, "looking for new versions failed");
                }
            }
        }
        catch (OperationCanceledException)
        {
        }
    }

    private async Task HandleAsync(HttpContext http, RequestDelegate next)
    {
        Interlocked.Increment(ref _inFlight);
        try
        {
            await _gateway.Open(async _ =>
            {
                await TrustAsync(http);
                if (http.Features.Get<TrustedCaller>() is not null)
                {
                    http.Response.OnStarting(() =>
                    {
                        Report(http.Response.Headers);
                        return Task.CompletedTask;
                    });
                }
                if (http.Request.Path.Equals(HeavyTier.ReadyPath) && (_isLeaving || !_isReady)) throw RequestException.Unavailable(_isLeaving ? "this replica is leaving" : "models are being loaded");
                await next(http);
            })(http);
        }
        finally
        {
            Interlocked.Decrement(ref _inFlight);
        }
    }

    /// <summary>Finds out whether one of us asks. Who shows nothing goes on, to where a key is asked for.</summary>
    private async ValueTask TrustAsync(HttpContext http)
    {
        var request = http.Request;
        string? signature = request.Headers[CallerSignature.Header];
        if (_signature is not null)
        {
            if (signature is null)
            {
                if (!_hasKeys && !IsOpen(request.Path)) throw new RequestException(Refusal.Unauthenticated, $"this replica takes requests that are signed with its SKIFF_SECRET ({CallerSignature.Header}), or with a key where it has SKIFF_API_KEYS");
                return;
            }
            var body = await ReadAsync(request, http.RequestAborted);
            var target = request.Path.ToUriComponent() + request.QueryString.ToUriComponent();
            if (!_signature.IsValid(signature, request.Method, request.Host.Value ?? "", target, request.Headers[ReplicaClient.DeadlineHeader], body)) throw new RequestException(Refusal.Unauthenticated, "the request's signature is not valid here and now");
            request.Body = new MemoryStream(body, writable: false);
        }
        else if (_hasKeys) return;
        var tenant = request.Query.TryGetValue(HeavyTier.TenantParameter, out var named) ? Names.Check("tenant", named.ToString()) : ApiKeys.DefaultTenant;
        http.Features.Set(new TrustedCaller(new Caller(tenant, Scopes.Predict)));
    }

    private static bool IsOpen(PathString path) => path.Equals("/v2") || path.Equals("/healthz") || path.StartsWithSegments("/v2/health");

    private static async ValueTask<byte[]> ReadAsync(HttpRequest request, CancellationToken cancellation)
    {
        if (request.ContentLength is 0 || (request.ContentLength is null && !request.Headers.TransferEncoding.Any())) return [];
        using var body = new MemoryStream((int)Math.Min(request.ContentLength ?? Held, 16 * Held));
        await request.Body.CopyToAsync(body, cancellation);
        return body.ToArray();
    }

    private void Report(IHeaderDictionary headers)
    {
        var (load, queue) = Load();
        ReplicaReport.Write(headers, load, queue, Models.Batchers().Select(loaded => loaded.Batcher.Workers).DefaultIfEmpty(1).Max(), Warm());
    }

    /// <summary>Busy workers ÷ workers of whichever model has most to do, and the rows that wait beyond what its next run takes. Who is leaving is full.</summary>
    public (double Load, int Queue) Load()
    {
        var (load, queue) = _isLeaving ? (1.0, 1) : (0.0, 0);
        foreach (var (_, _, batcher) in Models.Batchers())
        {
            load = Math.Max(load, (double)batcher.Running / Math.Max(1, batcher.Workers));
            queue += Math.Max(0, batcher.QueuedRows - batcher.MostRows);
        }
        return (load, queue);
    }

    private IEnumerable<(string Tenant, string Model)> Warm() => Models.Batchers().Select(loaded => (loaded.Tenant, loaded.Manifest.Name)).Distinct().Order();

    private async Task WriteLoadAsync(HttpContext http)
    {
        var (load, queue) = Load();
        using var exchange = Exchange.Rent();
        var json = exchange.Json;
        json.WriteStartObject();
        json.WriteString("state"u8, _isLeaving ? "leaving" : _isReady ? "ready" : "loading");
        json.WriteNumber("load"u8, Math.Round(load, 3));
        json.WriteNumber("queue"u8, queue);
        json.WriteNumber("in_flight"u8, InFlight);
        json.WriteStartArray("warm"u8);
        foreach (var (tenant, model) in Warm()) json.WriteStringValue($"{tenant}/{model}");
        json.WriteEndArray();
        json.WriteString("version"u8, Product.Version);
        json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }
}

/// <summary>One of ours, known by signature or by the network: what a request carries in the place of a key.</summary>
internal sealed record TrustedCaller(Caller Caller);
