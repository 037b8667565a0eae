namespace Skiff.Support;

/// <summary>The processes that a process has started, as Linux lists them.</summary>
public static class ChildProcesses
{
    /// <returns>Their ids, of those that still run.</returns>
    public static IReadOnlyList<int> Of(int process)
    {
        var children = new List<int>();
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), out var id) && Read(folder) is { } stat && stat.Parent == process && stat.State != "Z") children.Add(id);
        }
        return children;
    }

    public static bool IsRunning(int process) => Read($"/proc/{process}") is { State: not "Z" };

    private static (string State, int Parent)? Read(string folder)
    {
        try
        {
            // "17 (a name) S 12 …": the name may have spaces and brackets.
            var text = File.ReadAllText(Path.Combine(folder, "stat"));
            var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
            return (fields[0], int.Parse(fields[1], System.Globalization.CultureInfo.InvariantCulture));
        }
        catch (IOException)
        {
            return null; // it has ended meanwhile
        }
    }
}
