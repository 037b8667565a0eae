using System.Text;
using System.Text.RegularExpressions;
using Skiff.Support;

namespace Skiff.Hosts.Deploy;

/// <summary>What is in a deployment package, against what Lambda's provided.al2023 has.</summary>
public sealed partial class PackageTests
{
    // Amazon Linux 2023's: glibc 2.34, and libstdc++ of GCC 11.
    private static readonly (string Name, Version Newest)[] Platform = [("GLIBC", new(2, 34)), ("GLIBCXX", new(3, 4, 29)), ("CXXABI", new(1, 3, 13))];

    [Theory]
    [InlineData("Predict", PublishedForm.Jit)]
    [InlineData("Predict", PublishedForm.NativeAot)]
    [InlineData("Feedback", PublishedForm.Jit)]
    [InlineData("Feedback", PublishedForm.NativeAot)]
    public async Task NativeFiles_NeedNoNewerLibrariesThanLambdaHas(string function, PublishedForm form)
    {
        if (form == PublishedForm.NativeAot) Assert.SkipWhen(PublishedFunction.NativeAotMissing is not null, PublishedFunction.NativeAotMissing ?? "");
        var folder = Path.GetDirectoryName(PublishedFunction.Of(function, form))!;
        var needed = new Dictionary<string, HashSet<string>>();
        foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            var bytes = await File.ReadAllBytesAsync(file, TestContext.Current.CancellationToken);
            if (!bytes.AsSpan().StartsWith("\u007fELF"u8)) continue;
            // The names of symbol versions are strings in the file, whole ones between zeros.
            needed[Path.GetRelativePath(folder, file)] = [.. SymbolVersion().Matches(Encoding.Latin1.GetString(bytes)).Select(match => match.Groups["version"].Value)];
        }

        Assert.Contains("bootstrap", needed.Keys);
        Assert.Contains("libonnxruntime.so", needed.Keys);
        Assert.All(needed, file => Assert.Contains(file.Value, version => version.StartsWith("GLIBC_", StringComparison.Ordinal)));
        Assert.Equal([], from file in needed from version in file.Value where IsTooNew(version) select $"{file.Key} needs {version}");
    }

    private static bool IsTooNew(string version)
    {
        var parts = version.Split('_');
        return Version.Parse(parts[1]) > Platform.Single(library => library.Name == parts[0]).Newest;
    }

    [GeneratedRegex(@"(?<=\0)(?<version>(GLIBC|GLIBCXX|CXXABI)_[0-9]+(\.[0-9]+)+)(?=\0)")]
    private static partial Regex SymbolVersion();
}
