using System.Collections.Frozen;

namespace Skiff.Lambda;

/// <summary>Which headers cross the border between Lambda's front ends and the application, and which don't.</summary>
internal static class HttpHeaders
{
    /// <summary>
    /// About a connection or its framing, and ours is another one: hop-by-hop headers (RFC 9110, 7.6.1), and the length, which is counted anew where the body is decoded.
    /// </summary>
    private static readonly FrozenSet<string> OfTheConnection = FrozenSet.Create(
        StringComparer.OrdinalIgnoreCase,
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect", "content-length");

    /// <summary>
    /// <c>forwarded</c> and <c>x-forwarded-*</c>: the front end appends to what the caller wrote, so their first entries are anybody's word, and middleware that believes them
    /// takes a foreign address, host or scheme for the caller's. The front end's own word stands in the event: the source address and the domain.
    /// <c>x-amzn-*</c>: how AWS's services, and what runs on them, speak to each other (trace, identity, request context); from a caller they are forged. The trace comes from the Runtime API.
    /// <c>x-amz-*</c>: signature and session token of a signed request. The front end has checked them; they are credentials, and of no use here.
    /// </summary>
    private static readonly string[] NotToBeTrusted = ["x-forwarded-", "x-amzn-", "x-amz-"];

    public static bool IsPassedIn(string name) =>
        !OfTheConnection.Contains(name)
        && !name.Equals("forwarded", StringComparison.OrdinalIgnoreCase)
        && !NotToBeTrusted.Any(prefix => name.StartsWith(prefix, StringComparison.OrdinalIgnoreCase));

    public static bool IsPassedOut(string name) => !OfTheConnection.Contains(name);

    /// <summary>Whether a value stays one header's value on the wire: no line ends, no other control characters.</summary>
    public static bool IsValue(string value) => !value.Any(c => char.IsControl(c) && c != '\t');

    /// <summary>A token as HTTP has it: header names, methods.</summary>
    public static bool IsToken(string name) => name.Length > 0 && name.All(c => char.IsAsciiLetterOrDigit(c) || "!#$%&'*+-.^_`|~".Contains(c));
}
