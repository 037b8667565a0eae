using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Skiff.Models;
using Skiff.Store;

namespace Skiff.Apps;

/// <summary>The apps of this process: read when they are first asked for, and again when <c>live</c> has moved. A version that doesn't fit its models never replaces one that does.</summary>
public sealed class AppHost(ModelStore store, ModelHost models, TimeSpan aliasInterval, TimeProvider time, ILogger<AppHost> log)
{
    private readonly ConcurrentDictionary<(string Tenant, string Name), Entry> _apps = new();

    /// <exception cref="RequestException">There is no such app, or it can't be used.</exception>
    public ValueTask<App> GetAsync(string tenant, string name, CancellationToken cancellation)
    {
        if (!_apps.TryGetValue((tenant, name), out var entry)) return LoadFirstAsync(tenant, name, cancellation);
        if (time.GetElapsedTime(Volatile.Read(ref entry.CheckedAt)) >= aliasInterval) _ = RefreshAsync(tenant, name, entry);
        return ValueTask.FromResult(entry.App);
    }

    public Task<IReadOnlyList<string>> NamesAsync(string tenant, CancellationToken cancellation) => store.NamesAsync(tenant, ArtifactKind.App, cancellation);

    /// <summary>Looks at every app's alias that is due.</summary>
    public Task RefreshDueAsync() => Task.WhenAll(
        from app in _apps
        where time.GetElapsedTime(Volatile.Read(ref app.Value.CheckedAt)) >= aliasInterval
        select RefreshAsync(app.Key.Tenant, app.Key.Name, app.Value));

    private async ValueTask<App> LoadFirstAsync(string tenant, string name, CancellationToken cancellation)
    {
        var manifest = Names.IsValid(name) ? await store.LiveAsync(tenant, ArtifactKind.App, name, cancellation) : null;
        if (manifest is null) throw RequestException.NotFound($"unknown app '{name}'; GET /apps lists the apps");
        try
        {
            var app = await App.LoadAsync(tenant, manifest, store, models, time, cancellation);
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
        try
        {
            Volatile.Write(ref entry.CheckedAt, time.GetTimestamp());
            var manifest = await store.LiveAsync(tenant, ArtifactKind.App, name, CancellationToken.None);
            if (manifest is null || manifest.Version == entry.App.Version || manifest.Version == entry.FailedVersion) return;
            entry.FailedVersion = manifest.Version;
            entry.App = await App.LoadAsync(tenant, manifest, store, models, time, CancellationToken.None);
            entry.FailedVersion = null;
            log.LogInformation("app {App} of tenant {Tenant} is now version {Version}", name, tenant, manifest.Version);
        }
        catch (Exception e) when (e is FormatException or StoreException)
        {
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
        public int? FailedVersion;
    }
}
