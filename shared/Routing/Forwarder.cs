using Microsoft.AspNetCore.Http;

namespace Skiff.Routing;

/// <summary>
/// Passes an HTTP request on to a replica, and its answer back, byte for byte: binary tensors and streams as they are. Up to 1 MiB a body is held, so that it can be sent again; a longer one, or one of unknown length, flows through and
/// is sent once. Headers that belong to one connection stay there, and so does what we say among ourselves.
/// </summary>
public sealed class Forwarder(ReplicaClient client)
{
    private const int MostHeld = 1 << 20;

    // RFC 9110, 7.6.1, and what belongs to the message's framing, which each connection has its own of.
    private static readonly HashSet<string> NotPassed = new(StringComparer.OrdinalIgnoreCase)
    {
        "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Host",
        ReplicaReport.LoadHeader, ReplicaReport.QueueHeader, ReplicaReport.WarmHeader, ReplicaReport.VersionHeader, CallerSignature.Header, ReplicaClient.DeadlineHeader,
    };

    /// <param name="isSafe">Whether asking twice does no harm.</param>
    /// <exception cref="RequestException">Nobody answered.</exception>
    public async Task ForwardAsync(HttpContext context, ulong key, ulong model, bool isSafe, TimeSpan? timeLeft)
    {
        var (incoming, cancellation) = (context.Request, context.RequestAborted);
        var isHeld = incoming.ContentLength is <= MostHeld || HttpMethods.IsGet(incoming.Method) || HttpMethods.IsHead(incoming.Method);
        var body = new byte[isHeld ? (int)(incoming.ContentLength ?? 0) : 0];
        if (isHeld) await incoming.Body.ReadExactlyAsync(body, cancellation);
        using var reply = await client.SendAsync(new ForwardedRequest
        {
            Method = HttpMethod.Parse(incoming.Method),
            Target = incoming.Path.ToUriComponent() + incoming.QueryString.ToUriComponent(),
            Key = key,
            Model = model,
            Headers = [.. from header in incoming.Headers where !NotPassed.Contains(header.Key) && !IsNamed(incoming.Headers.Connection, header.Key) select KeyValuePair.Create(header.Key, header.Value.ToString())],
            Body = body,
            Stream = isHeld ? null : incoming.Body,
            IsSafe = isSafe,
            TimeLeft = timeLeft,
        }, cancellation);

        var (answer, response) = (reply.Response, context.Response);
        response.StatusCode = (int)answer.StatusCode;
        foreach (var (name, values) in answer.Headers.NonValidated.Concat(answer.Content.Headers.NonValidated))
        {
            if (!NotPassed.Contains(name)) response.Headers[name] = values.ToArray();
        }
        try
        {
            await answer.Content.CopyToAsync(response.Body, cancellation);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            // The status has gone out: only breaking off says that this is not the whole answer.
            reply.Broke();
            context.Abort();
        }
    }

    private static bool IsNamed(Microsoft.Extensions.Primitives.StringValues connection, string name) =>
        connection.Count > 0 && connection.ToString().Split(',', StringSplitOptions.TrimEntries).Contains(name, StringComparer.OrdinalIgnoreCase);
}
