using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;

namespace Skiff.Lambda;

/// <summary>An HTTP request as API Gateway's HTTP APIs and function URLs pass it on, payload format 2.0.</summary>
internal sealed record HttpEvent
{
    public required string Method { get; init; }
    public required string Protocol { get; init; }

    /// <summary>The named stage, <c>/stage</c>, or empty.</summary>
    public required string PathBase { get; init; }

    /// <summary>Below <see cref="PathBase"/>, decoded.</summary>
    public required string Path { get; init; }

    /// <summary>With its <c>?</c>, or empty.</summary>
    public required string QueryString { get; init; }

    /// <summary>Path and query as the caller wrote them. A function URL says the path like that; an HTTP API has decoded it, so that it is escaped here again.</summary>
    public required string RawTarget { get; init; }
    public required IHeaderDictionary Headers { get; init; }

    /// <summary>Null when it is larger than it may be.</summary>
    public required ReadOnlyMemory<byte>? Body { get; init; }

    /// <summary>The caller's address as the front end saw it.</summary>
    public required IPAddress? Source { get; init; }

    /// <summary>Whether it came through a function URL, the one front end that takes streamed answers.</summary>
    public required bool IsFunctionUrl { get; init; }

    public static bool Is(JsonElement root) =>
        root.Find("version") is { ValueKind: JsonValueKind.String } version && version.ValueEquals("2.0"u8)
        && root.Find("requestContext")?.Find("http") is not null;

    /// <param name="maxBodyBytes">The largest body, decoded.</param>
    /// <exception cref="InvalidEventException">The event is malformed.</exception>
    public static HttpEvent Read(JsonElement root, int maxBodyBytes)
    {
        var context = root.GetProperty("requestContext");
        var http = context.GetProperty("http");
        var method = http.NeedText("method");
        if (!HttpHeaders.IsToken(method)) throw new InvalidEventException("the event's 'method' is not an HTTP method");
        var rawPath = root.NeedText("rawPath");
        if (!rawPath.StartsWith('/')) throw new InvalidEventException("the event's 'rawPath' does not begin with /");
        var query = root.FindText("rawQueryString") is { Length: > 0 } raw ? "?" + raw : "";
        var domain = context.FindText("domainName");
        var pathBase = StageOf(context, rawPath);
        var body = ReadBody(root, maxBodyBytes);
        return new HttpEvent
        {
            Method = method,
            Protocol = http.FindText("protocol") ?? "HTTP/1.1",
            PathBase = pathBase,
            Path = PathString.FromUriComponent(rawPath[pathBase.Length..]).Value ?? "",
            QueryString = query,
            RawTarget = (IsOfFunctionUrl(domain) ? rawPath : string.Join('/', rawPath.Split('/').Select(Uri.EscapeDataString))) + query,
            Headers = ReadHeaders(root, domain, body),
            Body = body,
            Source = IPAddress.TryParse(http.FindText("sourceIp"), out var source) ? source : null,
            IsFunctionUrl = IsOfFunctionUrl(domain),
        };
    }

    private static bool IsOfFunctionUrl(string? domain) => domain?.Contains(".lambda-url.", StringComparison.Ordinal) ?? false;

    /// <summary>An HTTP API with a named stage has it before every path; function URLs and the stage <c>$default</c> don't.</summary>
    private static string StageOf(JsonElement context, string rawPath)
    {
        if (context.FindText("stage") is not { Length: > 0 } stage || stage == "$default") return "";
        var prefix = "/" + stage;
        return rawPath.StartsWith(prefix, StringComparison.Ordinal) && (rawPath.Length == prefix.Length || rawPath[prefix.Length] == '/') ? prefix : "";
    }

    private static IHeaderDictionary ReadHeaders(JsonElement root, string? domain, ReadOnlyMemory<byte>? body)
    {
        IHeaderDictionary headers = new HeaderDictionary();
        if (root.Find("headers") is { } given)
        {
            if (given.ValueKind != JsonValueKind.Object) throw new InvalidEventException("the event's 'headers' is not an object");
            foreach (var header in given.EnumerateObject())
            {
                if (!HttpHeaders.IsToken(header.Name)) throw new InvalidEventException("the event has a header whose name is none");
                // Several values come joined by commas, and stay so: only who knows the header could part them again.
                if (HttpHeaders.IsPassedIn(header.Name)) headers[header.Name] = Checked(header.Value.Text(header.Name), header.Name);
            }
        }
        // Cookies come apart, since commas can't join them.
        var cookies = root.FindArray("cookies").Select(cookie => Checked(cookie.Text("cookies"), "cookies")).ToList();
        if (cookies.Count > 0) headers.Cookie = string.Join("; ", cookies);
        // The name that the front end was called by, rather than what the caller wrote.
        if (domain is not null) headers.Host = Checked(domain, "domainName");
        if (body is { IsEmpty: false } content) headers.ContentLength = content.Length;
        return headers;
    }

    private static string Checked(string value, string name) =>
        HttpHeaders.IsValue(value) ? value : throw new InvalidEventException($"the event's '{name}' has line ends or control characters: it can't be a header");

    private static ReadOnlyMemory<byte>? ReadBody(JsonElement root, int maxBytes)
    {
        if (root.Find("body") is not { } body) return ReadOnlyMemory<byte>.Empty;
        if (body.ValueKind != JsonValueKind.String) throw new InvalidEventException("the event's 'body' is not a string");
        return root.Find("isBase64Encoded") is { ValueKind: JsonValueKind.True } ? Decode(body, maxBytes) : Unescape(body, maxBytes);
    }

    private static ReadOnlyMemory<byte>? Decode(JsonElement body, int maxBytes)
    {
        // How long it will be is known before a byte is decoded.
        var text = JsonMarshal.GetRawUtf8Value(body)[1..^1];
        var padding = text.EndsWith("=="u8) ? 2 : text.EndsWith("="u8) ? 1 : 0;
        if (text.Length / 4 * 3L - padding > maxBytes) return null;
        return body.TryGetBytesFromBase64(out var bytes) ? bytes : throw new InvalidEventException("the event's 'body' should be base64 and is not");
    }

    private static ReadOnlyMemory<byte>? Unescape(JsonElement body, int maxBytes)
    {
        // The document has been parsed, so what follows a backslash is one of the nine escapes of JSON. Bodies are long and have few, and are copied from one to the next: a reader
        // would walk them byte by byte a second time.
        var text = JsonMarshal.GetRawUtf8Value(body)[1..^1];
        var bytes = new byte[text.Length];
        var length = 0;
        for (var at = text.IndexOf((byte)'\\'); at >= 0; at = text.IndexOf((byte)'\\'))
        {
            text[..at].CopyTo(bytes.AsSpan(length));
            length += at;
            text = text[at..];
            if (text[1] == 'u')
            {
                length += UnescapeCharacter(ref text, bytes.AsSpan(length));
                continue;
            }
            bytes[length++] = text[1] switch
            {
                (byte)'n' => (byte)'\n',
                (byte)'r' => (byte)'\r',
                (byte)'t' => (byte)'\t',
                (byte)'b' => (byte)'\b',
                (byte)'f' => (byte)'\f',
                var itself => itself,
            };
            text = text[2..];
        }
        text.CopyTo(bytes.AsSpan(length));
        length += text.Length;
        if (!Utf8.IsValid(bytes.AsSpan(0, length))) throw NotText();
        if (length > maxBytes) return null;
        return bytes.AsMemory(0, length);
    }

    /// <summary>Reads <c>\u1234</c>, or the two that make a character beyond 16 bits.</summary>
    /// <returns>The bytes of the character.</returns>
    private static int UnescapeCharacter(ref ReadOnlySpan<byte> text, Span<byte> into)
    {
        var first = CodeUnit(ref text);
        if (!Rune.TryCreate(first, out var rune) && !(text is [(byte)'\\', (byte)'u', ..] && Rune.TryCreate(first, CodeUnit(ref text), out rune))) throw NotText();
        return rune.EncodeToUtf8(into);
    }

    private static char CodeUnit(ref ReadOnlySpan<byte> text)
    {
        var unit = ushort.Parse(text.Slice(2, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        text = text[6..];
        return (char)unit;
    }

    private static InvalidEventException NotText() => new("the event's 'body' is not text: half of a surrogate pair, or not UTF-8");
}
