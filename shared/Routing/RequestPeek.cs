using System.Text;
using System.Text.Unicode;

namespace Skiff.Routing;

/// <summary>
/// What routing wants to know of a JSON body, at a glance and without reading it: a router that parsed each request would cost as much as answering it. What is found may be wrong, where the same text stands
/// within another; then the request goes elsewhere than its user's others, and is answered all the same.
/// </summary>
public static class RequestPeek
{
    private const int LongestUser = 256;

    /// <returns>The value of the first <c>"user"</c>; null where there is none, or it has escapes.</returns>
    public static string? User(ReadOnlySpan<byte> json)
    {
        var at = json.IndexOf("\"user\""u8);
        if (at < 0) return null;
        var rest = Skip(json[(at + 6)..]);
        if (rest.IsEmpty || rest[0] != ':') return null;
        rest = Skip(rest[1..]);
        if (rest.IsEmpty || rest[0] != '"') return null;
        rest = rest[1..];
        var end = rest.IndexOfAny((byte)'"', (byte)'\\');
        return end is > 0 and <= LongestUser && rest[end] == '"' && Utf8.IsValid(rest[..end]) ? Encoding.UTF8.GetString(rest[..end]) : null;
    }

    private static ReadOnlySpan<byte> Skip(ReadOnlySpan<byte> json) => json.TrimStart(" \t\r\n"u8);
}
