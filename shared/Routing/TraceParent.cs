using System.Security.Cryptography;
using Microsoft.AspNetCore.Http;

namespace Skiff.Routing;

/// <summary>
/// The trace that a request belongs to (W3C Trace Context), as it came: what is asked for its sake carries the same trace id and state, and a span id of its own. Nothing here keeps spans; whoever does, before us and
/// behind, sees one trace.
/// </summary>
/// <param name="TraceId">32 hexadecimal digits.</param>
/// <param name="Flags">Two, such as <c>01</c> for a trace that is recorded.</param>
/// <param name="State">What vendors add; handed on as it is. Null for none.</param>
public sealed record TraceParent(string TraceId, string Flags, string? State)
{
    public const string Header = "traceparent", StateHeader = "tracestate";

    private const int Length = 55; // 00-, the trace's id, -, the parent's, -, flags

    /// <returns>Null where there is none, or none that is valid: then its state says nothing either.</returns>
    public static TraceParent? Read(IHeaderDictionary headers)
    {
        if (headers.TraceParent is not [{ Length: >= Length } text]) return null;
        var version = text.AsSpan(0, 2);
        var (trace, parent, flags) = (text.Substring(3, 32), text.Substring(36, 16), text.Substring(53, 2));
        var isValid = IsHex(version) && version is not "ff" && (text.Length == Length || (version is not "00" && text[Length] == '-'))
            && text[2] == '-' && text[35] == '-' && text[52] == '-' && IsHex(trace) && trace.AsSpan().ContainsAnyExcept('0') && IsHex(parent) && parent.AsSpan().ContainsAnyExcept('0') && IsHex(flags);
        return !isValid ? null : new TraceParent(trace, flags, headers.TraceState is { Count: > 0 } state && state.ToString() is { Length: > 0 } given ? given : null);
    }

    /// <summary>The header of what is asked next: a span of its own. Of a later version than we know only what the first one says is handed on.</summary>
    public string Child()
    {
        Span<byte> span = stackalloc byte[8];
        do RandomNumberGenerator.Fill(span);
        while (!span.ContainsAnyExcept((byte)0));
        return $"00-{TraceId}-{Convert.ToHexStringLower(span)}-{Flags}";
    }

    private static bool IsHex(ReadOnlySpan<char> text) => !text.ContainsAnyExcept("0123456789abcdef");
}
