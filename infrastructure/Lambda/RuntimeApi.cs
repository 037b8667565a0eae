using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Skiff.Lambda;

/// <summary>The Runtime API did not take what it was sent, or can't be reached.</summary>
public sealed class RuntimeApiException : Exception
{
    public RuntimeApiException(string what, HttpStatusCode status)
        : base($"the Runtime API answered {what} with {(int)status}") => IsFatal = status >= HttpStatusCode.InternalServerError;

    public RuntimeApiException(string what, bool isFatal, Exception inner)
        : base($"the Runtime API did not answer {what}: {inner.Message}", inner) => IsFatal = isFatal;

    /// <summary>
    /// Whether the process should end, so that Lambda starts another: 500 means that the environment is beyond repair, and without the API there is nothing to do.
    /// Anything else is about one invocation, which Lambda has then settled itself: 413, for one, is an answer that was too large and failed the invocation.
    /// </summary>
    public bool IsFatal { get; }
}

/// <summary>
/// The client of Lambda's Runtime API, <c>2018-06-01</c>. The calls of one loop follow each other, so they share one connection that is kept. They block: a loop has a thread of
/// its own with nothing else to do, and an event that wakes it at once, rather than a thread of the pool by way of another, is a third faster answered.
/// </summary>
public sealed class RuntimeApi : IDisposable
{
    private const string Header = "Lambda-Runtime-";

    private readonly HttpClient _http;
    private readonly string _address;

    /// <param name="address">Host and port.</param>
    public RuntimeApi(string address)
    {
        _address = address;
        var handler = new SocketsHttpHandler
        {
            UseProxy = false,
            UseCookies = false,
            AllowAutoRedirect = false,
            ActivityHeadersPropagator = null,
            // Between two events the process may be frozen for hours, and the connection outlives that.
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            // A socket that has never been used asynchronously blocks in the kernel. Left to itself the handler connects asynchronously, and then every event takes a way over two more threads.
            ConnectCallback = (context, cancellation) =>
            {
                var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                try
                {
                    socket.Connect(context.DnsEndPoint);
                    return ValueTask.FromResult<Stream>(new NetworkStream(socket, ownsSocket: true));
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            },
        };
        // The next event comes when it comes.
        _http = new HttpClient(handler) { BaseAddress = new Uri($"http://{address}/2018-06-01/runtime/"), Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <summary>Waits for an event, however long.</summary>
    /// <exception cref="RuntimeApiException">There won't be any.</exception>
    public Invocation Next(CancellationToken cancellation)
    {
        const string what = "GET next";
        try
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "invocation/next");
            using var response = _http.Send(request, HttpCompletionOption.ResponseHeadersRead, cancellation);
            if (!response.IsSuccessStatusCode) throw new RuntimeApiException(what, response.StatusCode);
            return new Invocation
            {
                Id = Value(response, "Aws-Request-Id") ?? throw Missing("Aws-Request-Id"),
                Deadline = long.TryParse(Value(response, "Deadline-Ms"), NumberStyles.None, CultureInfo.InvariantCulture, out var deadline)
                    ? DateTimeOffset.FromUnixTimeMilliseconds(deadline)
                    : throw Missing("Deadline-Ms"),
                TraceId = Value(response, "Trace-Id"),
                Event = Read(response.Content, cancellation),
            };
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new RuntimeApiException(what, isFatal: true, e);
        }

        static string? Value(HttpResponseMessage response, string name) => response.Headers.TryGetValues(Header + name, out var values) ? values.First() : null;
        static HttpRequestException Missing(string name) => new($"it has no {Header}{name}");
    }

    /// <param name="json">The answer.</param>
    /// <exception cref="RuntimeApiException">The answer was not taken.</exception>
    public void Respond(string id, ReadOnlyMemory<byte> json, CancellationToken cancellation) => Post($"invocation/{id}/response", json, null, cancellation);

    /// <exception cref="RuntimeApiException">The error was not taken.</exception>
    public void Fail(string id, RuntimeError error, CancellationToken cancellation) => Post($"invocation/{id}/error", error.ToJson(), error.Type, cancellation);

    /// <summary>Says that the function can't start; there are no invocations then.</summary>
    /// <exception cref="RuntimeApiException">The error was not taken.</exception>
    public void FailInit(RuntimeError error, CancellationToken cancellation) => Post("init/error", error.ToJson(), error.Type, cancellation);

    /// <summary>Begins an answer that is sent piece by piece.</summary>
    public Task<StreamedResponse> StreamAsync(string id, CancellationToken cancellation) =>
        StreamedResponse.OpenAsync(_address, $"/2018-06-01/runtime/invocation/{id}/response", cancellation);

    public void Dispose() => _http.Dispose();

    private static byte[] Read(HttpContent content, CancellationToken cancellation)
    {
        using var stream = content.ReadAsStream(cancellation);
        if (content.Headers.ContentLength is { } length)
        {
            var bytes = GC.AllocateUninitializedArray<byte>(checked((int)length));
            stream.ReadExactly(bytes);
            return bytes;
        }
        using var whole = new MemoryStream();
        stream.CopyTo(whole);
        return whole.ToArray();
    }

    private void Post(string path, ReadOnlyMemory<byte> json, string? errorType, CancellationToken cancellation)
    {
        var what = $"POST {path}";
        using var content = new ReadOnlyMemoryContent(json) { Headers = { ContentType = new("application/json") } };
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = content };
        if (errorType is not null) request.Headers.Add(Header + "Function-Error-Type", errorType);
        try
        {
            using var response = _http.Send(request, cancellation);
            if (!response.IsSuccessStatusCode) throw new RuntimeApiException(what, response.StatusCode);
        }
        catch (HttpRequestException e)
        {
            throw new RuntimeApiException(what, isFatal: true, e);
        }
    }
}
