using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Skiff.Support;

/// <summary>How an executable is published.</summary>
public enum PublishedForm
{
    /// <summary>Compiled as it runs, with a runtime of its own.</summary>
    Jit,

    /// <summary>Compiled ahead, for the framework whose runtime pack can be had.</summary>
    NativeAot,
}

/// <summary>An executable as <c>dotnet publish</c> leaves it: what is deployed.</summary>
public static class PublishedFunction
{
    private static readonly ConcurrentDictionary<(string Name, PublishedForm Form), Lazy<string>> Made = new();

    // Executables are built from projects in common, which two builds at once would both write.
    private static readonly SemaphoreSlim OneAtATime = new(1);

    /// <summary>What NativeAOT lacks here; null for nothing.</summary>
    public static string? NativeAotMissing =>
        !OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64 ? "functions are published for linux-x64, and NativeAOT only there"
        : (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, "clang")) || File.Exists(Path.Combine(folder, "gcc"))) ? null
        : "there is no linker for NativeAOT: apt-get install clang zlib1g-dev";

    /// <summary>Publishes a function with its defaults; once, however often it is asked for.</summary>
    /// <param name="name">Its folder in <c>functions/</c>.</param>
    /// <returns>The executable.</returns>
    public static string Of(string name, PublishedForm form = PublishedForm.Jit) => Made.GetOrAdd((name, form), key => new Lazy<string>(() => MakeAsync(
        $"functions/{key.Name}", Path.Combine(Repository.Root, "functions", key.Name, "bin", "published", $"{key.Form}"), key.Form == PublishedForm.Jit ? [] : ["SkiffFramework=net9.0", "PublishAot=true"]).GetAwaiter().GetResult())).Value;

    /// <param name="project">Its folder below the repository's root.</param>
    /// <param name="output">Where the executable and what it needs go.</param>
    /// <param name="properties">As <c>-p:</c> takes them: <c>PublishAot=true</c>.</param>
    /// <returns>The executable.</returns>
    /// <exception cref="InvalidOperationException">It could not be published; the message has the last lines that were printed.</exception>
    public static async Task<string> MakeAsync(string project, string output, params string[] properties)
    {
        var start = new ProcessStartInfo("dotnet", ["publish", Path.Combine(Repository.Root, project), "-c", "Release", "-o", output, "-nologo", .. properties.Select(property => "-p:" + property)])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // What a surrounding `dotnet test` tells its children about itself is not for this one.
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase)).ToArray()) start.Environment.Remove(name);
        // A server that outlives the command would keep its output open.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["UseSharedCompilation"] = "false";
        await OneAtATime.WaitAsync();
        try
        {
            await RunAsync(start, $"dotnet publish {project} {string.Join(' ', properties)}");
        }
        finally
        {
            OneAtATime.Release();
        }
        return Path.Combine(output, "bootstrap");
    }

    private static async Task RunAsync(ProcessStartInfo start, string what)
    {
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var printed = await process.StandardOutput.ReadToEndAsync() + await errors;
        await process.WaitForExitAsync();
        if (process.ExitCode != 0) throw new InvalidOperationException($"{what} failed:\n{string.Join('\n', printed.Split('\n').TakeLast(15))}");
    }
}
