using Microsoft.Extensions.Logging;
using Skiff.Store;

namespace Skiff.Routing;

/// <summary>Keeps a replica registered while it serves: renews its registration, and takes it out when it leaves. One that dies is out when its time is over.</summary>
/// <param name="address">Where callers reach it.</param>
/// <param name="describe">How it is; null while it takes no requests.</param>
public sealed class Registrar(IReplicaRegistry registry, Uri address, Func<(double Load, int Queue, IEnumerable<(string Tenant, string Model)> Warm)?> describe, TimeProvider time, ILogger<Registrar> log)
{
    /// <summary>How often a replica says that it is there, and how long that counts: two may be lost.</summary>
    public static readonly TimeSpan Renewal = TimeSpan.FromSeconds(5), Lifetime = TimeSpan.FromSeconds(16);

    private static readonly TimeSpan Look = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Farewell = TimeSpan.FromSeconds(3);

    private readonly SemaphoreSlim _turn = new(1);
    private long _renewed;
    private bool _hasLeft;
    private bool _isRegistered;
    private string? _error;

    /// <summary>Renews until cancelled, then leaves.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(Look, time);
        try
        {
            do await RenewDueAsync(cancellation);
            while (await timer.WaitForNextTickAsync(cancellation));
        }
        catch (OperationCanceledException)
        {
        }
        await LeaveAsync();
    }

    /// <summary>Registers, if there is something to say and it is time. Never fails: the next one may go better, and until then the last one counts.</summary>
    internal async Task RenewDueAsync(CancellationToken cancellation)
    {
        await _turn.WaitAsync(cancellation);
        try
        {
            if (_hasLeft || describe() is not var (load, queue, warm) || (_isRegistered && time.GetElapsedTime(_renewed) < Renewal)) return;
            await registry.RegisterAsync(new Registration(address, time.GetUtcNow() + Lifetime, Math.Round(load, 3), queue, ReplicaReport.Write(warm.Take(Registration.MostWarm)), Product.Version), cancellation);
            (_isRegistered, _renewed) = (true, time.GetTimestamp());
            if (_error is not null) log.LogInformation("registered again as {Address}", address);
            _error = null;
        }
        catch (StoreException e)
        {
            // Each second until it goes well; said once.
            _isRegistered = false;
            if (_error is null) log.LogError("can't register as {Address}: {Error}", address, e.Message);
            _error = e.Message;
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Takes the replica out, for good.</summary>
    public async Task LeaveAsync()
    {
        await _turn.WaitAsync();
        try
        {
            if (_hasLeft) return;
            _hasLeft = true;
            using var patience = new CancellationTokenSource(Farewell, time);
            await registry.UnregisterAsync(address, patience.Token);
        }
        catch (Exception e) when (e is StoreException or OperationCanceledException)
        {
            log.LogWarning("can't unregister {Address}, which is out by itself in {Seconds} s: {Error}", address, Lifetime.TotalSeconds, e.Message);
        }
        finally
        {
            _turn.Release();
        }
    }
}
