using System.Diagnostics;

namespace Skiff.Support;

/// <summary>An executable as <c>dotnet publish</c> leaves it: what is deployed.</summary>
public static class PublishedFunction
{
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
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var printed = await process.StandardOutput.ReadToEndAsync() + await errors;
        await process.WaitForExitAsync();
        if (process.ExitCode != 0) throw new InvalidOperationException($"dotnet publish {project} {string.Join(' ', properties)} failed:\n{string.Join('\n', printed.Split('\n').TakeLast(15))}");
        return Path.Combine(output, "bootstrap");
    }
}
