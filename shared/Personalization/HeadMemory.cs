using System.Buffers.Binary;

namespace Skiff.Personalization;

/// <summary>
/// What learning needs of a user beyond w and P. Stored beside the covariance as little-endian bytes; none at all is a memory of nothing, which is what heads have that were stored before there was one.
/// <code>
/// version 1 | 0 3 | age 4 | reopened 4 | detector: count 4, mean 4, variance 4, sum 4 | guard: count 4, log norm 4, scale 4, taken 4, ticks 8
/// </code>
/// </summary>
public record struct HeadMemory
{
    public const int Length = 52;
    private const byte FormatVersion = 1;

    private ChangeDetector _detector;
    private GuardMemory _guard;

    /// <summary>Examples learnt since the head was opened, by its first example or by the detector.</summary>
    public int Age { get; internal set; }

    /// <summary>How often it was opened anew.</summary>
    public int Reopened { get; internal set; }

    public ChangeDetector Detector { readonly get => _detector; internal set => _detector = value; }

    public GuardMemory Guard { readonly get => _guard; internal set => _guard = value; }

    /// <exception cref="FormatException">The bytes are of a version that this program does not know.</exception>
    public static HeadMemory Read(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty) return default;
        if (bytes.Length != Length || bytes[0] != FormatVersion) throw new FormatException($"a head's memory of {bytes.Length} bytes, version {bytes[0]}; known is version {FormatVersion} of {Length}");
        return new HeadMemory
        {
            Age = Int(bytes, 4),
            Reopened = Int(bytes, 8),
            Detector = new ChangeDetector { Count = Int(bytes, 12), Mean = Float(bytes, 16), Variance = Float(bytes, 20), Sum = Float(bytes, 24) },
            Guard = new GuardMemory
            {
                Count = Int(bytes, 28),
                LogNorm = Float(bytes, 32),
                Scale = Float(bytes, 36),
                Said = new TokenBucket { Taken = Float(bytes, 40), Ticks = BinaryPrimitives.ReadInt64LittleEndian(bytes[44..]) },
            },
        };

        static int Int(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadInt32LittleEndian(bytes[at..]);
        static float Float(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadSingleLittleEndian(bytes[at..]);
    }

    public readonly byte[] ToBytes()
    {
        var bytes = new byte[Length];
        bytes[0] = FormatVersion;
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(4), Age);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(8), Reopened);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(12), _detector.Count);
        BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(16), _detector.Mean);
        BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(20), _detector.Variance);
        BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(24), _detector.Sum);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(28), _guard.Count);
        BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(32), _guard.LogNorm);
        BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(36), _guard.Scale);
        BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(40), _guard.Said.Taken);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(44), _guard.Said.Ticks);
        return bytes;
    }
}
