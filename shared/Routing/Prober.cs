namespace Skiff.Routing;

/// <summary>
/// Asks replicas how they are while nobody else does, for hosts that live long: one that has gone is left out before a request finds out, one that is back is asked again at once, and one that is idle says what it has loaded.
/// </summary>
/// <param name="path">What answers 200 where all is well, cheaply, and 503 where the replica is leaving.</param>
/// <param name="signature">As the replicas want it; null where the network alone says who calls.</param>
public sealed class Prober(Router router, HttpMessageInvoker http, string path, CallerSignature? signature, TimeProvider time)
{
    public static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    /// <summary>Asks all, over and over, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(Interval, time);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellation)) await Task.WhenAll(router.Replicas.Replicas.ToArray().Select(replica => ProbeAsync(replica, cancellation)));
        }
        catch (OperationCanceledException)
        {
        }
    }

    public async Task ProbeAsync(Replica replica, CancellationToken cancellation)
    {
        using var patience = new CancellationTokenSource(Patience, time);
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellation, patience.Token);
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(replica.Address, path));
        if (signature is not null) request.Headers.TryAddWithoutValidation(CallerSignature.Header, signature.Sign("GET", replica.Address.Authority, path, null, ReadOnlyMemory<byte>.Empty));
        try
        {
            using var response = await http.SendAsync(request, ends.Token);
            if (ReplicaReport.Read(response.Headers) is { } report) router.Say(replica, report);
            router.Probed(replica, response.IsSuccessStatusCode);
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
        {
            if (cancellation.IsCancellationRequested) return;
            router.Probed(replica, isWell: false, e is HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError });
        }
    }
}
