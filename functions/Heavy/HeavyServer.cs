using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Skiff.Aws;
using Skiff.Embedded;
using Skiff.Routing;
using Skiff.Serving;
using Skiff.Store;

namespace Skiff.Heavy;

/// <summary>A replica in this process: Kestrel, the models, and the loop that watches their aliases.</summary>
public sealed class HeavyServer : IAsyncDisposable
{
    private static readonly TimeSpan Answers = TimeSpan.FromSeconds(30); // what has begun, when it no longer listens

    private readonly WebApplication _web;
    private readonly TierHost _host;
    private readonly IObjectStore _objects;
    private readonly IReplicaRegistry? _registry;
    private readonly HeavySettings _settings;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Task _watching;
    private readonly Registrar? _registrar;

    private HeavyServer(WebApplication web, TierHost host, IObjectStore objects, IReplicaRegistry? registry, HeavySettings settings)
    {
        (_web, _host, _objects, _registry, _settings) = (web, host, objects, registry, settings);
        if (registry is not null)
        {
            var address = settings.Address ?? OwnAddress.Of(Addresses);
            _registrar = new Registrar(registry, address, host.Describe, TimeProvider.System, web.Services.GetRequiredService<ILogger<Registrar>>());
        }
        _watching = Task.WhenAll(
            Task.Run(() => host.WatchAsync(_stopping.Token)), Task.Run(() => host.PreloadAsync(settings.Preload)), Task.Run(LogLoadAsync), Task.Run(() => _registrar?.RunAsync(_stopping.Token) ?? Task.CompletedTask));
    }

    /// <summary>Where it listens, ports filled in.</summary>
    public IReadOnlyList<string> Addresses => [.. _web.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses];

    public TierHost Host => _host;

    /// <summary>Listens, and begins to load what it is told to; until that has loaded it answers, and is not ready.</summary>
    /// <exception cref="IOException">An address can't be listened on.</exception>
    public static async Task<HeavyServer> StartAsync(HeavySettings settings, CancellationToken cancellation)
    {
        var builder = WebServer.CreateBuilder(settings.Urls, settings.MaxBodyBytes);
        builder.Services.AddSingleton<IHostLifetime, OwnLifetime>();
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = Answers);
        var web = builder.Build();
        var objects = AwsStores.Objects(settings.ModelStore, settings.Cache, settings.CacheBytes);
        var models = AwsStores.ModelOptions(settings.ModelStore, settings.ModelMemoryBytes);
        IReplicaRegistry? registry = settings.State switch
        {
            null => null,
            { Scheme: "sqlite" } state => new SqliteStateStore(state.Place),
            var state => (IReplicaRegistry)AwsStores.State(state, TimeProvider.System),
        };
        var host = new TierHost(new TierParts
        {
            Objects = objects,
            Keys = settings.Keys,
            Signature = settings.Secrets is { } secrets ? new CallerSignature(secrets, TimeProvider.System) : null,
            Models = models with { Provider = settings.Provider, Instances = settings.Sessions, WarmRows = settings.WarmRows, Batching = models.Batching with { MostRows = settings.BatchRows, Workers = settings.Workers } },
            Logging = web.Services.GetRequiredService<ILoggerFactory>(),
        });
        host.Map(web);
        await web.StartAsync(cancellation);
        return new HeavyServer(web, host, objects, registry, settings);
    }

    /// <summary>Serves until told to stop (SIGTERM, Ctrl-C). Then it says that it leaves, answers what still comes for a while, and then what has begun.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        var told = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Tell);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Tell);
        await told.Task.WaitAsync(cancellation);
        _host.Leave();
        if (_registrar is not null) await _registrar.LeaveAsync();
        Console.WriteLine($"leaving: saying so for {_settings.Notice.TotalSeconds} s, then answering what has begun");
        // Told once more, it doesn't wait.
        told = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await Task.WhenAny(told.Task, Task.Delay(_settings.Notice, cancellation));

        void Tell(PosixSignalContext signal)
        {
            signal.Cancel = true;
            told.TrySetResult();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _web.StopAsync();
        await _web.DisposeAsync();
        await _stopping.CancelAsync();
        await _watching;
        _host.Models.UnloadAll();
        (_registry as IDisposable)?.Dispose();
        (_objects as IDisposable)?.Dispose();
        _stopping.Dispose();
    }

    /// <summary>The mean of what it said of itself each second, once a minute, as one line in CloudWatch's embedded metric format: scaling goes by it.</summary>
    private async Task LogLoadAsync()
    {
        if (_settings.LoadMetric is not { } tier) return;
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
        var (load, queue, count) = (0.0, 0.0, 0);
        try
        {
            while (await timer.WaitForNextTickAsync(_stopping.Token))
            {
                var now = _host.Load();
                (load, queue, count) = (load + now.Load, queue + now.Queue, count + 1);
                if (count < 60) continue;
                Console.WriteLine(LoadLine(tier, load / count, queue / count, DateTimeOffset.UtcNow));
                (load, queue, count) = (0, 0, 0);
            }
        }
        catch (OperationCanceledException)
        {
        }
    }

    internal static string LoadLine(string tier, double load, double queue, DateTimeOffset now) => string.Create(CultureInfo.InvariantCulture,
        $$$"""{"_aws":{"Timestamp":{{{now.ToUnixTimeMilliseconds()}}},"CloudWatchMetrics":[{"Namespace":"Skiff","Dimensions":[["Tier"]],"Metrics":[{"Name":"Load"},{"Name":"QueuedRows"}]}]},"Tier":"{{{JsonEncodedText.Encode(tier)}}}","Load":{{{Math.Round(load, 4)}}},"QueuedRows":{{{Math.Round(queue, 2)}}}}""");

    /// <summary>The web host's own would stop listening at the first signal.</summary>
    private sealed class OwnLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
