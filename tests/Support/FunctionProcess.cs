using System.Diagnostics;
using System.Text;

namespace Skiff.Support;

/// <summary>A function's executable as it is published, run as its host runs it: told by its environment where the host is, and nothing else said to it.</summary>
public sealed class FunctionProcess : IAsyncDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();

    /// <summary>On Lambda, whose Runtime API this is.</summary>
    public FunctionProcess(string name, LambdaRuntimeApi api, params (string Name, string Value)[] environment)
        : this(name, [("AWS_LAMBDA_RUNTIME_API", api.Address), .. environment])
    {
    }

    /// <param name="name">Its folder in <c>functions/</c>; or the path of an executable.</param>
    public FunctionProcess(string name, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(File.Exists(name) ? name : PublishedFunction.Of(name));
        start.RedirectStandardOutput = start.RedirectStandardError = true;
        foreach (var (variable, value) in environment) start.Environment[variable] = value;
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) => Append(line.Data);
        _process.ErrorDataReceived += (_, line) => Append(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>What it has printed.</summary>
    public string Output
    {
        get
        {
            lock (_output) return _output.ToString();
        }
    }

    public bool HasExited => _process.HasExited;

    public async Task<int> WaitAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        await _process.WaitForExitAsync(limit.Token);
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited) _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private void Append(string? line)
    {
        lock (_output) _output.AppendLine(line);
    }
}
