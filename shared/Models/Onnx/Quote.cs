using System.Text;

namespace Skiff.Models;

/// <summary>A publisher's text as it may stand in a message: short, and unable to start a new line in a log.</summary>
internal static class Quote
{
    private const int Longest = 80;

    public static string Of(ReadOnlySpan<byte> utf8) => Of(Encoding.UTF8.GetString(utf8[..Math.Min(utf8.Length, Longest + 1)]));

    public static string Of(string text)
    {
        var shown = text.Length > Longest ? text[..Longest] + "…" : text;
        return $"'{string.Concat(shown.Select(letter => char.IsControl(letter) ? '?' : letter))}'";
    }
}
