using System.Diagnostics;
using System.Net.Sockets;
using System.Text;

namespace Skiff.Benchmarks;

/// <summary>
/// Closed loop: each connection sends its next request as soon as it has the last answer. One thread and poll(2), no tasks and no thread pool, so that a request costs
/// the generator a few system calls and the server is what is measured.
/// </summary>
internal sealed class LoadGenerator : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private readonly ServerProcess server;
    private readonly Workload workload;
    private readonly Dictionary<Socket, Connection> connections = [];
    private int turn;

    public LoadGenerator(ServerProcess server, Workload workload, int connections)
    {
        this.server = server;
        this.workload = workload;
        for (var i = 0; i < connections; i++)
        {
            var connection = new Connection(server.EndPoint);
            this.connections.Add(connection.Socket, connection);
        }
    }

    /// <summary>
    /// Generates load for <paramref name="duration"/>, then waits for the answers that are still out: what the server did meanwhile is exactly the requests that are
    /// counted. Every status is checked, and the values of one answer in <paramref name="verifyEvery"/>.
    /// </summary>
    public Load Run(TimeSpan duration, int verifyEvery)
    {
        try
        {
            return Loop(duration, verifyEvery);
        }
        catch (BenchmarkException failure)
        {
            throw new BenchmarkException($"{server.Name}, {connections.Count} connections: {failure.Message}\n{server.Obituary()}");
        }
    }

    public void Dispose()
    {
        foreach (var connection in connections.Values) connection.Dispose();
    }

    private Load Loop(TimeSpan duration, int verifyEvery)
    {
        var readable = new List<Socket>(connections.Count);
        var writable = new List<Socket>(connections.Count);
        var latencies = new List<long>(1 << 17);
        var started = Stopwatch.GetTimestamp();
        var deadline = started + (long)(duration.TotalSeconds * Stopwatch.Frequency);

        var underWay = connections.Count;
        foreach (var connection in connections.Values) connection.Start(Next());
        while (underWay > 0)
        {
            Wait(readable, writable);
            foreach (var socket in writable) connections[socket].Send();
            foreach (var socket in readable)
            {
                var connection = connections[socket];
                if (!connection.TryReceive(out var reply)) continue;

                var now = Stopwatch.GetTimestamp();
                latencies.Add(now - connection.StartedAt);
                if (!reply.IsOk) throw new BenchmarkException($"{reply.StatusLine}: {Encoding.UTF8.GetString(reply.Body())}");
                if (latencies.Count % verifyEvery == 0) workload.Verify(connection.Exchange, reply);

                if (now < deadline) connection.Start(Next());
                else underWay--;
            }
        }
        return new Load(Stopwatch.GetElapsedTime(started), latencies);
    }

    private Exchange Next() => workload.Exchanges[turn++ % workload.Exchanges.Length];

    private void Wait(List<Socket> readable, List<Socket> writable)
    {
        readable.Clear();
        writable.Clear();
        foreach (var (socket, connection) in connections)
        {
            readable.Add(socket);
            if (connection.HasMoreToSend) writable.Add(socket);
        }
        Socket.Select(readable, writable, null, Patience);
        if (readable.Count + writable.Count == 0) throw new BenchmarkException($"no answer within {Patience.TotalSeconds} s");
    }
}

/// <summary>What a run of the load generator saw.</summary>
internal sealed class Load
{
    // Stopwatch ticks, ascending.
    private readonly long[] latencies;

    public Load(TimeSpan elapsed, IEnumerable<long> latencies)
    {
        Elapsed = elapsed;
        this.latencies = [.. latencies.Order()];
    }

    public TimeSpan Elapsed { get; }

    public int Requests => latencies.Length;

    /// <summary>The latency that the given share of the requests did not exceed (nearest rank).</summary>
    public TimeSpan Percentile(double share) => Stopwatch.GetElapsedTime(0, latencies[Math.Max(0, (int)Math.Ceiling(share * latencies.Length) - 1)]);
}
