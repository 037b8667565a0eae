using System.Globalization;
using System.Net;
using System.Runtime.ExceptionServices;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Skiff.Routing;

/// <summary>A request for a replica, passed on as it came: nothing in it is read or encoded anew.</summary>
public sealed record ForwardedRequest
{
    public required HttpMethod Method { get; init; }

    /// <summary>Path and query.</summary>
    public required string Target { get; init; }

    /// <summary>By <see cref="RouteKey"/>.</summary>
    public required ulong Key { get; init; }

    /// <summary>By <see cref="RouteKey.OfModel"/>; 0 where no model matters.</summary>
    public ulong Model { get; init; }

    /// <summary>Those of the request and of its body.</summary>
    public IEnumerable<KeyValuePair<string, string>> Headers { get; init; } = [];

    /// <summary>What it is part of: each attempt is a span of its own. Null for none.</summary>
    public TraceParent? Trace { get; init; }

    public ReadOnlyMemory<byte> Body { get; init; }

    /// <summary>In the place of <see cref="Body"/>, for one that is too long to hold: sent once, to one replica.</summary>
    public Stream? Stream { get; init; }

    /// <summary>Whether asking twice does no harm. An inference does none.</summary>
    public bool IsSafe { get; init; }

    /// <summary>Null for none.</summary>
    public TimeSpan? TimeLeft { get; init; }
}

/// <summary>A replica's answer, whose body may still be coming. Disposing ends the request.</summary>
public sealed class ReplicaReply : IDisposable
{
    private readonly Lease _lease;
    private readonly CancellationTokenSource _attempt;
    private Outcome _outcome;
    private int _ended;

    internal ReplicaReply(HttpResponseMessage response, Lease lease, Outcome outcome, CancellationTokenSource attempt) => (Response, _lease, _outcome, _attempt) = (response, lease, outcome, attempt);

    public HttpResponseMessage Response { get; }

    public Replica Replica => _lease.Replica;

    /// <summary>The body broke off.</summary>
    public void Broke() => _outcome = Outcome.Failed;

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _ended, 1) != 0) return;
        Response.Dispose();
        _attempt.Dispose();
        _lease.End(_outcome);
    }
}

/// <summary>
/// Sends requests to the replicas that the router chooses. One that can't be reached, breaks off or refuses is asked elsewhere if that is safe; one that is late (later than most lately were) is asked elsewhere too,
/// and the first answer counts. Both take from the retry budget, and end at the request's deadline. Other answers, errors among them, are the replica's word and are handed on: a request that makes one replica fail would
/// make them all.
/// </summary>
/// <param name="signature">Null where the network alone says who calls.</param>
public sealed class ReplicaClient(Router router, HttpMessageInvoker http, CallerSignature? signature, TimeProvider time)
{
    /// <summary>Milliseconds that are left: clocks differ, spans don't.</summary>
    public const string DeadlineHeader = "Skiff-Deadline-Ms";

    private const int MostLooks = 8;

    /// <summary>So many times as long is waited for the second one: that it is late too may be the load, which more requests would add to.</summary>
    private const int Patience = 4;

    private static readonly TimeSpan CopyPatience = TimeSpan.FromSeconds(10);

    /// <summary>What a caller has left, by that header; null for as long as it takes.</summary>
    /// <exception cref="RequestException">It is no number of milliseconds.</exception>
    public static TimeSpan? TimeLeft(HttpRequest request)
    {
        if (!request.Headers.TryGetValue(DeadlineHeader, out var value)) return null;
        if (value.Count == 1 && int.TryParse(value[0], NumberStyles.None, CultureInfo.InvariantCulture, out var milliseconds)) return TimeSpan.FromMilliseconds(milliseconds);
        throw RequestException.Invalid($"{DeadlineHeader} is '{value}'; it takes a whole number of milliseconds");
    }

    /// <summary>A handler that passes things on: no redirects, cookies, proxies, decompression or headers of its own.</summary>
    /// <param name="connects">Within which a replica that is there takes a connection.</param>
    public static SocketsHttpHandler Handler(TimeSpan connects) => new()
    {
        AllowAutoRedirect = false,
        UseCookies = false,
        UseProxy = false,
        AutomaticDecompression = DecompressionMethods.None,
        ActivityHeadersPropagator = null,
        // As Kestrel reads them. Otherwise a caller's header beyond ASCII can't be sent, and looks like a replica's failure.
        RequestHeaderEncodingSelector = (_, _) => Encoding.UTF8,
        ConnectTimeout = connects,
        PooledConnectionLifetime = TimeSpan.FromMinutes(5),
    };

    /// <exception cref="RequestException">Nobody answered: unavailable, or not before the deadline.</exception>
    public async Task<ReplicaReply> SendAsync(ForwardedRequest request, CancellationToken cancellation)
    {
        router.Budget.Pay();
        var began = time.GetTimestamp();
        using var overdue = new CancellationTokenSource(request.TimeLeft is { } left ? left < TimeSpan.Zero ? TimeSpan.Zero : left : Timeout.InfiniteTimeSpan, time);
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellation, overdue.Token);
        var running = new List<Attempt>(2);
        Attempt? refused = null;
        var maySendAgain = request.IsSafe && request.Stream is null;
        var hedges = maySendAgain ? router.Options.Attempts - 1 : 0;
        var byCopies = maySendAgain && router.Options.TriesByCopies;
        var (attempts, last, tried) = (0, (Replica?)null, (Replica?)null);
        try
        {
            while (true)
            {
                ends.Token.ThrowIfCancellationRequested();
                if (running.Count == 0)
                {
                    if (!byCopies && attempts == 0 && router.TryTakeSlow(request.Model, null, out var lease)) tried = lease.Replica;
                    else if (!router.TryTake(request.Key, request.Model, last, out lease) && (last is null || !router.TryTake(request.Key, request.Model, null, out lease))) break;
                    last = Start(request, lease, began, running, ends.Token);
                    attempts++;
                }
                var done = await FirstAsync(request, running, hedges > 0, ends.Token);
                if (done is null)
                {
                    hedges--;
                    if (TryTakeAnother(request, running, out var hedge))
                    {
                        if (router.Budget.TrySpend()) Start(request, hedge, began, running, ends.Token);
                        else hedge.End(Outcome.Abandoned);
                    }
                    continue;
                }
                running.Remove(done);
                if (done.Outcome == Outcome.Answered)
                {
                    refused?.Close(refused.Outcome);
                    // The one that was asked first was late, also where it answers first; the one asked besides may have been about to answer.
                    foreach (var loser in running) loser.Close(loser.Number < done.Number ? Outcome.Late : Outcome.Abandoned);
                    if (byCopies) TrySlow(request, done.Lease.Replica);
                    var isLate = running.Exists(loser => loser.Number > done.Number) || (done.Lease.Replica == tried && IsLate(request, done.Lease));
                    return new ReplicaReply(done.Response!, done.Lease, isLate ? Outcome.Late : Outcome.Answered, done.Cancel);
                }
                if (done.Response is not null && refused is null) refused = done;
                else done.Close(done.Outcome);
                if (done.Fault is { } fault) ExceptionDispatchInfo.Throw(fault);
                if (running.Count > 0) continue;
                var again = maySendAgain || (done.Outcome == Outcome.Unreachable && request.Stream is null);
                if (!again || attempts >= router.Options.Attempts || !router.Budget.TrySpend()) break;
            }
            if (refused is not null) return new ReplicaReply(refused.Response!, refused.Lease, refused.Outcome, refused.Cancel);
            throw RequestException.Unavailable(router.Replicas.Count == 0 ? "there is no replica to ask" : "no replica can be reached just now");
        }
        catch (OperationCanceledException) when (overdue.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            refused?.Close(refused.Outcome);
            foreach (var attempt in running) attempt.Close(Outcome.Overdue);
            throw new RequestException(Refusal.DeadlineExceeded, "the deadline passed before a replica answered");
        }
        catch (OperationCanceledException)
        {
            refused?.Close(refused.Outcome);
            foreach (var attempt in running) attempt.Close(Outcome.Abandoned);
            throw;
        }
    }

    /// <returns>The attempt that is done first; null when they are late, and another may be asked besides.</returns>
    private async Task<Attempt?> FirstAsync(ForwardedRequest request, List<Attempt> running, bool mayHedge, CancellationToken cancellation)
    {
        var first = Task.WhenAny(running.Select(attempt => attempt.Task));
        if (mayHedge && router.HedgeDelay(request.Model) is { } delay)
        {
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            var late = Task.Delay(running.Count == 1 ? delay : Patience * delay, time, stop.Token);
            if (await Task.WhenAny(first, late) == late)
            {
                cancellation.ThrowIfCancellationRequested();
                return null;
            }
            await stop.CancelAsync();
        }
        var done = await first.WaitAsync(cancellation);
        return running.Find(attempt => attempt.Task == done)!;
    }

    /// <summary>Takes a replica that isn't asked yet: the key's next, or else any.</summary>
    private bool TryTakeAnother(ForwardedRequest request, List<Attempt> running, out Lease lease)
    {
        var (key, besides) = (request.Key, running[^1].Lease.Replica);
        for (var attempt = 0; attempt < MostLooks; attempt++, key = RouteKey.Mix(key + 1))
        {
            if (!router.TryTake(key, request.Model, besides, out lease)) return false;
            var replica = lease.Replica;
            if (!running.Exists(other => other.Lease.Replica == replica)) return true;
            lease.End(Outcome.Abandoned);
        }
        lease = default;
        return false;
    }

    private Replica Start(ForwardedRequest request, Lease lease, long began, List<Attempt> running, CancellationToken cancellation)
    {
        var attempt = new Attempt(lease, running.Count, CancellationTokenSource.CreateLinkedTokenSource(cancellation));
        attempt.Task = RunAsync(request, attempt, began);
        running.Add(attempt);
        return lease.Replica;
    }

    /// <summary>Tries a slow replica, if one is due, with a request that another has answered: not before, or on a machine that they share each would make the other late.</summary>
    private void TrySlow(ForwardedRequest request, Replica answered)
    {
        if (!router.TryTakeSlow(request.Model, answered, out var copy)) return;
        // The body is the caller's, who doesn't wait.
        if (router.Budget.TrySpend()) _ = CopyAsync(request with { Body = request.Body.ToArray() }, copy);
        else copy.End(Outcome.Abandoned);
    }

    private async Task CopyAsync(ForwardedRequest request, Lease lease)
    {
        using var patience = new CancellationTokenSource(CopyPatience, time);
        var attempt = new Attempt(lease, 0, patience);
        await RunAsync(request, attempt, lease.Began);
        using (attempt.Response)
        {
            var isLate = patience.IsCancellationRequested || IsLate(request, lease);
            lease.End(isLate && attempt.Outcome is Outcome.Answered or Outcome.Failed ? Outcome.Late : attempt.Outcome);
            try
            {
                if (attempt.Response is not null) await attempt.Response.Content.CopyToAsync(Stream.Null, patience.Token); // or its connection is lost
            }
            catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
            {
            }
        }
    }

    /// <summary>Of a trial: it comes alone, to a replica that nothing keeps warm, and may take twice as long as others.</summary>
    private bool IsLate(ForwardedRequest request, in Lease lease) => router.HedgeDelay(request.Model) is { } late && time.GetElapsedTime(lease.Began) > 2 * late;

    private async Task RunAsync(ForwardedRequest request, Attempt attempt, long began)
    {
        try
        {
            using var message = Message(request, attempt.Lease.Replica.Address, began);
            var response = await http.SendAsync(message, attempt.Cancel.Token);
            if (ReplicaReport.Read(response.Headers) is { } report) router.Say(attempt.Lease.Replica, report);
            attempt.Response = response;
            attempt.Outcome = response.StatusCode is HttpStatusCode.ServiceUnavailable or HttpStatusCode.TooManyRequests ? Outcome.Refused : Outcome.Answered;
        }
        catch (HttpRequestException e) when (e.InnerException is BadHttpRequestException tooMuch)
        {
            // What the caller streams is not what we take: nothing against the replica.
            (attempt.Outcome, attempt.Fault) = (Outcome.Abandoned, tooMuch);
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
        {
            attempt.Outcome = e is HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError } ? Outcome.Unreachable : Outcome.Failed;
        }
    }

    private HttpRequestMessage Message(ForwardedRequest request, Uri replica, long began)
    {
        var message = new HttpRequestMessage(request.Method, new Uri(replica, request.Target));
        if (request.Stream is not null) message.Content = new StreamContent(request.Stream);
        else if (request.Body.Length > 0) message.Content = new ReadOnlyMemoryContent(request.Body);
        foreach (var (name, value) in request.Headers)
        {
            if (!message.Headers.TryAddWithoutValidation(name, value)) message.Content?.Headers.TryAddWithoutValidation(name, value);
        }
        if (request.Trace is { } trace)
        {
            message.Headers.TryAddWithoutValidation(TraceParent.Header, trace.Child());
            if (trace.State is { } state) message.Headers.TryAddWithoutValidation(TraceParent.StateHeader, state);
        }
        string? deadline = null;
        if (request.TimeLeft is { } left)
        {
            deadline = Math.Max(0, (long)(left - time.GetElapsedTime(began)).TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
            message.Headers.TryAddWithoutValidation(DeadlineHeader, deadline);
        }
        if (signature is not null)
        {
            var body = request.Stream is null ? request.Body : (ReadOnlyMemory<byte>?)null;
            message.Headers.TryAddWithoutValidation(CallerSignature.Header, signature.Sign(request.Method.Method, replica.Authority, message.RequestUri!.PathAndQuery, deadline, body));
        }
        return message;
    }

    private sealed class Attempt(Lease lease, int number, CancellationTokenSource cancel)
    {
        public Lease Lease => lease;
        public int Number => number;
        public CancellationTokenSource Cancel => cancel;
        public Task Task { get; set; } = Task.CompletedTask;
        public Outcome Outcome { get; set; }
        public HttpResponseMessage? Response { get; set; }

        /// <summary>What the caller did wrong, where it only showed on the way.</summary>
        public BadHttpRequestException? Fault { get; set; }

        /// <summary>Nobody wants its answer.</summary>
        public void Close(Outcome outcome)
        {
            lease.End(outcome);
            cancel.Cancel();
            // What still comes is let go when it has come.
            _ = Task.ContinueWith(_ =>
            {
                Response?.Dispose();
                cancel.Dispose();
            }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }
}
