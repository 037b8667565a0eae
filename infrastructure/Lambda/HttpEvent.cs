using System.Net;
using System.Runtime.InteropServices;
using System.Text.Json;
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
            RawTarget = rawPath + query,
            Headers = ReadHeaders(root, domain, body),
            Body = body,
            Source = IPAddress.TryParse(http.FindText("sourceIp"), out var source) ? source : null,
            IsFunctionUrl = domain?.Contains(".lambda-url.", StringComparison.Ordinal) ?? false,
        };
    }

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
        // From UTF-8 to UTF-8, past the string that GetString would make.
        var json = JsonMarshal.GetRawUtf8Value(body);
        var bytes = new byte[json.Length - 2];
        var reader = new Utf8JsonReader(json);
        reader.Read();
        try
        {
            var length = reader.CopyString(bytes);
            if (length > maxBytes) return null;
            return bytes.AsMemory(0, length);
        }
        catch (InvalidOperationException)
        {
            throw new InvalidEventException("the event's 'body' is not text: half of a surrogate pair, or not UTF-8");
        }
    }
}
