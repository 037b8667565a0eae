using System.Net;
using System.Net.Sockets;

namespace Skiff.Routing;

/// <param name="Report">What is known of it where it was found; null for nothing.</param>
public readonly record struct FoundReplica(Uri Address, ReplicaReport? Report = null);

/// <summary>Where replicas are found.</summary>
public interface IReplicaSource
{
    /// <summary>How often it is worth a look; null where nothing changes.</summary>
    TimeSpan? Interval { get; }

    /// <returns>May be none.</returns>
    Task<IReadOnlyList<FoundReplica>> FindAsync(CancellationToken cancellation);
}

/// <summary>A fixed list.</summary>
public sealed class StaticReplicas(IReadOnlyList<Uri> addresses) : IReplicaSource
{
    public TimeSpan? Interval => null;

    public Task<IReadOnlyList<FoundReplica>> FindAsync(CancellationToken cancellation) => Task.FromResult<IReadOnlyList<FoundReplica>>([.. addresses.Select(address => new FoundReplica(address))]);
}

/// <summary>Whatever a name resolves to, as service discovery keeps it.</summary>
/// <param name="resolve">For tests; null for the system's resolver.</param>
public sealed class DnsReplicas(string name, int port, Func<string, CancellationToken, Task<IPAddress[]>>? resolve = null) : IReplicaSource
{
    public TimeSpan? Interval => TimeSpan.FromSeconds(5);

    public async Task<IReadOnlyList<FoundReplica>> FindAsync(CancellationToken cancellation)
    {
        var addresses = await (resolve ?? Dns.GetHostAddressesAsync)(name, cancellation);
        return [.. addresses.Select(address => new FoundReplica(new Uri(address.AddressFamily == AddressFamily.InterNetworkV6 ? $"http://[{address}]:{port}" : $"http://{address}:{port}")))];
    }
}

public static class ReplicaSources
{
    public const string Forms = "http://HOST:PORT, several joined by commas, dns://NAME:PORT, or state";

    /// <summary>Reads <c>SKIFF_HEAVY</c>.</summary>
    /// <param name="state">What <c>state</c> means on this host; null where replicas don't register in the state store.</param>
    /// <exception cref="FormatException">It is none of the <see cref="Forms"/>.</exception>
    public static IReplicaSource Parse(string value, Func<IReplicaSource>? state = null)
    {
        if (value == "state") return state?.Invoke() ?? throw new FormatException("'state' needs a state store that replicas register in, which this host has not");
        var parts = value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        var addresses = parts.Select(part => Uri.TryCreate(part, UriKind.Absolute, out var address) && address is { PathAndQuery: "/" or "", Fragment: "", UserInfo: "", Host.Length: > 0 } ? address : null).ToArray();
        if (addresses is [{ Scheme: "dns", Port: > 0 } dns]) return new DnsReplicas(dns.Host, dns.Port);
        if (addresses.Length == 0 || Array.Exists(addresses, address => address is not { Scheme: "http" or "https" })) throw new FormatException($"'{value}' is no list of replicas: it takes {Forms}");
        return new StaticReplicas([.. addresses.Select(address => address!)]);
    }
}

/// <summary>
/// Keeps a router's replicas up to date. Hosts that may be frozen call <see cref="RefreshDueAsync"/> inside an invocation; those that live long run <see cref="WatchAsync"/>. A look that fails, or finds nobody, leaves
/// who was there: their circuits tell who is gone, and an empty answer is more often a resolver's hiccup than an empty tier.
/// </summary>
public sealed class Membership(Router router, IReplicaSource source, TimeProvider time)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    /// <summary>Of the interval. A look ends later than its tick: at the next one the interval isn't quite over.</summary>
    private const double Share = 0.8;

    private long _looked;
    private int _looking;
    private string[] _found = [];

    /// <summary>What went wrong at the last look; null when nothing did.</summary>
    public string? Error { get; private set; }

    /// <summary>Looks, if it is time and nobody else does. Never fails.</summary>
    public async Task RefreshDueAsync(CancellationToken cancellation)
    {
        var looked = Volatile.Read(ref _looked);
        if (looked != 0 && (Error is null && source.Interval is not { } || time.GetElapsedTime(looked) < Share * (source.Interval ?? TimeSpan.FromSeconds(5)))) return;
        if (Interlocked.Exchange(ref _looking, 1) != 0) return;
        var isCancelled = false;
        try
        {
            using var patience = new CancellationTokenSource(Patience, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, patience.Token);
            var replicas = await source.FindAsync(either.Token);
            var addresses = replicas.Select(replica => replica.Address).ToList();
            Error = addresses.Count == 0 ? "found no replica" : null;
            // The table of a large set is not made anew for the same addresses.
            string[] found = [.. addresses.Select(address => address.GetLeftPart(UriPartial.Authority)).Distinct().Order(StringComparer.Ordinal)];
            if (found.Length > 0 && !found.AsSpan().SequenceEqual(_found)) router.Replace(addresses);
            if (found.Length > 0) _found = found;
            foreach (var (address, report) in replicas)
            {
                if (report is not null) router.Hear(address, report);
            }
        }
        catch (Exception e) when (e is SocketException or IOException or ArgumentException or Store.StoreException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            Error = e.Message;
        }
        catch (OperationCanceledException)
        {
            isCancelled = true;
        }
        finally
        {
            // Who gave up has not looked: the next one does.
            if (!isCancelled) Volatile.Write(ref _looked, Math.Max(1, time.GetTimestamp()));
            Volatile.Write(ref _looking, 0);
        }
    }

    public async Task WatchAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(source.Interval ?? TimeSpan.FromSeconds(5), time);
        try
        {
            do await RefreshDueAsync(cancellation);
            while (await timer.WaitForNextTickAsync(cancellation));
        }
        catch (OperationCanceledException)
        {
        }
    }
}
