using System.Diagnostics;
using System.Net.Sockets;

namespace Skiff.Benchmarks;

/// <summary>What came back for one request, if anything did.</summary>
/// <param name="Index">Which of the workload's requests it was.</param>
/// <param name="Intended">When it should have been sent, in seconds from the beginning.</param>
/// <param name="Seconds">From when it should have been sent to the end of the reply, whatever kept it; infinite where none came.</param>
/// <param name="Status">0 where none came.</param>
internal sealed record Arrival(int Index, double Intended, double Seconds, int Status, bool HasRetryAfter, byte[] Body);

/// <summary>
/// Open loop: requests come at random moments (Poisson) that are fixed before the first is sent, whatever the server does, and latency counts from there, so that a server that is slow to answer does not
/// thereby get less to do. Who finds all connections taken waits for one, and that time counts too. One thread and poll(2), as in the closed loop.
/// </summary>
internal sealed class OpenLoop(ServerProcess server, Workload workload, int mostConnections)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    /// <summary>Sends at <paramref name="rate"/> a second for so many seconds, then gives the last a second to come back.</summary>
    public List<Arrival> Run(double rate, double seconds, int seed)
    {
        var intended = Times(rate, seconds, new Random(seed));
        var arrivals = new List<Arrival>(intended.Length);
        var busy = new Dictionary<Socket, (Connection Connection, int Request)>();
        var idle = new Stack<Connection>();
        var (readable, writable) = (new List<Socket>(), new List<Socket>());
        var next = 0;
        var started = Stopwatch.GetTimestamp();
        try
        {
            while (next < intended.Length || busy.Count > 0)
            {
                var now = Stopwatch.GetElapsedTime(started).TotalSeconds;
                if (now > seconds + Patience.TotalSeconds) break;
                while (next < intended.Length && intended[next] <= now && (idle.Count > 0 || busy.Count < mostConnections))
                {
                    if (!idle.TryPop(out var connection)) connection = new Connection(server.EndPoint);
                    connection.Start(workload.Exchanges[next % workload.Exchanges.Length]);
                    busy.Add(connection.Socket, (connection, next++));
                }
                Wait(busy, readable, writable, next < intended.Length ? intended[next] - now : Patience.TotalSeconds);
                foreach (var socket in writable) busy[socket].Connection.Send();
                foreach (var socket in readable)
                {
                    var (connection, request) = busy[socket];
                    if (!connection.TryReceive(out var reply)) continue;
                    var took = Stopwatch.GetElapsedTime(started).TotalSeconds - intended[request];
                    arrivals.Add(new Arrival(request % workload.Exchanges.Length, intended[request], took, reply.Status, !reply.Header("Retry-After"u8).IsEmpty, reply.Body().ToArray()));
                    busy.Remove(socket);
                    idle.Push(connection);
                }
            }
        }
        catch (BenchmarkException failure)
        {
            throw new BenchmarkException($"{server.Name} at {rate:0} a second: {failure.Message}\n{server.Obituary()}");
        }
        finally
        {
            foreach (var (connection, _) in busy.Values) connection.Dispose();
            foreach (var connection in idle) connection.Dispose();
        }
        // Those that are out, and those that no connection was ever free for.
        arrivals.AddRange(busy.Values.Select(left => left.Request).Concat(Enumerable.Range(next, intended.Length - next))
            .Select(request => new Arrival(request % workload.Exchanges.Length, intended[request], double.PositiveInfinity, 0, false, [])));
        return arrivals;
    }

    private static double[] Times(double rate, double seconds, Random random)
    {
        var times = new List<double>((int)(rate * seconds) + 64);
        for (var at = 0.0; (at -= Math.Log(1 - random.NextDouble()) / rate) < seconds;) times.Add(at);
        return [.. times];
    }

    private static void Wait(Dictionary<Socket, (Connection Connection, int Request)> busy, List<Socket> readable, List<Socket> writable, double seconds)
    {
        readable.Clear();
        writable.Clear();
        foreach (var (socket, (connection, _)) in busy)
        {
            readable.Add(socket);
            if (connection.HasMoreToSend) writable.Add(socket);
        }
        // poll(2) counts in milliseconds: the last of them is spent looking.
        var patience = TimeSpan.FromMilliseconds(Math.Floor(Math.Clamp(seconds * 1000, 0, 100)));
        if (readable.Count > 0) Socket.Select(readable, writable, null, patience);
        else if (patience > TimeSpan.Zero) Thread.Sleep(patience);
    }
}
