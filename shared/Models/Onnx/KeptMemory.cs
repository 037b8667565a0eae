using System.Text;

namespace Skiff.Models;

/// <summary>The names, shapes and metadata that outlive the reading of a file, against a limit: a gigabyte of empty names is not a gigabyte in memory.</summary>
internal sealed class KeptMemory
{
    private const int Limit = 64 << 20;

    /// <summary>About what a string costs besides its bytes.</summary>
    private const int Overhead = 32;

    private long _kept;

    public string Keep(ReadOnlySpan<byte> text)
    {
        Charge(Overhead + text.Length);
        return Encoding.UTF8.GetString(text);
    }

    public void Charge(long bytes)
    {
        _kept += bytes;
        if (_kept > Limit)
            throw new ModelRejectedException($"The model's names, shapes and metadata take more than {Limit >> 20} MiB, the limit.");
    }
}
