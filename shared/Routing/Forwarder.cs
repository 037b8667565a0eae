using Microsoft.AspNetCore.Http;

namespace Skiff.Routing;

/// <summary>
/// Passes an HTTP request on to a replica, and its answer back, byte for byte: binary tensors and streams as they are. Up to 1 MiB a body is held, so that it can be sent again; a longer one flows through and
/// is sent once. Headers that belong to one connection stay there, and so does what we say among ourselves.
/// </summary>
public sealed class Forwarder(ReplicaClient client)
{
    private const int MostHeld = 1 << 20;

    // RFC 9110, 7.6.1, and what belongs to the message's framing, which each connection has its own of.
    private static readonly HashSet<string> NotPassed = new(StringComparer.OrdinalIgnoreCase)
    {
        "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
        ReplicaReport.LoadHeader, ReplicaReport.QueueHeader, ReplicaReport.WarmHeader, ReplicaReport.WorkersHeader, ReplicaReport.ShareHeader, ReplicaReport.VersionHeader, CallerSignature.Header, ReplicaClient.DeadlineHeader, TraceParent.Header, TraceParent.StateHeader,
    };

    /// <param name="key">What it is routed by (<see cref="RouteKey"/>), from its body; that is empty where it was too long to be held. May take its time, and add to the request's headers.</param>
    /// <param name="isSafe">Whether asking twice does no harm.</param>
    /// <exception cref="RequestException">Nobody answered.</exception>
    public async Task ForwardAsync(HttpContext context, Func<ReadOnlyMemory<byte>, ValueTask<ulong>> key, ulong model, bool isSafe, TimeSpan? timeLeft)
    {
        var (incoming, cancellation) = (context.Request, context.RequestAborted);
        var (body, rest) = await HoldAsync(incoming, cancellation);
        using var reply = await client.SendAsync(new ForwardedRequest
        {
            Method = HttpMethod.Parse(incoming.Method),
            Target = incoming.Path.ToUriComponent() + incoming.QueryString.ToUriComponent(),
            Key = await key(body),
            Model = model,
            Headers = [.. from header in incoming.Headers where !NotPassed.Contains(header.Key) && !IsNamed(incoming.Headers.Connection, header.Key) select KeyValuePair.Create(header.Key, header.Value.ToString())],
            Trace = TraceParent.Read(incoming.Headers),
            Body = body,
            Stream = rest,
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

    /// <returns>The whole body, or a stream of it where that is long; most say how long they are, and those in chunks are mostly short too.</returns>
    private static async ValueTask<(byte[] Body, Stream? Stream)> HoldAsync(HttpRequest request, CancellationToken cancellation)
    {
        if (request.ContentLength > MostHeld) return ([], request.Body);
        if (request.ContentLength is { } length)
        {
            var whole = new byte[length];
            await request.Body.ReadExactlyAsync(whole, cancellation);
            return (whole, null);
        }
        using var held = new MemoryStream();
        var buffer = new byte[16 << 10];
        while (await request.Body.ReadAsync(buffer, cancellation) is > 0 and var count)
        {
            held.Write(buffer, 0, count);
            if (held.Length > MostHeld) return ([], new BegunStream(held.ToArray(), request.Body));
        }
        return (held.ToArray(), null);
    }

    private static bool IsNamed(Microsoft.Extensions.Primitives.StringValues connection, string name) =>
        connection.Count > 0 && connection.ToString().Split(',', StringSplitOptions.TrimEntries).Contains(name, StringComparer.OrdinalIgnoreCase);

    /// <summary>A stream of which the beginning has been read.</summary>
    private sealed class BegunStream(ReadOnlyMemory<byte> beginning, Stream rest) : Stream
    {
        private ReadOnlyMemory<byte> _beginning = beginning;

        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => false;
        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (_beginning.IsEmpty) return rest.ReadAsync(buffer, cancellationToken);
            var count = Math.Min(buffer.Length, _beginning.Length);
            _beginning[..count].CopyTo(buffer);
            _beginning = _beginning[count..];
            return ValueTask.FromResult(count);
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush()
        {
        }
    }
}
