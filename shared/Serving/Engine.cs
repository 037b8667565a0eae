using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Feedback;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Serving;

/// <summary>What an engine stands on: the places where things are kept, and the settings of its parts.</summary>
public sealed record EngineParts
{
    public required IObjectStore Objects { get; init; }
    public required IStateStore State { get; init; }
    public required IFeedbackQueue Queue { get; init; }
    public required ApiKeys Keys { get; init; }

    /// <summary>What seals decisions; the first is used, all are known.</summary>
    public required IReadOnlyList<string> Secrets { get; init; }

    public ModelHostOptions Models { get; init; } = new();

    /// <summary>What answers that are kept for apps with a cache may take together; 0 for no cache.</summary>
    public long PredictionCacheBytes { get; init; } = 64 << 20;

    /// <summary>What users' heads that are kept may take together; 0 keeps none.</summary>
    public long HeadCacheBytes { get; init; } = 32 << 20;

    /// <summary>
    /// Whether this process is one of many that come and go: then callers can't load and unload models, since they can't tell the instances apart, and feedback is learnt elsewhere.
    /// </summary>
    public bool IsFunction { get; init; }

    /// <summary>Where the heavy stages of cascades run; null for here. The host's to dispose of.</summary>
    public HeavyTier? Heavy { get; init; }

    public PredictorOptions Predictor { get; init; } = new();
    public TimeProvider Time { get; init; } = TimeProvider.System;
    public required ILoggerFactory Logging { get; init; }
}

/// <summary>The engine, put together in the order in which a request meets its parts. Hosts map its routes and, where they live long, run its loops.</summary>
public sealed class Engine
{
    private readonly Gateway _gateway;
    private readonly OipEndpoints _oip;
    private readonly AppEndpoints _appEndpoints;
    private readonly RecordEndpoints _records;
    private readonly RankEndpoints _rankEndpoints;
    private readonly PersonalizerEndpoints _personalizer;
    private readonly RankModels _rankModels;
    private readonly DueWork _due;
    private readonly bool _passes;
    private readonly PageEndpoints _pages;
    private readonly Metrics _metrics;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly TimeSpan _aliasInterval;
    private readonly ApiKeys _keys;
    private readonly HeavyTier? _heavy;
    private readonly PendingFeedback _pending;
    private readonly HeadCache _heads;
    private readonly TimeSpan _readYourWritesWait;

    public Engine(EngineParts parts)
    {
        _time = parts.Time;
        _log = parts.Logging.CreateLogger<Engine>();
        _aliasInterval = parts.Models.AliasInterval;
        _heavy = parts.Heavy;
        _gateway = new Gateway(parts.Keys, parts.Logging.CreateLogger<Gateway>());

        Store = new ModelStore(parts.Objects, _time);
        Models = new ModelHost(Store, parts.Models, _time, parts.Logging.CreateLogger<ModelHost>());
        Apps = new AppHost(Store, Models, _aliasInterval, _time, parts.Logging.CreateLogger<AppHost>(), parts.Heavy);

        var log = new FeedbackLog(parts.Objects, parts.State, _time);
        _due = new DueWork(Apps, parts.State, parts.Queue, log, _time, parts.Logging.CreateLogger<DueWork>());
        _keys = parts.Keys;

        var pending = _pending = new PendingFeedback();
        _readYourWritesWait = parts.Predictor.ReadYourWritesWait;
        var feedback = new FeedbackStatistics();
        var seal = new DecisionSeal(parts.Secrets, _time);
        var cacheStatistics = new CacheStatistics();
        var predictions = new PredictionCache(parts.PredictionCacheBytes);
        var cascades = new CascadeCache(predictions, Models, cacheStatistics, _time);
        _heads = new HeadCache(parts.State, parts.HeadCacheBytes, _time);
        var predictor = new Predictor(Models, cascades, _heads, pending, seal, parts.Predictor, _time);
        var intake = new FeedbackIntake(predictor, parts.Queue, parts.IsFunction || parts.Queue.IsShared ? null : pending, seal, feedback, _time);
        _rankModels = new RankModels(parts.State, _aliasInterval, _time);
        var ranker = new Ranker(_rankModels, parts.Queue, seal, feedback, _time);
        _passes = !parts.IsFunction;
        Learner = new FeedbackLearner(Apps, parts.State, feedback, parts.Logging.CreateLogger<FeedbackLearner>()) { RankModels = _rankModels, Heads = _heads };
        Worker = new FeedbackWorker(parts.Queue, Learner, parts.State, pending, _time, parts.Logging.CreateLogger<FeedbackWorker>());

        _oip = new OipEndpoints(_gateway, Models, hasRepositoryControl: !parts.IsFunction, _time);
        _records = new RecordEndpoints(_gateway, Apps, parts.State, parts.Queue, log, Learner, pending, _heads, _time);
        _rankEndpoints = new RankEndpoints(_gateway, Apps, ranker, _time);
        _personalizer = new PersonalizerEndpoints(_gateway, Apps, ranker, parts.IsFunction ? null : new Publisher(Store, ModelLimits.Default));
        _appEndpoints = new AppEndpoints(_gateway, Apps, predictor, intake, _rankEndpoints, _time);
        _pages = new PageEndpoints(_gateway);
        _metrics = new Metrics(Models, Apps, feedback, cacheStatistics, predictions, parts.State, _time) { Heads = _heads };
    }

    public ModelStore Store { get; }
    public ModelHost Models { get; }
    public AppHost Apps { get; }
    public FeedbackLearner Learner { get; }
    public FeedbackWorker Worker { get; }

    /// <summary>Waits, for as long as a prediction here would, until a user's feedback that was accepted here has been learnt: for predictions that are made elsewhere.</summary>
    public ValueTask ReadYourWritesAsync(UserKey user, CancellationToken cancellation) => _pending.WaitAsync(user, _readYourWritesWait, _time, cancellation);

    /// <summary>Whether somebody's head may have changed by this process so lately that a process which predicts for it could still answer with the one before.</summary>
    public bool HasLearnt(UserKey user) => _heads.HasChanged(user);

    /// <summary>What <c>/metrics</c> says to a tenant.</summary>
    public string WriteMetrics(string tenant) => _metrics.Write(tenant) + (_heavy is null ? "" : ForwardingMetrics.Write(_heavy));

    /// <summary>Every route, and the JSON errors for what has none.</summary>
    public void Map(WebApplication app)
    {
        app.Use(Gateway.OrNoRoute);
        _oip.Map(app);
        _appEndpoints.Map(app);
        _records.Map(app);
        _rankEndpoints.Map(app);
        _personalizer.Map(app);
        _pages.Map(app);
        app.MapGet("/healthz", _gateway.Open(http => http.Response.WriteAsync("ok\n", http.RequestAborted)));
        app.MapGet("/metrics", _gateway.For(Scopes.Predict, (http, caller) =>
        {
            http.Response.ContentType = Metrics.ContentType;
            return http.Response.WriteAsync(WriteMetrics(caller.Tenant), http.RequestAborted);
        }));
    }

    /// <summary>
    /// Loads apps with their models, and models, before anybody asks for them: a host that begins with this fetches them while it still starts. What can't be loaded
    /// is logged and left to the first request that wants it.
    /// </summary>
    /// <param name="names">Of apps or models; of each tenant those that it has.</param>
    public Task PreloadAsync(IEnumerable<string> tenants, IEnumerable<string> names) =>
        Task.WhenAll(from tenant in tenants from name in names select Task.Run(() => PreloadAsync(tenant, name)));

    private async Task PreloadAsync(string tenant, string name)
    {
        var found = await Task.WhenAll(TryAsync(LoadAppAsync), TryAsync(() => LoadModelAsync(name)));
        if (found is [null, _] or [_, null]) return;
        _log.LogWarning("can't load {Name} of tenant {Tenant} ahead: {Error}; {OtherError}", name, tenant, found[0], found[1]);

        async Task LoadAppAsync()
        {
            var app = await Apps.GetAsync(tenant, name, CancellationToken.None);
            await Task.WhenAll(app.Models.Select(LoadModelAsync));
        }

        async Task LoadModelAsync(string model) => (await Models.AcquireAsync(tenant, model, null, CancellationToken.None)).Dispose();

        static async Task<string?> TryAsync(Func<Task> load)
        {
            try
            {
                await load();
                return null;
            }
            catch (Exception e) when (e is RequestException or StoreException)
            {
                return e.Message;
            }
        }
    }

    /// <summary>For hosts that may be frozen between two requests: waits for what requests have begun beside their answers.</summary>
    public Task SettleAsync(CancellationToken cancellation) => Task.WhenAll(Apps.SettleAsync(cancellation), _rankModels.SettleAsync(cancellation));

    private async Task RefreshAsync()
    {
        try
        {
            await Models.RefreshDueAsync();
            await Apps.RefreshDueAsync();
            if (_passes) await _due.PassAsync(Apps.All.Where(DueWork.Waits), CancellationToken.None);
        }
        catch (Exception e)
        {
            // The next look may go better; one that fails must not be the last.
            _log.LogError(e, "looking for new versions failed");
        }
    }

    /// <summary>For long-lived hosts that learn: what is due of apps that nobody has asked for here, and what was accepted on days that are over into the log, until cancelled.</summary>
    public async Task KeepLogAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromHours(1), _time);
        try
        {
            do
            {
                await _due.PassAllAsync(_keys.Tenants, cancellation);
                await _due.CompactAllAsync(_keys.Tenants, cancellation);
            }
            while (await timer.WaitForNextTickAsync(cancellation));
        }
        catch (OperationCanceledException)
        {
        }
    }

    /// <summary>For long-lived hosts: notices moved aliases without waiting for a request, and how the heavy tier is, until cancelled.</summary>
    public Task WatchAsync(CancellationToken cancellation) => Task.WhenAll(WatchAliasesAsync(cancellation), _heavy?.WatchAsync(cancellation) ?? Task.CompletedTask);

    private async Task WatchAliasesAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(_aliasInterval, _time);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellation))
            {
                await RefreshAsync();
            }
        }
        catch (OperationCanceledException)
        {
        }
    }
}
