using System.Numerics.Tensors;
using Skiff.Selection;

namespace Skiff.Caching;

/// <summary>
/// Locality-sensitive hashing by random hyperplanes (Charikar 2002): a bit says on which side of a plane a row lies, so two rows at the angle θ share a bit with probability 1 − θ/π, and a table's code of b bits
/// with (1 − θ/π)^b. Each plane's normal sums to 0, which is as if every row's mean were taken off first: rows that are never negative, such as images, would otherwise lie on one side of most planes.
/// </summary>
internal sealed class SignHash
{
    private readonly int _elements;
    private readonly int _bits;
    private readonly float[] _normals; // tables × bits × elements

    /// <param name="bits">Of a table's code, 1 to 64.</param>
    public SignHash(int elements, int bits, int tables)
    {
        (_elements, _bits, Tables) = (elements, bits, tables);
        _normals = new float[tables * bits * elements];
        // The same planes in every process: what is near stays near after a restart, and measurements can be repeated.
        var random = new SeededRandom(0x5eed);
        for (var plane = 0; plane < tables * bits; plane++)
        {
            var normal = _normals.AsSpan(plane * elements, elements);
            for (var i = 0; i < elements; i++) normal[i] = (float)random.NextNormal();
            // A single element has nothing but its mean.
            if (elements > 1) TensorPrimitives.Subtract(normal, TensorPrimitives.Sum<float>(normal) / elements, normal);
        }
    }

    public int Tables { get; }

    public bool Fits(int elements, int bits, int tables) => elements == _elements && bits == _bits && tables == Tables;

    /// <param name="codes">One a table.</param>
    public void Codes(ReadOnlySpan<float> row, Span<ulong> codes)
    {
        var plane = 0;
        for (var table = 0; table < Tables; table++)
        {
            ulong code = 0;
            for (var bit = 0; bit < _bits; bit++, plane++)
            {
                if (TensorPrimitives.Dot(row, _normals.AsSpan(plane * _elements, _elements)) >= 0) code |= 1UL << bit;
            }
            codes[table] = code;
        }
    }
}
