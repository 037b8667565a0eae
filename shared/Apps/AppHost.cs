using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Skiff.Models;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Apps;

/// <summary>The apps of this process: read when they are first asked for, and again when <c>live</c> has moved. A version that doesn't fit its models never replaces one that does.</summary>
public sealed class AppHost(ModelStore store, ModelHost models, TimeSpan aliasInterval, TimeProvider time, ILogger<AppHost> log, HeavyTier? tier = null)
{
    private static readonly TimeSpan LongestSettling = TimeSpan.FromSeconds(2);

    private readonly ConcurrentDictionary<(string Tenant, string Name), Entry> _apps = new();

    /// <exception cref="RequestException">There is no such app, or it can't be used.</exception>
    public ValueTask<App> GetAsync(string tenant, string name, CancellationToken cancellation)
    {
        if (!_apps.TryGetValue((tenant, name), out var entry)) return LoadFirstAsync(tenant, name, cancellation);
        if (time.GetElapsedTime(Volatile.Read(ref entry.CheckedAt)) >= aliasInterval && RefreshAsync(tenant, name, entry) is { IsCompleted: false } refresh) entry.Refresh = refresh;
        return ValueTask.FromResult(entry.App);
    }

    public Task<IReadOnlyList<string>> NamesAsync(string tenant, CancellationToken cancellation) => store.NamesAsync(tenant, ArtifactKind.App, cancellation);

    /// <summary>A tenant's apps that have been asked for.</summary>
    public IEnumerable<App> Loaded(string tenant) => from app in _apps where app.Key.Tenant == tenant orderby app.Key.Name select app.Value.App;

    /// <summary>An app that has been asked for before; null for others.</summary>
    public App? Find(string tenant, string name) => _apps.TryGetValue((tenant, name), out var entry) ? entry.App : null;

    /// <summary>Looks at every app's alias that is due.</summary>
    public Task RefreshDueAsync() => Task.WhenAll(
        from app in _apps
        where time.GetElapsedTime(Volatile.Read(ref app.Value.CheckedAt)) >= aliasInterval
        select RefreshAsync(app.Key.Tenant, app.Key.Name, app.Value));

    /// <summary>Looks at an app's alias at once: it was moved from here.</summary>
    public Task LookAgainAsync(string tenant, string name) => _apps.TryGetValue((tenant, name), out var entry) ? RefreshAsync(tenant, name, entry) : Task.CompletedTask;

    /// <summary>Every app that has been asked for, of whichever tenant.</summary>
    public IEnumerable<App> All => _apps.Values.Select(entry => entry.App);

    /// <summary>
    /// For hosts that may be frozen between two requests: waits for the looks at aliases, of apps and of models, that requests have begun. Frozen halfway, a look would lose its connection, and
    /// an instance that is seldom asked might never end one. Each is waited for once, and two seconds at most, so that a store that can't be reached doesn't hold up every request.
    /// </summary>
    public async Task SettleAsync(CancellationToken cancellation)
    {
        var refreshes = models.TakeRefreshes().Concat(from app in _apps select Interlocked.Exchange(ref app.Value.Refresh, null)).OfType<Task>().ToList();
        if (refreshes.Count > 0) await Task.WhenAll(refreshes).WaitAsync(LongestSettling, time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async ValueTask<App> LoadFirstAsync(string tenant, string name, CancellationToken cancellation)
    {
        var manifest = Names.IsValid(name) ? await store.LiveAsync(tenant, ArtifactKind.App, name, cancellation) : null;
        if (manifest is null) throw RequestException.NotFound($"unknown app '{name}'; GET /apps lists the apps");
        try
        {
            var app = await App.LoadAsync(tenant, manifest, store, models, time, cancellation, tier);
            return _apps.GetOrAdd((tenant, name), _ => new Entry(app) { CheckedAt = time.GetTimestamp() }).App;
        }
        catch (FormatException e)
        {
            throw RequestException.Unavailable($"app '{name}' version {manifest.Version} can't be used: {e.Message}");
        }
    }

    private async Task RefreshAsync(string tenant, string name, Entry entry)
    {
        if (Interlocked.Exchange(ref entry.Checking, 1) == 1) return;
        int? version = null;
        try
        {
            Volatile.Write(ref entry.CheckedAt, time.GetTimestamp());
            var manifest = await store.LiveAsync(tenant, ArtifactKind.App, name, CancellationToken.None);
            // New users begin from the prior that is live.
            var prior = entry.App.Head is { Document.Prior: { } priorName } ? await store.LiveAsync(tenant, ArtifactKind.Prior, priorName, CancellationToken.None) : null;
            if (manifest is not null && (manifest.Version != entry.App.Version || (prior is not null && prior.Version != entry.App.Head!.PriorVersion)))
            {
                version = manifest.Version;
                entry.App = await App.LoadAsync(tenant, manifest, store, models, time, CancellationToken.None, tier);
                log.LogInformation("app {App} of tenant {Tenant} is now version {Version}, its prior version {Prior}", name, tenant, version, entry.App.Head?.PriorVersion ?? 0);
            }
            entry.Failed = default;
        }
        catch (Exception e) when (e is FormatException or StoreException)
        {
            // Tried again at every look, since the store may come back, or a model that it needs be published: said once for each reason.
            if (entry.Failed == (version, e.Message)) return;
            entry.Failed = (version, e.Message);
            log.LogError("app {App} of tenant {Tenant} stays at version {Version}: {Error}", name, tenant, entry.App.Version, e.Message);
        }
        finally
        {
            Volatile.Write(ref entry.Checking, 0);
        }
    }

    private sealed class Entry(App app)
    {
        public volatile App App = app;
        public long CheckedAt;
        public int Checking;
        public (int? Version, string? Message) Failed; // what was said last
        public Task? Refresh; // begun by a request, and not yet waited for
    }
}
