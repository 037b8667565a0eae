namespace Skiff.Support;

/// <summary>The checkout that the tests were built in.</summary>
public static class Repository
{
    public static string Root { get; } = Find(AppContext.BaseDirectory);

    /// <summary>A file below <c>infrastructure/samples</c>.</summary>
    public static string Sample(string path) => Path.Combine(Root, "infrastructure", "samples", path);

    private static string Find(string? folder)
    {
        while (folder is not null && !File.Exists(Path.Combine(folder, "Serverless.sln"))) folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException($"there is no Serverless.sln above {AppContext.BaseDirectory}: run the tests from a checkout");
    }
}
