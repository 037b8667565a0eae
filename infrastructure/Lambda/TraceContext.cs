namespace Skiff.Lambda;

/// <summary>X-Ray's trace header as the W3C's.</summary>
internal static class TraceContext
{
    /// <param name="xray"><c>Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1</c>.</param>
    /// <returns><c>00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01</c>; null where something is missing.</returns>
    public static string? ToTraceParent(string? xray)
    {
        string? root = null, parent = null, sampled = null;
        foreach (var part in (xray ?? "").Split(';', StringSplitOptions.TrimEntries))
        {
            if (part.StartsWith("Root=1-", StringComparison.Ordinal)) root = part["Root=1-".Length..].Replace("-", "");
            else if (part.StartsWith("Parent=", StringComparison.Ordinal)) parent = part["Parent=".Length..];
            else if (part.StartsWith("Sampled=", StringComparison.Ordinal)) sampled = part["Sampled=".Length..];
        }
        return IsHex(root, 32) && IsHex(parent, 16) ? $"00-{root}-{parent}-{(sampled == "1" ? "01" : "00")}" : null;
    }

    private static bool IsHex(string? text, int length) => text?.Length == length && text.All(char.IsAsciiHexDigitLower);
}
