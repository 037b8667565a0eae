using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Skiff.Benchmarks;

/// <summary>A client's connection with at most one request under way. Nothing here waits: the load generator knows when there is something to read or room to write.</summary>
internal sealed class Connection : IDisposable
{
    private Exchange? exchange;
    private int sent;
    private byte[] buffer = new byte[8192];
    private int received;

    public Connection(IPEndPoint endPoint)
    {
        Socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        Socket.Connect(endPoint);
        Socket.Blocking = false;
    }

    public Socket Socket { get; }

    /// <summary>What was asked last.</summary>
    public Exchange Exchange => exchange ?? throw new InvalidOperationException("nothing was sent yet");

    /// <summary>When the first byte of the request was handed over, in <see cref="Stopwatch"/> ticks.</summary>
    public long StartedAt { get; private set; }

    /// <summary>A part of the request still waits for room in the socket's buffer.</summary>
    public bool HasMoreToSend => sent < exchange?.Request.Length;

    public void Start(Exchange next)
    {
        exchange = next;
        sent = 0;
        received = 0;
        StartedAt = Stopwatch.GetTimestamp();
        Send();
    }

    public void Send()
    {
        var count = Socket.Send(Exchange.Request.AsSpan(sent), SocketFlags.None, out var error);
        if (error is not (SocketError.Success or SocketError.WouldBlock)) throw new BenchmarkException($"sending failed: {error}");
        sent += count;
    }

    /// <summary>Takes what has arrived; true with the reply when that completes it. The reply lives until the next <see cref="Start"/>.</summary>
    public bool TryReceive(out HttpReply reply)
    {
        if (received == buffer.Length) Array.Resize(ref buffer, buffer.Length * 2);
        var count = Socket.Receive(buffer.AsSpan(received), SocketFlags.None, out var error);
        if (error == SocketError.WouldBlock)
        {
            reply = default;
            return false;
        }
        if (error != SocketError.Success) throw new BenchmarkException($"receiving failed: {error}");
        if (count == 0) throw new BenchmarkException("the server closed a connection");
        received += count;
        return HttpReply.TryRead(buffer.AsSpan(0, received), out reply);
    }

    public void Dispose() => Socket.Dispose();
}
