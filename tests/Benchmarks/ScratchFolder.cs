namespace Skiff.Benchmarks;

/// <summary>A temporary folder that goes with its owner.</summary>
internal sealed class ScratchFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("skiff-benchmarks-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
