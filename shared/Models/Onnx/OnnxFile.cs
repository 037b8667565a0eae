namespace Skiff.Models;

/// <summary>What an ONNX file says about itself, read without the runtime.</summary>
public sealed record OnnxFile
{
    /// <summary>What a request has to give: the graph's inputs without those that an initializer fills.</summary>
    public required IReadOnlyList<TensorSpec> Inputs { get; init; }

    public required IReadOnlyList<TensorSpec> Outputs { get; init; }

    /// <summary>The exporter and its version, for example <c>pytorch 2.4.0</c>; empty when the file doesn't say.</summary>
    public required string Producer { get; init; }

    public required long IrVersion { get; init; }

    /// <summary>Version by operator domain; ONNX's own domain is <c>""</c>, also where the file calls it <c>ai.onnx</c>.</summary>
    public required IReadOnlyDictionary<string, long> Opsets { get; init; }

    public required IReadOnlyDictionary<string, string> Metadata { get; init; }

    /// <summary>Counted as <see cref="ModelLimits.MaxNodes"/> counts them.</summary>
    public required int Nodes { get; init; }

    /// <summary>Counted as <see cref="ModelLimits.MaxElements"/> counts them.</summary>
    public required long Elements { get; init; }

    /// <summary>
    /// Reads a file from a publisher who is not trusted, before the runtime does: in time linear in its bytes, on a bounded stack, and keeping a bounded
    /// part of it in memory.
    /// </summary>
    /// <exception cref="ModelRejectedException">The file is damaged, is no ONNX model, or asks for more than <paramref name="limits"/> allow; nothing else is thrown.</exception>
    public static OnnxFile Inspect(ReadOnlySpan<byte> bytes, ModelLimits limits)
    {
        if (bytes.IsEmpty)
            throw new ModelRejectedException("The model file is empty.");
        if (bytes.Length > limits.MaxBytes)
            throw new ModelRejectedException($"The model file has {bytes.Length} bytes; the limit is {limits.MaxBytes}.");
        if (ForeignFormat(bytes) is { } format)
            throw new ModelRejectedException($"The model file is {format}; only ONNX models (ModelProto) are taken.");
        return new OnnxInspector(bytes, limits).Inspect();
    }

    /// <summary>
    /// The files that are pushed by mistake, by their first bytes. ORTM is more than a courtesy: the runtime looks for it too and would read a file that
    /// has it as a flatbuffer, whatever this reader made of the rest.
    /// </summary>
    private static string? ForeignFormat(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length >= 8 && bytes[4..8].SequenceEqual("ORTM"u8))
            return "in the ONNX Runtime's own format (.ort)";
        if (bytes.Length >= 8 && bytes[4..8].SequenceEqual("TFL3"u8))
            return "a TensorFlow Lite model";
        if (bytes.StartsWith("{"u8) || bytes.StartsWith("["u8))
            return "JSON";
        if (bytes.StartsWith("<"u8))
            return "HTML or XML";
        if (bytes.StartsWith("version https://git-lfs"u8))
            return "a Git LFS pointer, which stands in for the model";
        if (bytes.StartsWith("PK\u0003\u0004"u8))
            return "a ZIP archive, as PyTorch and Keras save models";
        if (bytes.StartsWith("GGUF"u8))
            return "a GGUF model";
        if (bytes.StartsWith<byte>([0x89, (byte)'H', (byte)'D', (byte)'F']))
            return "an HDF5 file";
        if (bytes.StartsWith<byte>([0x89, (byte)'P', (byte)'N', (byte)'G']))
            return "a PNG image";
        if (bytes.StartsWith<byte>([0x1F, 0x8B]))
            return "compressed with gzip";
        return null;
    }
}
