using System.ComponentModel;
using System.Diagnostics;
using Skiff.Store;

namespace Skiff.Serve.Replicas;

/// <summary>
/// One replica: this program once more, on a port of its own, started again whenever it ends. It lives as long as its standard input is open, so it can't outlive the process that started it, however that ends.
/// </summary>
internal sealed class ReplicaProcess(int number, string data, ILogger log)
{
    private const string Listens = " listens on ";
    private static readonly TimeSpan ShortestPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LongEnough = TimeSpan.FromSeconds(10); // lived so long, it was no failure to start
    private static readonly TimeSpan Leaves = TimeSpan.FromSeconds(35); // a host answers what has begun for 30 s

    private readonly CancellationTokenSource _stopping = new();
    private readonly TaskCompletionSource<Uri> _first = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _keeping = Task.CompletedTask;
    private Uri? _address;

    /// <summary>Fires when it listens, at first and after each new start.</summary>
    public event Action<Uri>? Listening;

    /// <summary>Where it listens, or did last; null before.</summary>
    public Uri? Address => Volatile.Read(ref _address);

    /// <summary>Starts it, and waits until it listens for the first time.</summary>
    /// <exception cref="StoreException">It ended before; the message has what it said.</exception>
    public Task<Uri> StartAsync(CancellationToken cancellation)
    {
        _keeping = Task.Run(KeepAsync, CancellationToken.None);
        return _first.Task.WaitAsync(cancellation);
    }

    /// <summary>Lets it answer what has begun, and end.</summary>
    public async Task StopAsync()
    {
        await _stopping.CancelAsync();
        await _keeping;
    }

    private async Task KeepAsync()
    {
        var pause = ShortestPause;
        while (!_stopping.IsCancellationRequested)
        {
            var started = Stopwatch.GetTimestamp();
            var (exitCode, said) = await TryRunAsync();
            if (_stopping.IsCancellationRequested) return;
            if (!_first.Task.IsCompleted)
            {
                _first.TrySetException(new StoreException($"replica {number} ended with {exitCode} before it listened{(said.Length > 0 ? $": {said}" : "")}"));
                return;
            }
            if (Stopwatch.GetElapsedTime(started) > LongEnough) pause = ShortestPause;
            else pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
            log.LogError("replica {Number} ended with {ExitCode}; it is started again in {Pause} ms", number, exitCode, pause.TotalMilliseconds);
            await Task.Delay(pause, _stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>The same where the system has no place for another process just now.</summary>
    private async Task<(int ExitCode, string Said)> TryRunAsync()
    {
        try
        {
            return await RunAsync();
        }
        catch (Win32Exception e)
        {
            return (e.NativeErrorCode, $"can't be started: {e.Message}");
        }
    }

    /// <returns>How it ended, and the last that it said about that.</returns>
    private async Task<(int ExitCode, string Said)> RunAsync()
    {
        var said = "";
        // The same port again: it is by its address that a replica has its users.
        using var process = new Process { StartInfo = Command("--data", data, "--urls", _address?.GetLeftPart(UriPartial.Authority) ?? "http://127.0.0.1:0") };
        process.OutputDataReceived += (_, line) => Hear(line.Data);
        process.ErrorDataReceived += (_, line) =>
        {
            if (string.IsNullOrWhiteSpace(line.Data)) return;
            said = line.Data;
            Console.Error.WriteLine($"replica {number}: {line.Data}");
        };
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        using (_stopping.Token.Register(process.StandardInput.Close))
        {
            try
            {
                await process.WaitForExitAsync(_stopping.Token);
            }
            catch (OperationCanceledException)
            {
                await LeaveAsync(process);
            }
        }
        // Another may have taken its port meanwhile; then it gets a new one.
        if (process.ExitCode != 0 && said.Contains("address already in use", StringComparison.OrdinalIgnoreCase)) _address = null;
        return (process.ExitCode, said);
    }

    private async Task LeaveAsync(Process process)
    {
        using var limit = new CancellationTokenSource(Leaves);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            log.LogError("replica {Number} did not end in {Seconds} s and is killed", number, Leaves.TotalSeconds);
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    private void Hear(string? line)
    {
        var at = line?.IndexOf(Listens, StringComparison.Ordinal) ?? -1;
        if (at < 0) return;
        _address = new Uri(line![(at + Listens.Length)..]);
        Listening?.Invoke(_address);
        _first.TrySetResult(_address);
    }

    /// <summary>This program with other arguments, as it was started itself: by its own executable, or by <c>dotnet</c>.</summary>
    private static ProcessStartInfo Command(params string[] arguments)
    {
        var program = Environment.ProcessPath ?? throw new InvalidOperationException("the program's own path is not known");
        string[] own = Path.GetFileNameWithoutExtension(program) == "dotnet" ? [typeof(ReplicaProcess).Assembly.Location] : [];
        return new ProcessStartInfo(program, [.. own, "serve", ServeCommand.ReplicaOption, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
    }
}
