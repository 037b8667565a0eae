using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Skiff.Lambda;

/// <summary>
/// An answer that goes out piece by piece. What fails midway is told in trailers, which <see cref="HttpClient"/> can't send with a request; so this one request is written by hand,
/// on a connection of its own.
/// </summary>
public sealed class StreamedResponse : IAsyncDisposable
{
    private readonly NetworkStream _connection;

    private StreamedResponse(NetworkStream connection) => _connection = connection;

    /// <summary>Whether it can still be written.</summary>
    public bool IsOpen { get; private set; } = true;

    internal static async Task<StreamedResponse> OpenAsync(string address, string path, CancellationToken cancellation)
    {
        var authority = new Uri("http://" + address);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(authority.Host, authority.Port, cancellation);
            var response = new StreamedResponse(new NetworkStream(socket, ownsSocket: true));
            var head = $"POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
                + "Content-Type: application/vnd.awslambda.http-integration-response\r\n"
                + "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
                + "Transfer-Encoding: chunked\r\n"
                + "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n";
            await response._connection.WriteAsync(Encoding.ASCII.GetBytes(head), cancellation);
            return response;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Sends a piece, which Lambda hands on as it comes.</summary>
    public async Task WriteAsync(ReadOnlyMemory<byte> piece, CancellationToken cancellation)
    {
        // An empty chunk would be the end.
        if (piece.IsEmpty) return;
        await _connection.WriteAsync(Encoding.ASCII.GetBytes(piece.Length.ToString("x", CultureInfo.InvariantCulture) + "\r\n"), cancellation);
        await _connection.WriteAsync(piece, cancellation);
        await _connection.WriteAsync("\r\n"u8.ToArray(), cancellation);
    }

    /// <exception cref="RuntimeApiException">Lambda did not take the answer.</exception>
    public Task CompleteAsync(CancellationToken cancellation) => EndAsync("", cancellation);

    /// <summary>Ends an answer that can't be completed, and says why.</summary>
    /// <exception cref="RuntimeApiException">Lambda did not take the answer.</exception>
    public Task FailAsync(RuntimeError error, CancellationToken cancellation) => EndAsync(
        $"Lambda-Runtime-Function-Error-Type: {error.Type}\r\nLambda-Runtime-Function-Error-Body: {Convert.ToBase64String(error.ToJson().Span)}\r\n", cancellation);

    public ValueTask DisposeAsync() => _connection.DisposeAsync();

    private async Task EndAsync(string trailers, CancellationToken cancellation)
    {
        const string what = "a streamed POST response";
        IsOpen = false;
        try
        {
            await _connection.WriteAsync(Encoding.ASCII.GetBytes($"0\r\n{trailers}\r\n"), cancellation);
            using var reader = new StreamReader(_connection, Encoding.ASCII, leaveOpen: true);
            // "HTTP/1.1 202 Accepted"
            var line = await reader.ReadLineAsync(cancellation) ?? "";
            if (line.Split(' ') is not [_, var code, ..] || !int.TryParse(code, NumberStyles.None, CultureInfo.InvariantCulture, out var status))
            {
                throw new IOException("the connection ended without a status");
            }
            if (status is < 200 or > 299) throw new RuntimeApiException(what, (HttpStatusCode)status);
        }
        catch (IOException e)
        {
            // Lost with its own connection; whether the API is still there, the next poll will tell.
            throw new RuntimeApiException(what, isFatal: false, e);
        }
    }
}
