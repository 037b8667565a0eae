using System.Security.Cryptography;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Skiff.Aws;
using Skiff.Models;
using Skiff.Routing;
using Skiff.Serve.Replicas;
using Skiff.Serving;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>Everything in one process: Kestrel, the engine, and the loops that learn and watch.</summary>
public sealed class Server : IAsyncDisposable
{
    private readonly WebApplication _web;
    private readonly Stores _stores;
    private readonly FileStream? _lock;
    private readonly ReplicaGroup? _replicas;
    private readonly HeavyTier? _heavy;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Task _loops;

    private Server(WebApplication web, Engine engine, Stores stores, FileStream? @lock, ReplicaGroup? replicas, HeavyTier? heavy)
    {
        (_web, Engine, _stores, _lock, _replicas, _heavy) = (web, engine, stores, @lock, replicas, heavy);
        // One process learns: the one that has the data folder.
        var learning = @lock is null ? Task.CompletedTask : Task.WhenAll(Task.Run(() => engine.Worker.RunAsync(_stopping.Token)), Task.Run(() => engine.KeepLogAsync(_stopping.Token)));
        _loops = Task.WhenAll(learning, Task.Run(() => engine.WatchAsync(_stopping.Token)));
    }

    public Engine Engine { get; }

    /// <summary>Where it listens, ports filled in.</summary>
    public IReadOnlyList<string> Addresses => [.. _web.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses];

    /// <summary>Where the processes listen that run its models; none where it runs them itself.</summary>
    public IReadOnlyList<Uri> Replicas => _replicas?.Addresses ?? [];

    /// <summary>What it answers to.</summary>
    public IReadOnlyList<Endpoint> Endpoints => _web.Services.GetRequiredService<EndpointDataSource>().Endpoints;

    /// <summary>Opens the stores, publishes the samples into an empty one, loads the apps and starts to listen.</summary>
    /// <param name="samples">Folder of the sample apps; null for none.</param>
    /// <exception cref="StoreException">A store can't be opened, or another server uses the data folder.</exception>
    /// <exception cref="IOException">An address can't be listened on.</exception>
    public static async Task<Server> StartAsync(Settings settings, string? samples, CancellationToken cancellation)
    {
        var @lock = settings.IsReplica ? null : LockData(settings.Data);
        Stores? stores = null;
        ReplicaGroup? replicas = null;
        HeavyTier? heavy = null;
        try
        {
            stores = await Stores.OpenAsync(settings);
            var web = Build(settings);
            var secrets = settings.Secrets ?? [KeptSecret(settings.Data)];
            heavy = settings.OpenHeavy(secrets, stores.State);
            var engine = new Engine(new EngineParts
            {
                Objects = stores.Objects,
                State = stores.State,
                Queue = stores.Queue,
                Keys = settings.Keys,
                Secrets = secrets,
                Models = AwsStores.ModelOptions(settings.ModelStore, settings.ModelMemoryBytes),
                PredictionCacheBytes = settings.PredictionCacheBytes,
                HeadCacheBytes = settings.HeadCacheBytes,
                IsFunction = settings.IsReplica,
                Heavy = heavy,
                Logging = web.Services.GetRequiredService<ILoggerFactory>(),
            });
            if (samples is not null && !settings.IsReplica) await Samples.PublishAsync(samples, engine.Store, settings.Keys.Tenants, cancellation);
            if (settings.Replicas > 0)
            {
                var logging = web.Services.GetRequiredService<ILoggerFactory>();
                replicas = await ReplicaGroup.StartAsync(settings.Replicas, settings.Data, logging, cancellation);
                replicas.Use(web, new Gateway(settings.Keys, logging.CreateLogger<Gateway>()), engine);
            }
            else await WarmAsync(engine, settings.Keys.Tenants, web.Logger, cancellation);
            engine.Map(web);
            await web.StartAsync(cancellation);
            return new Server(web, engine, stores, @lock, replicas, heavy);
        }
        catch
        {
            if (replicas is not null) await replicas.DisposeAsync();
            heavy?.Dispose();
            if (stores is not null) await stores.DisposeAsync();
            if (@lock is not null) await @lock.DisposeAsync();
            throw;
        }
    }

    /// <summary>Fires when the process is told to stop (Ctrl-C, SIGTERM), while requests that have begun are still answered.</summary>
    public CancellationToken Stopping => _web.Lifetime.ApplicationStopping;

    /// <summary>Serves until the process is told to stop; returns when the last request is answered.</summary>
    public Task WaitForShutdownAsync(CancellationToken cancellation) => _web.WaitForShutdownAsync(cancellation);

    /// <summary>Answers what has begun, learns what was received, and closes the stores.</summary>
    public async ValueTask DisposeAsync()
    {
        await _web.StopAsync();
        await _web.DisposeAsync();
        if (_replicas is not null) await _replicas.DisposeAsync();
        await _stopping.CancelAsync();
        await _loops;
        _heavy?.Dispose();
        Engine.Models.UnloadAll();
        await _stores.DisposeAsync();
        if (_lock is not null) await _lock.DisposeAsync();
        _stopping.Dispose();
    }

    private static WebApplication Build(Settings settings)
    {
        var builder = WebServer.CreateBuilder(settings.Urls, settings.MaxBodyBytes);
        if (settings.IsReplica) builder.Services.AddSingleton<IHostLifetime, ReplicaLifetime>();
        return builder.Build();
    }

    /// <summary>Loads what the apps need, so that the first requests find it warm. An app that can't be loaded doesn't keep the others from starting.</summary>
    private static async Task WarmAsync(Engine engine, IEnumerable<string> tenants, ILogger log, CancellationToken cancellation)
    {
        foreach (var tenant in tenants)
        {
            foreach (var name in await engine.Apps.NamesAsync(tenant, cancellation))
            {
                try
                {
                    var app = await engine.Apps.GetAsync(tenant, name, cancellation);
                    foreach (var model in app.Models) (await engine.Models.AcquireAsync(tenant, model, null, cancellation)).Dispose();
                }
                catch (Exception e) when (e is RequestException or StoreException)
                {
                    log.LogError("app {App} of tenant {Tenant} is not ready: {Error}", name, tenant, e.Message);
                }
            }
        }
    }

    private static FileStream LockData(string data)
    {
        try
        {
            Directory.CreateDirectory(data);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't use '{data}' as data folder: {e.Message}", e);
        }
        try
        {
            return new FileStream(Path.Combine(data, "serve.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't lock the data folder '{data}': {e.Message.TrimEnd('.')}. Is another server using it? Choose one with --data DIR", e);
        }
    }

    /// <summary>The secret that seals decisions, made at the first start and readable by its owner only.</summary>
    private static string KeptSecret(string data)
    {
        var path = Path.Combine(data, "secret");
        try
        {
            if (File.Exists(path) && File.ReadAllText(path).Trim() is { Length: >= 16 } kept) return kept;
            var secret = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32));
            var temporary = path + ".new";
            var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write };
            if (!OperatingSystem.IsWindows()) options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            using (var writer = new StreamWriter(temporary, options)) writer.Write(secret);
            File.Move(temporary, path, overwrite: true);
            return secret;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't keep the secret in '{path}': {e.Message}", e);
        }
    }
}
