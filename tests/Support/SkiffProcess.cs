using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace Skiff.Support;

/// <summary>What a command printed and how it ended.</summary>
public sealed record CommandResult(int ExitCode, string Output, string Error)
{
    /// <summary>The lines of standard error.</summary>
    public string[] ErrorLines => Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}

/// <summary>
/// <c>skiff</c> as a process of its own, from the program that the build lays beside the tests: a command that runs to its end, or a server that is
/// signalled or killed.
/// </summary>
public sealed partial class SkiffProcess : IAsyncDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _error = new();
    private readonly TaskCompletionSource<string> _address = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private HttpClient? _client;

    private SkiffProcess(ProcessStartInfo start)
    {
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Append(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Append(_error, line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>Talks to the server.</summary>
    public HttpClient Client => _client ??= new HttpClient { BaseAddress = Address, Timeout = Limit };

    /// <summary>Where the server listens, as it printed it.</summary>
    public Uri Address => new(_address.Task.Result);

    public string Output => Text(_output);

    public int Id => _process.Id;

    /// <summary>Runs a command to its end.</summary>
    public static Task<CommandResult> RunAsync(params string[] arguments) => RunAsync([], arguments);

    public static async Task<CommandResult> RunAsync((string Name, string Value)[] environment, params string[] arguments)
    {
        await using var process = Start("skiff", environment, arguments);
        return await process.WaitAsync();
    }

    /// <summary>Runs <c>skiff-heavy</c> to its end, which comes where it refuses to start.</summary>
    public static async Task<CommandResult> RunHeavyAsync((string Name, string Value)[] environment, params string[] arguments)
    {
        await using var process = Start("skiff-heavy", environment, arguments);
        return await process.WaitAsync();
    }

    /// <summary>Starts a replica of the heavy tier on a free port and waits until it listens.</summary>
    public static Task<SkiffProcess> HeavyAsync(params (string Name, string Value)[] environment) => ListenAsync(Start("skiff-heavy", environment, ["--urls", "http://127.0.0.1:0"]));

    /// <summary>Starts a server on a free port and waits until it listens.</summary>
    public static Task<SkiffProcess> ServeAsync(string data, params string[] arguments) => ServeAsync([], data, arguments);

    public static Task<SkiffProcess> ServeAsync((string Name, string Value)[] environment, string data, params string[] arguments) =>
        ListenAsync(Start("skiff", environment, ["serve", "--data", data, "--urls", "http://127.0.0.1:0", .. arguments]));

    private static async Task<SkiffProcess> ListenAsync(SkiffProcess process)
    {
        var ended = process.WaitAsync();
        if (await Task.WhenAny(process._address.Task, ended) != ended) return process;
        var result = await ended;
        await process.DisposeAsync();
        throw new InvalidOperationException($"the server ended with {result.ExitCode}: {result.Output}{result.Error}");
    }

    /// <summary>Waits until the process has ended.</summary>
    public async Task<CommandResult> WaitAsync()
    {
        using var limit = new CancellationTokenSource(Limit);
        try
        {
            await _process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            throw new TimeoutException($"skiff did not end within {Limit.TotalSeconds} s: {Output}{Text(_error)}");
        }
        return new CommandResult(_process.ExitCode, Output, Text(_error));
    }

    /// <summary>What Ctrl-C sends.</summary>
    public void Interrupt() => Signal(2);

    /// <summary>What a service manager sends first.</summary>
    public void Terminate() => Signal(15);

    /// <summary>Ends the process without a word, as a loss of power would.</summary>
    public async Task KillAsync()
    {
        Signal(9);
        await WaitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        _client?.Dispose();
        if (!_process.HasExited) await KillAsync();
        _process.Dispose();
    }

    private static SkiffProcess Start(string program, (string Name, string Value)[] environment, string[] arguments)
    {
        var dotnet = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } path ? path : "dotnet";
        string[] command = [dotnet, Path.Combine(AppContext.BaseDirectory, program + ".dll"), .. arguments];
        if (IgnoresInterrupts()) command = ["env", "--default-signal=INT", .. command];
        var start = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("SKIFF_", StringComparison.Ordinal) || name.StartsWith("ASPNETCORE_", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }
        foreach (var (name, value) in environment) start.Environment[name] = value;
        return new SkiffProcess(start);
    }

    /// <summary>A shell without job control starts what runs in its background with interrupts ignored, and children inherit that.</summary>
    private static bool IgnoresInterrupts()
    {
        const string status = "/proc/self/status";
        const string ignored = "SigIgn:";
        if (!File.Exists(status)) return false;
        var mask = File.ReadLines(status).First(line => line.StartsWith(ignored, StringComparison.Ordinal))[ignored.Length..].Trim();
        return (Convert.ToUInt64(mask, 16) & 2) != 0;
    }

    private void Append(StringBuilder text, string? line)
    {
        if (line is null) return;
        lock (text) text.Append(line).Append('\n');
        const string listens = " listens on ";
        var at = line.IndexOf(listens, StringComparison.Ordinal);
        if (at >= 0) _address.TrySetResult(line[(at + listens.Length)..].Split(';', ',')[0]);
    }

    private static string Text(StringBuilder text)
    {
        lock (text) return text.ToString();
    }

    private void Signal(int signal) => Signal(_process.Id, signal);

    /// <summary>Signals another process.</summary>
    public static void Signal(int process, int signal)
    {
        if (Kill(process, signal) != 0) throw new InvalidOperationException($"signal {signal} could not be sent");
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int process, int signal);
}
