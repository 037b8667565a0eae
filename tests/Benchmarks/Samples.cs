using System.Buffers.Binary;
using System.IO.Compression;

namespace Skiff.Benchmarks;

/// <summary>The sample model and the images that requests are made of, from <c>infrastructure/samples/fashion</c> unless another folder is named.</summary>
internal sealed class Samples
{
    public const string ModelName = "fm_mlp";
    public const int Pixels = 28 * 28;

    private const int IdxImagesMagic = 0x00000803;

    private Samples(string repositoryRoot, string modelFile, byte[][] images, string description)
    {
        RepositoryRoot = repositoryRoot;
        ModelFile = modelFile;
        Images = images;
        Description = description;
    }

    public string RepositoryRoot { get; }

    public string ModelFile { get; }

    /// <summary>Each 784 bytes, row by row, 0 to 255.</summary>
    public byte[][] Images { get; }

    /// <summary>Where the images came from.</summary>
    public string Description { get; }

    public static Samples Load(string? folder, int count)
    {
        var root = FindRepositoryRoot();
        folder ??= Path.Combine(root, "infrastructure", "samples", "fashion");
        var model = Path.Combine(folder, ModelName + ".onnx");
        if (!File.Exists(model)) throw new BenchmarkException($"{model} is missing; --samples names another folder.");

        // Test images where there are some: their files' names sort before those of val.
        var file = Directory.EnumerateFiles(folder, "*-images-idx3-ubyte.gz").Order(StringComparer.Ordinal).FirstOrDefault();
        return file is null
            ? new Samples(root, model, Synthetic(count), $"{count} synthetic images (no *-images-idx3-ubyte.gz in {folder})")
            : new Samples(root, model, ReadIdx(file, count), $"the first {count} images of {Path.GetFileName(file)}");
    }

    public static string FindRepositoryRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Directory.Packages.props"))) return folder.FullName;
        }
        throw new BenchmarkException($"no folder above {AppContext.BaseDirectory} is the repository's root (the one with Directory.Packages.props).");
    }

    /// <summary>IDX: four big-endian integers (magic, images, rows, columns), then the pixels.</summary>
    private static byte[][] ReadIdx(string path, int count)
    {
        using var file = new GZipStream(File.OpenRead(path), CompressionMode.Decompress);
        Span<byte> header = stackalloc byte[16];
        file.ReadExactly(header);
        var available = BinaryPrimitives.ReadInt32BigEndian(header[4..]);
        var pixels = BinaryPrimitives.ReadInt32BigEndian(header[8..]) * BinaryPrimitives.ReadInt32BigEndian(header[12..]);
        if (BinaryPrimitives.ReadInt32BigEndian(header) != IdxImagesMagic || pixels != Pixels || available < count)
            throw new BenchmarkException($"{path} is not an IDX file of at least {count} images of 28 × 28 bytes.");

        return Enumerable.Range(0, count).Select(_ =>
        {
            var image = new byte[Pixels];
            file.ReadExactly(image);
            return image;
        }).ToArray();
    }

    /// <summary>About half of the pixels black, as in the real ones: zeros are short to write and quick to parse.</summary>
    private static byte[][] Synthetic(int count)
    {
        var random = new Random(784);
        return Enumerable.Range(0, count)
            .Select(_ => Enumerable.Range(0, Pixels).Select(_ => (byte)(random.Next(2) * random.Next(1, 256))).ToArray())
            .ToArray();
    }
}
