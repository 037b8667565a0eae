using System.Buffers.Text;
using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What Lambda's way costs a warm instance: the same prediction by the same executable, once as an event through the Runtime API and once as a request through Kestrel, one at a time.
/// The other side, Runtime API or client, is this process both times, with a socket that blocks. The clock runs while a caller waits: from an event for an instance that has asked for one to its answer.
/// What the instance does between two events is a row of its own.
/// </summary>
internal static class Warm
{
    private const int Unmeasured = 2000;

    public static Command Command()
    {
        var rounds = new Option<int>("--rounds") { Description = "Measurements of each kind, by turns; their median is reported", HelpName = "N", DefaultValueFactory = _ => 7 };
        var requests = new Option<int>("--requests") { Description = "Requests in a measurement", HelpName = "N", DefaultValueFactory = _ => 2000 };
        var published = new Option<string?>("--published") { Description = "Keep what is published in this folder, and use what is there already", HelpName = "DIR" };
        Suite.RequirePositive(rounds, requests);
        return Suite.Create("warm", "One prediction through the Runtime API beside the same through Kestrel.", [rounds, requests, published],
            (parsed, report) => RunAsync(parsed.GetValue(rounds), parsed.GetValue(requests), parsed.GetValue(published), report).GetAwaiter().GetResult());
    }

    private static async Task RunAsync(int rounds, int requests, string? published, Report report)
    {
        await using var moto = new MotoServer();
        var deployment = await Deployment.MakeAsync(moto);
        using var scratch = new ScratchFolder();
        var folder = published is null ? scratch.Path : Path.GetFullPath(published);
        report.Text("# warm\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {Environment.ProcessorCount} cores, nothing pinned");
        report.Text($"- {Deployment.Model}, one image as JSON, one request after the other; {rounds} rounds of {requests}, ways by turns; medians over the rounds");
        var rows = new List<string[]>();
        foreach (var kind in new[] { Published.Aot, Published.Jit10 })
        {
            await kind.MakeAsync(folder);
            using var lambda = LambdaWay.Start(kind, folder, deployment);
            using var kestrel = await KestrelWay.StartAsync(kind, folder, deployment);
            (Way Way, List<Measured> Results)[] ways = [(lambda, []), (kestrel, [])];
            for (var round = 0; round <= rounds; round++)
            {
                Console.Error.WriteLine($"... {kind.Name}, round {round} of {rounds}");
                foreach (var (way, results) in ways)
                {
                    var measured = Measure(way, round == 0 ? Unmeasured : requests);
                    if (round > 0) results.Add(measured);
                }
            }
            foreach (var (way, results) in ways)
            {
                rows.Add([kind.Name, kind.Framework, way.Name, Report.Number(Suite.Median(results.Select(result => result.P50)), "0"), Report.Number(Suite.Median(results.Select(result => result.P99)), "0"),
                    Report.Number(Suite.Median(results.Select(result => result.Between)), "0")]);
            }
            var ratio = Suite.Median(ways[0].Results.Zip(ways[1].Results, (through, beside) => through.P50 / beside.P50));
            report.Add($"{kind.Name} {kind.Framework}: Runtime API / Kestrel, median round trip", ratio, "ratio", Goal.AtMost(1.5));
        }
        report.Heading("Round trip of a prediction");
        report.Table(3, ["what", "framework", "through", "p50, µs", "p99, µs", "until it asks again, µs"], rows);
    }

    private static Measured Measure(Way way, int requests)
    {
        var times = new double[requests];
        var between = new double[requests];
        for (var i = 0; i < requests; i++)
        {
            var before = Stopwatch.GetTimestamp();
            way.AwaitIdle();
            var started = Stopwatch.GetTimestamp();
            way.Predict(verify: i == 0);
            times[i] = Stopwatch.GetElapsedTime(started).TotalMicroseconds;
            between[i] = Stopwatch.GetElapsedTime(before, started).TotalMicroseconds;
        }
        Array.Sort(times);
        Array.Sort(between);
        return new Measured(times[requests / 2], times[requests * 99 / 100], between[requests / 2]);
    }

    private readonly record struct Measured(double P50, double P99, double Between);

    /// <summary>A process, and how it is asked.</summary>
    private abstract class Way(string name, Process process) : IDisposable
    {
        public string Name => name;

        /// <summary>Comes back when the process waits for a request.</summary>
        public virtual void AwaitIdle()
        {
        }

        public abstract void Predict(bool verify);

        public virtual void Dispose()
        {
            process.Kill();
            process.WaitForExit();
            process.Dispose();
        }

        protected static Process Run(Published kind, string folder, Deployment deployment, params (string Name, string Value)[] environment)
        {
            var program = kind.ProgramIn(folder);
            var info = new ProcessStartInfo(program) { WorkingDirectory = Path.GetDirectoryName(program) };
            foreach (var (variable, value) in deployment.Settings.Concat(environment)) info.Environment[variable] = value;
            return Process.Start(info)!;
        }
    }

    private sealed class LambdaWay(Process process, Wire wire, Published kind, Deployment deployment) : Way("Runtime API", process)
    {
        private readonly byte[] _event = Encoding.UTF8.GetBytes(
            $"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\nLambda-Runtime-Deadline-Ms: {DateTimeOffset.UtcNow.AddHours(1).ToUnixTimeMilliseconds()}\r\n"
            + $"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\nContent-Length: {Encoding.UTF8.GetByteCount(deployment.Event)}\r\n\r\n{deployment.Event}");

        private bool _isAnswered; // and not yet told so

        public static LambdaWay Start(Published kind, string folder, Deployment deployment)
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            var process = Run(kind, folder, deployment, ("AWS_LAMBDA_RUNTIME_API", $"{listener.LocalEndpoint}"));
            return new LambdaWay(process, new Wire(listener.AcceptSocket()), kind, deployment);
        }

        public override void AwaitIdle()
        {
            if (_isAnswered) wire.Send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"u8);
            wire.Receive();
            if (!wire.Head.StartsWith("GET /2018-06-01/runtime/invocation/next ", StringComparison.Ordinal)) throw new BenchmarkException($"{kind.Name} asked {wire.Head}");
        }

        public override void Predict(bool verify)
        {
            wire.Send(_event);
            wire.Receive();
            _isAnswered = true;
            if (verify) deployment.Verify(kind.Name, new LambdaReport(wire.Head.Contains("/response ", StringComparison.Ordinal) ? "response" : "error", wire.Body.ToArray(), EmptyHeaders, EmptyHeaders));
        }

        public override void Dispose()
        {
            base.Dispose();
            wire.Dispose();
        }

        private static Dictionary<string, string> EmptyHeaders => [];
    }

    private sealed class KestrelWay(Process process, Wire wire, Published kind, Deployment deployment) : Way("Kestrel", process)
    {
        private readonly byte[] _request = [.. Encoding.ASCII.GetBytes(
            $"POST {Deployment.Route} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {deployment.Key}\r\nContent-Type: application/json\r\nContent-Length: {deployment.Body.Length}\r\n\r\n"), .. deployment.Body];

        public static async Task<KestrelWay> StartAsync(Published kind, string folder, Deployment deployment)
        {
            using var free = new TcpListener(IPAddress.Loopback, 0);
            free.Start();
            var place = (IPEndPoint)free.LocalEndpoint;
            free.Stop();
            var process = Run(kind, folder, deployment, ("ASPNETCORE_URLS", $"http://{place}"));
            Socket? socket = null;
            await Eventually.HoldsAsync($"{kind.Name} listens", () =>
            {
                socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
                try
                {
                    socket.Connect(place);
                    return Task.FromResult(true);
                }
                catch (SocketException)
                {
                    socket.Dispose();
                    return Task.FromResult(false);
                }
            });
            return new KestrelWay(process, new Wire(socket!), kind, deployment);
        }

        public override void Predict(bool verify)
        {
            wire.Send(_request);
            wire.Receive();
            if (!wire.Head.StartsWith("HTTP/1.1 200 ", StringComparison.Ordinal)) throw new BenchmarkException($"{kind.Name} answered {wire.Head}");
            if (verify) deployment.Verify(kind.Name, wire.Body.ToArray());
        }

        public override void Dispose()
        {
            base.Dispose();
            wire.Dispose();
        }
    }

    /// <summary>HTTP/1.1 messages with a length, over a socket that blocks: the least that the other side can be.</summary>
    private sealed class Wire : IDisposable
    {
        private readonly Socket _socket;
        private byte[] _buffer = new byte[1 << 16];
        private int _head;
        private int _length;

        public Wire(Socket socket)
        {
            _socket = socket;
            _socket.NoDelay = true;
            _socket.ReceiveTimeout = 60_000;
        }

        public string Head => Encoding.ASCII.GetString(_buffer, 0, _head);

        public ReadOnlySpan<byte> Body => _buffer.AsSpan(_head, _length - _head);

        public void Send(ReadOnlySpan<byte> message)
        {
            while (!message.IsEmpty) message = message[_socket.Send(message)..];
        }

        /// <summary>Receives one message; there is never more than one on its way.</summary>
        public void Receive()
        {
            _head = _length = 0;
            var whole = int.MaxValue;
            while (_length < whole)
            {
                if (_length == _buffer.Length) Array.Resize(ref _buffer, 2 * _buffer.Length);
                var count = _socket.Receive(_buffer.AsSpan(_length));
                if (count == 0) throw new BenchmarkException("the other side has closed the connection");
                _length += count;
                if (_head != 0 || _buffer.AsSpan(0, _length).IndexOf("\r\n\r\n"u8) is not (>= 0 and var end)) continue;
                _head = end + 4;
                whole = _head + ContentLength(_buffer.AsSpan(0, _head));
            }
        }

        public void Dispose() => _socket.Dispose();

        private static int ContentLength(ReadOnlySpan<byte> head)
        {
            var name = "\r\nContent-Length: "u8;
            var at = head.IndexOf(name);
            return at >= 0 && Utf8Parser.TryParse(head[(at + name.Length)..], out int length, out _) ? length : 0;
        }
    }
}
