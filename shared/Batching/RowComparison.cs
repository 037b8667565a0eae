using System.Runtime.InteropServices;
using Skiff.Models;

namespace Skiff.Batching;

/// <summary>Whether rows came out the same, alone and among others. Kernels for one row and for many add up in another order, so floats are the same when they are close.</summary>
internal static class RowComparison
{
    private const double Tolerance = 1e-3;

    /// <param name="alone">Of <paramref name="rows"/> rows.</param>
    /// <param name="together">Of <paramref name="total"/> rows, among which those begin at <paramref name="first"/>.</param>
    public static bool IsClose(ModelOutputs alone, ModelOutputs together, int first, int rows, int total)
    {
        if (!alone.HasRows(rows) || !together.HasRows(total)) return false;
        for (var i = 0; i < alone.Count; i++)
        {
            var one = alone.Bytes(i);
            var all = together.Bytes(i);
            if ((long)one.Length * total != (long)all.Length * rows) return false;
            var part = all.Slice((int)((long)all.Length / total * first), one.Length);
            var isClose = alone.Spec(i).Type switch
            {
                DataType.Fp32 => IsClose(MemoryMarshal.Cast<byte, float>(one), MemoryMarshal.Cast<byte, float>(part), value => value),
                DataType.Fp64 => IsClose(MemoryMarshal.Cast<byte, double>(one), MemoryMarshal.Cast<byte, double>(part), value => value),
                DataType.Fp16 => IsClose(MemoryMarshal.Cast<byte, Half>(one), MemoryMarshal.Cast<byte, Half>(part), value => (double)value),
                // Whole numbers, a label for one, may differ where two scores are next to equal; that they do, in the few rows that are looked at, is not to be expected.
                _ => one.SequenceEqual(part),
            };
            if (!isClose) return false;
        }
        return true;
    }

    public static bool IsClose(ReadOnlySpan<float> one, ReadOnlySpan<float> other) => one.Length == other.Length && IsClose(one, other, value => value);

    private static bool IsClose<T>(ReadOnlySpan<T> one, ReadOnlySpan<T> other, Func<T, double> read)
    {
        for (var i = 0; i < one.Length; i++)
        {
            var (a, b) = (read(one[i]), read(other[i]));
            if (!(Math.Abs(a - b) <= Tolerance * (1 + Math.Abs(a))) && !a.Equals(b)) return false;
        }
        return true;
    }
}
