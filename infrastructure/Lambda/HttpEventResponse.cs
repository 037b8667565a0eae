using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;

namespace Skiff.Lambda;

/// <summary>Writes answers as HTTP APIs and function URLs read them, payload format 2.0.</summary>
internal static class HttpEventResponse
{
    // Nobody shows it as HTML, and escaping every quote as \u0022 would blow up a body that is JSON itself.
    private static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>A whole answer: text as text, everything else as base64.</summary>
    public static ReadOnlyMemory<byte> Write(int status, IHeaderDictionary headers, ReadOnlySpan<byte> body)
    {
        var isText = body.IsEmpty || IsText(headers, body);
        var buffer = new ArrayBufferWriter<byte>(512 + (isText ? body.Length + (body.Length / 4) : body.Length / 3 * 4));
        using var json = new Utf8JsonWriter(buffer, Options);
        json.WriteStartObject();
        WriteHead(json, status, headers);
        if (isText) json.WriteString("body"u8, body);
        else json.WriteBase64String("body"u8, body);
        json.WriteBoolean("isBase64Encoded"u8, !isText);
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }

    /// <summary>What goes before a streamed body: status and headers as JSON, then eight NULs.</summary>
    public static ReadOnlyMemory<byte> WritePrelude(int status, IHeaderDictionary headers)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using var json = new Utf8JsonWriter(buffer, Options);
        json.WriteStartObject();
        WriteHead(json, status, headers);
        json.WriteEndObject();
        json.Flush();
        buffer.Write("\0\0\0\0\0\0\0\0"u8);
        return buffer.WrittenMemory;
    }

    private static void WriteHead(Utf8JsonWriter json, int status, IHeaderDictionary headers)
    {
        json.WriteNumber("statusCode"u8, status);
        json.WriteStartObject("headers"u8);
        foreach (var (name, values) in headers)
        {
            if (!HttpHeaders.IsToken(name) || !values.All(value => HttpHeaders.IsValue(value ?? "")))
            {
                throw new InvalidOperationException($"the response header '{name.ReplaceLineEndings(" ")}' has line ends or control characters");
            }
            var isCookie = name.Equals(HeaderNames.SetCookie, StringComparison.OrdinalIgnoreCase);
            // StringValues joins several values by commas.
            if (!isCookie && HttpHeaders.IsPassedOut(name)) json.WriteString(name, values.ToString());
        }
        json.WriteEndObject();
        if (headers.SetCookie.Count == 0) return;
        json.WriteStartArray("cookies"u8);
        foreach (var cookie in headers.SetCookie) json.WriteStringValue(cookie);
        json.WriteEndArray();
    }

    /// <summary>Whether the bytes survive as a JSON string: a textual type, not compressed, and UTF-8 indeed.</summary>
    private static bool IsText(IHeaderDictionary headers, ReadOnlySpan<byte> body)
    {
        if (headers.ContentEncoding.Count > 0 || !MediaTypeHeaderValue.TryParse(headers.ContentType.ToString(), out var type)) return false;
        var isTextual = type.Type.Equals("text", StringComparison.OrdinalIgnoreCase)
            || (type.SubType.Value ?? "").ToLowerInvariant() is "json" or "xml" or "javascript" or "x-www-form-urlencoded"
            || (type.Suffix.Value ?? "").ToLowerInvariant() is "json" or "xml";
        return isTextual && Utf8.IsValid(body);
    }
}
