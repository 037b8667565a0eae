using System.Diagnostics;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Skiff.Support;

/// <summary>A DynamoDB of our own for tests: the program from npm's <c>@dynoxide/linux-x64</c>, in memory, on a free loopback port.</summary>
public sealed class Dynoxide : IDisposable
{
    private static readonly string Program = Path.Combine(Repository.Root, "node_modules", "@dynoxide", "linux-x64", "dynoxide");

    private readonly Process _process;

    private Dynoxide(Process process, Uri address) => (_process, Address) = (process, address);

    public Uri Address { get; }

    /// <summary>Why it can't run here; null when it can. That npm has not fetched it is no reason: then the build is broken, and the tests say so by failing.</summary>
    public static string? Missing => !OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64
        ? "dynoxide's program is for linux-x64: set AWS_ENDPOINT_URL to a DynamoDB that these tests may write to"
        : null;

    public static async Task<Dynoxide> StartAsync()
    {
        if (!File.Exists(Program)) throw new InvalidOperationException($"{Program} is missing: run 'npm ci'");
        // A free port can be taken by another before it is used: then the program ends, and the next one is tried.
        for (var attempt = 1; ; attempt++)
        {
            var address = new Uri($"http://127.0.0.1:{LoopbackPort.Free()}");
            var process = Process.Start(new ProcessStartInfo(Program, ["serve", "--host", address.Host, "--port", $"{address.Port}"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            process.OutputDataReceived += (_, _) => { };
            process.ErrorDataReceived += (_, _) => { };
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            var server = new Dynoxide(process, address);
            try
            {
                await Eventually.HoldsAsync($"dynoxide listens on {address} or has ended", async () => process.HasExited || await AnswersAsync(address));
                if (!process.HasExited) return server;
                if (attempt == 5) throw new InvalidOperationException($"dynoxide ended with {process.ExitCode} each time");
            }
            catch
            {
                server.Dispose();
                throw;
            }
            server.Dispose();
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.Dispose();
    }

    private static async Task<bool> AnswersAsync(Uri address)
    {
        using var client = new TcpClient();
        try
        {
            await client.ConnectAsync(address.Host, address.Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
