namespace Skiff.Models;

internal static class Finite
{
    /// <summary>Whether any value is NaN or infinite: then nothing may be answered with it or learnt from it.</summary>
    public static bool ContainsNotFinite(this ReadOnlySpan<float> values)
    {
        foreach (var value in values)
        {
            if (!float.IsFinite(value)) return true;
        }
        return false;
    }
}
