using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Skiff.Benchmarks;

/// <summary>A server under measurement: a child process on a loopback port of its own, on the servers' core. Disposing stops it.</summary>
internal sealed class ServerProcess : IDisposable
{
    private const string AllocatedBytesMetric = "dotnet_gc_allocated_bytes_total";
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);

    // What would tune one runtime or configure one server and not another; none reaches a child.
    private static readonly string[] ForeignVariables = ["SKIFF_", "ASPNETCORE_", "COMPlus_", "DOTNET_Tiered", "DOTNET_TC_", "DOTNET_ReadyToRun", "DOTNET_gc", "DOTNET_GC"];

    private readonly Process process;
    private readonly Transcript transcript;
    private readonly HttpClient http;

    private ServerProcess(string name, Process process, Transcript transcript, IPEndPoint endPoint)
    {
        Name = name;
        EndPoint = endPoint;
        this.process = process;
        this.transcript = transcript;
        AppDomain.CurrentDomain.ProcessExit += Kill; // An interrupted run disposes of nothing.
        http = new HttpClient { BaseAddress = new Uri($"http://{endPoint}"), Timeout = TimeSpan.FromSeconds(10) };
    }

    public string Name { get; }

    public IPEndPoint EndPoint { get; }

    public int Id => process.Id;

    /// <summary>User and kernel time of all its threads since it started. Linux counts in steps of 10 ms: measure over seconds.</summary>
    public TimeSpan ProcessorTime => process.TotalProcessorTime;

    /// <summary>The host that runs an assembly: the one that runs this, else the one on PATH.</summary>
    public static string DotnetHost => Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } path ? path : "dotnet";

    /// <summary>Starts <c>dotnet ASSEMBLY arguments</c> and waits until <paramref name="readyPath"/> answers 200.</summary>
    public static ServerProcess Start(string name, Cores cores, string assembly, Func<int, string[]> arguments, string readyPath, params (string Name, string Value)[] environment)
    {
        var endPoint = new IPEndPoint(IPAddress.Loopback, FreePort());
        var info = new ProcessStartInfo(DotnetHost, [assembly, .. arguments(endPoint.Port)]) { RedirectStandardOutput = true, RedirectStandardError = true };
        ShareEnvironment(info, cores);
        foreach (var (variable, value) in environment) info.Environment[variable] = value;
        try
        {
            var process = cores.Start(info);
            var server = new ServerProcess(name, process, Transcript.Of(process), endPoint);
            try
            {
                server.WaitUntilReady(readyPath);
                return server;
            }
            catch
            {
                server.Dispose();
                throw;
            }
        }
        catch (Win32Exception error)
        {
            throw new BenchmarkException($"{name} could not be started with '{DotnetHost}': {error.Message}");
        }
    }

    /// <summary>Bytes allocated on the managed heap since the start, from the server's own metrics; null where it has no such metric.</summary>
    public double? AllocatedBytes() => Metric(AllocatedBytesMetric);

    /// <summary>A figure without labels from the server's own metrics; null where it has no such metric.</summary>
    public double? Metric(string name)
    {
        using var response = Get("/metrics");
        if (!response.IsSuccessStatusCode) return null;
        using var lines = new StreamReader(response.Content.ReadAsStream());
        while (lines.ReadLine() is { } line)
        {
            if (line.StartsWith(name, StringComparison.Ordinal))
                return double.Parse(line[(line.LastIndexOf(' ') + 1)..], CultureInfo.InvariantCulture);
        }
        return null;
    }

    /// <summary>What to add when something failed that may be the server's doing: whether it still runs, and its last lines.</summary>
    public string Obituary()
    {
        // A connection breaks before its process has quite gone.
        var exited = process.WaitForExit(TimeSpan.FromSeconds(0.5));
        return $"{Name} {(exited ? $"exited with code {process.ExitCode}" : "is still running")}; its last lines:\n{transcript.Tail()}";
    }

    public void Dispose()
    {
        AppDomain.CurrentDomain.ProcessExit -= Kill;
        Kill(this, EventArgs.Empty);
        process.WaitForExit();
        process.Dispose();
        http.Dispose();
    }

    private void Kill(object? sender, EventArgs args)
    {
        if (!process.HasExited) process.Kill(entireProcessTree: true);
    }

    private HttpResponseMessage Get(string path) => http.Send(new HttpRequestMessage(HttpMethod.Get, path));

    private void WaitUntilReady(string path)
    {
        var started = Stopwatch.GetTimestamp();
        while (!process.HasExited && Stopwatch.GetElapsedTime(started) < StartLimit)
        {
            try
            {
                using var response = Get(path);
                if (response.StatusCode == HttpStatusCode.OK) return;
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }
            Thread.Sleep(10);
        }
        throw new BenchmarkException($"{Name} did not answer 200 to GET {path} within {StartLimit.TotalSeconds} s: {Obituary()}");
    }

    private static void ShareEnvironment(ProcessStartInfo info, Cores cores)
    {
        foreach (var variable in info.Environment.Keys.Where(key => ForeignVariables.Any(foreign => key.StartsWith(foreign, StringComparison.Ordinal))).ToArray())
            info.Environment.Remove(variable);
        info.Environment["DOTNET_gcServer"] = "0";
        if (cores.Pinned) info.Environment["DOTNET_PROCESSOR_COUNT"] = "1";
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    /// <summary>The last lines that a process wrote. Reading them also keeps its pipes from filling up.</summary>
    private sealed class Transcript
    {
        private const int Kept = 20;
        private readonly Queue<string> lines = new();

        public static Transcript Of(Process process)
        {
            var transcript = new Transcript();
            process.OutputDataReceived += (_, line) => transcript.Add(line.Data);
            process.ErrorDataReceived += (_, line) => transcript.Add(line.Data);
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            return transcript;
        }

        public string Tail()
        {
            lock (lines) return lines.Count == 0 ? "(none)" : string.Join('\n', lines);
        }

        private void Add(string? line)
        {
            if (line is null) return;
            lock (lines)
            {
                lines.Enqueue(line);
                if (lines.Count > Kept) lines.Dequeue();
            }
        }
    }
}
