using Skiff.Apps;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Routing;
using Skiff.Serving;

namespace Skiff.Serve.Replicas;

/// <summary>
/// N replicas on this machine behind a router in this process. They run models; whatever is written (feedback) or shown of all (apps, the dashboard) is done here, once. A user's predictions come to the same replica as long as
/// that has its share; those of nobody go by what is asked, so that equal questions meet in one cache.
/// </summary>
internal sealed class ReplicaGroup : IAsyncDisposable
{
    private readonly ReplicaProcess[] _processes;
    private readonly Router _router;
    private readonly HttpMessageInvoker _http;
    private readonly Forwarder _forwarder;
    private readonly CancellationTokenSource _stopping = new();
    private Task _probing = Task.CompletedTask;

    private ReplicaGroup(int count, string data, ILoggerFactory logging)
    {
        var log = logging.CreateLogger<ReplicaGroup>();
        _processes = [.. Enumerable.Range(1, count).Select(number => new ReplicaProcess(number, data, log))];
        // One in N may end with all that it has begun: that is asked of the others at once. They are on this machine, so a second attempt costs nobody's network.
        _router = new Router(new RouterOptions { RetryReserve = 1000, AsksLateOnes = true, FirstHedge = TimeSpan.FromSeconds(1) }, TimeProvider.System);
        // This machine takes a connection at once or refuses it: what lasts is that it's busy, which says nothing of the replica.
        _http = new HttpMessageInvoker(ReplicaClient.Handler(connects: TimeSpan.FromSeconds(30)));
        _forwarder = new Forwarder(new ReplicaClient(_router, _http, signature: null, TimeProvider.System));
    }

    /// <summary>Starts all of them, and waits until they listen.</summary>
    /// <exception cref="Store.StoreException">One ended before.</exception>
    public static async Task<ReplicaGroup> StartAsync(int count, string data, ILoggerFactory logging, CancellationToken cancellation)
    {
        var group = new ReplicaGroup(count, data, logging);
        try
        {
            var addresses = await Task.WhenAll(group._processes.Select(process => process.StartAsync(cancellation)));
            group._router.Replace(addresses);
        }
        catch
        {
            await group.DisposeAsync();
            throw;
        }
        for (var i = 0; i < count; i++) group.Follow(group._processes[i]);
        group._probing = new Prober(group._router, group._http, "/v2/health/ready", signature: null, TimeProvider.System).RunAsync(group._stopping.Token);
        return group;
    }

    /// <summary>Where they listen.</summary>
    public IReadOnlyList<Uri> Addresses => [.. _router.Replicas.Replicas.ToArray().Select(replica => replica.Address)];

    /// <summary>Takes what needs models before the routes of this process see it.</summary>
    public void Use(WebApplication web, Gateway gateway, Engine engine)
    {
        var predict = gateway.For(Scopes.Predict, (http, caller) => ForwardAsync(http, caller, engine));
        var any = gateway.Open(http => _forwarder.ForwardAsync(http, _ => ValueTask.FromResult(Anybody()), 0, HttpMethods.IsGet(http.Request.Method) || HttpMethods.IsHead(http.Request.Method), ReplicaClient.TimeLeft(http.Request)));
        var metrics = gateway.For(Scopes.Predict, (http, caller) => WriteMetricsAsync(http, engine.WriteMetrics(caller.Tenant)));
        web.Use(next => http => http.Request switch
        {
            { Method: "GET", Path.Value: "/metrics" } => metrics(http),
            { Method: "POST", Path: var path } when IsBetween(path, "/apps/", "/predict") || IsBetween(path, "/v2/models/", "/infer") => predict(http),
            // Who is loaded and what it has done is a replica's to say; which one answers is chance.
            { Path: var path } when path.StartsWithSegments("/v2/models") || path.StartsWithSegments("/v2/repository") => any(http),
            _ => next(http),
        });
    }

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _probing;
        await Task.WhenAll(_processes.Select(process => process.StopAsync()));
        _http.Dispose();
        _stopping.Dispose();
    }

    private async Task ForwardAsync(HttpContext http, Caller caller, Engine engine)
    {
        var path = http.Request.Path.Value!.Split('/');
        var isApp = path[1].Equals("apps", StringComparison.OrdinalIgnoreCase); // as routes are matched
        var model = isApp ? 0 : RouteKey.OfModel(caller.Tenant, path[3]);
        // Predictions and inferences change nothing: asked twice they do no harm. But where silence is feedback, each decision is one that somebody may be silent on.
        var isSafe = !isApp || await IsSafeAsync(engine.Apps, caller.Tenant, path[2], http.RequestAborted);
        await _forwarder.ForwardAsync(http, async body =>
        {
            if (body.IsEmpty) return Anybody();
            if (!isApp || RequestPeek.User(body.Span) is not { } user) return RouteKey.OfContent(body.Span);
            // A replica does not know of feedback that is being learnt here.
            var key = new UserKey(caller.Tenant, path[2], user);
            await engine.ReadYourWritesAsync(key, http.RequestAborted);
            // Nor that it was: the head that it keeps may be the one before.
            if (engine.HasLearnt(key)) http.Request.Headers.CacheControl = "no-cache";
            return RouteKey.OfUser(caller.Tenant, path[2], user);
        }, model, isSafe, ReplicaClient.TimeLeft(http.Request));
    }

    /// <summary>Asks for the app, so that this process, which learns from silence, knows of it too. What can't be had is a replica's to refuse.</summary>
    private static async ValueTask<bool> IsSafeAsync(AppHost apps, string tenant, string app, CancellationToken cancellation)
    {
        try
        {
            return (await apps.GetAsync(tenant, app, cancellation)).Document.Feedback?.Implicit is null;
        }
        catch (Exception e) when (e is RequestException or Store.StoreException)
        {
            return false;
        }
    }

    /// <summary>This process's, and each replica's with its address.</summary>
    private async Task WriteMetricsAsync(HttpContext http, string own)
    {
        var replicas = _router.Replicas.Replicas.ToArray();
        var texts = await Task.WhenAll(replicas.Select(replica => ReadMetricsAsync(replica, http.Request, http.RequestAborted)));
        http.Response.ContentType = Metrics.ContentType;
        await http.Response.WriteAsync(MergedMetrics.Merge("replica", [("", own + ForwardingMetrics.Write(_router)), .. replicas.Zip(texts, (replica, text) => (replica.Address.Authority, text))]), http.RequestAborted);
    }

    private async Task<string> ReadMetricsAsync(Replica replica, HttpRequest asked, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(replica.Address, "/metrics"));
        foreach (var key in new[] { "Authorization", "Ocp-Apim-Subscription-Key" })
        {
            if (asked.Headers.TryGetValue(key, out var value)) request.Headers.TryAddWithoutValidation(key, value.ToString());
        }
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(TimeSpan.FromSeconds(1));
        try
        {
            using var response = await _http.SendAsync(request, patience.Token);
            return response.IsSuccessStatusCode ? await response.Content.ReadAsStringAsync(patience.Token) : "";
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
        {
            cancellation.ThrowIfCancellationRequested();
            return ""; // what can't be read now comes with the next scrape
        }
    }

    /// <summary>One that is started again warms up with copies of requests, from now on.</summary>
    private void Follow(ReplicaProcess process) => process.Listening += address =>
    {
        var before = _router.Replicas.Replicas.ToArray();
        if (Array.Find(before, replica => replica.Address == address) is { } known) _router.Returned(known);
        else _router.Replace([.. _processes.Select(other => other.Address).OfType<Uri>()]);
    };

    private static ulong Anybody() => (ulong)Random.Shared.NextInt64();

    private static bool IsBetween(PathString path, string start, string end) =>
        path.Value is { } value && value.StartsWith(start, StringComparison.OrdinalIgnoreCase) && value.EndsWith(end, StringComparison.OrdinalIgnoreCase) && value.Length > start.Length + end.Length;
}
