using System.Text.RegularExpressions;
using Skiff.Serve;

namespace Skiff.Support;

/// <summary>
/// Apps with an objective that is met on a machine which has other things to do too: what doesn't begin by the objective is answered without it, and most tests are about something else.
/// </summary>
public static partial class Patient
{
    private const string Objective = "\"objective_ms\": 60000";

    /// <summary>A folder like <see cref="Samples.Folder"/>, made once a process.</summary>
    private static readonly Lazy<string> Copy = new(() =>
    {
        var copy = Directory.CreateTempSubdirectory("skiff-samples-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(copy, recursive: true);
        foreach (var file in Directory.EnumerateFiles(Serve.Samples.Folder, "*", SearchOption.AllDirectories))
        {
            var target = Path.Combine(copy, Path.GetRelativePath(Serve.Samples.Folder, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            if (Path.GetExtension(file) == ".json" && File.ReadAllText(file) is var text && Given().IsMatch(text)) File.WriteAllText(target, App(text));
            else File.CreateSymbolicLink(target, file);
        }
        return copy;
    });

    public static string Samples => Copy.Value;

    /// <summary>One of the sample apps.</summary>
    public static string Sample(string path) => App(File.ReadAllText(Repository.Sample(path)));

    /// <summary>An app document that says an objective, with another.</summary>
    public static string App(string json) => Given().Replace(json, Objective);

    /// <summary>An app document that leaves the objective open, with one.</summary>
    public static string AppWithout(string json) => json.Contains("\"objective_ms\"") || !json.StartsWith('{') ? json : $"{{{Objective},{json[1..]}";

    [GeneratedRegex("""
        "objective_ms": *[0-9.]+
        """)]
    private static partial Regex Given();
}
