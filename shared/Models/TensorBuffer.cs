namespace Skiff.Models;

/// <summary>
/// The memory of one request's tensors: one pinned array that grows, is cleared and used again. Numbers are parsed straight into it and the runtime reads them there,
/// so a request copies nothing on its way to the model. Regions are named by offset, because growing moves the array.
/// </summary>
public sealed class TensorBuffer
{
    // A cache line; also what vector loads like best.
    private const int Alignment = 64;

    private byte[] _bytes = GC.AllocateUninitializedArray<byte>(16 * 1024, pinned: true);

    public int Capacity => _bytes.Length;

    /// <summary>Whether somebody may still read it after its request is over: then nobody may write into it again, and the collector takes it when the last reader has let go.</summary>
    public bool IsAbandoned { get; private set; }

    public void Abandon() => IsAbandoned = true;

    /// <summary>Bytes handed out since <see cref="Clear"/>.</summary>
    public int Used { get; private set; }

    public void Clear() => Used = 0;

    /// <summary>Hands out a region that starts on a cache line; its content is undefined.</summary>
    /// <returns>The region's offset.</returns>
    public int Allocate(int count)
    {
        var offset = (Used + Alignment - 1) & ~(Alignment - 1);
        Reserve(checked(offset + count));
        Used = offset + count;
        return offset;
    }

    /// <summary>Extends the region that was handed out last, without a gap.</summary>
    /// <returns>The extension's offset.</returns>
    public int Extend(int count)
    {
        var offset = Used;
        Reserve(checked(offset + count));
        Used = offset + count;
        return offset;
    }

    public Span<byte> Span(int offset, int count) => _bytes.AsSpan(offset, count);

    /// <summary>What keeps the addresses valid: growing lets go of the array that they point into.</summary>
    internal object Memory => _bytes;

    /// <summary>The address of a region: stable until the buffer grows.</summary>
    internal unsafe IntPtr Address(int offset)
    {
        fixed (byte* start = _bytes) return (IntPtr)(start + offset);
    }

    private void Reserve(int size)
    {
        if (size <= _bytes.Length) return;
        var capacity = (int)Math.Min(Array.MaxLength, Math.Max(2L * _bytes.Length, size));
        var larger = GC.AllocateUninitializedArray<byte>(capacity, pinned: true);
        _bytes.AsSpan(0, Used).CopyTo(larger);
        _bytes = larger;
    }
}
