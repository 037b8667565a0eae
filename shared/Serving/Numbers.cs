using System.Globalization;

namespace Skiff.Serving;

internal static class Numbers
{
    private static readonly string[] Small = [.. Enumerable.Range(0, 256).Select(i => i.ToString(CultureInfo.InvariantCulture))];

    /// <summary>Version numbers travel as strings; the usual ones need not be made anew for each answer.</summary>
    public static string Text(int number) => (uint)number < Small.Length ? Small[number] : number.ToString(CultureInfo.InvariantCulture);
}
