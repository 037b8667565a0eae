using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace Skiff.Benchmarks;

/// <summary>A response of HTTP/1.1 over the bytes that were received; as much of the protocol as the servers under measurement use.</summary>
internal readonly ref struct HttpReply
{
    private readonly ReadOnlySpan<byte> head;
    private readonly ReadOnlySpan<byte> content;
    private readonly bool chunked;

    private HttpReply(ReadOnlySpan<byte> head, ReadOnlySpan<byte> content, bool chunked)
    {
        this.head = head;
        this.content = content;
        this.chunked = chunked;
    }

    /// <summary>Bytes it takes up in all.</summary>
    public int Length => head.Length + content.Length;

    public bool IsOk => head.StartsWith("HTTP/1.1 200 "u8);

    /// <summary>200 and so on.</summary>
    public int Status => Utf8Parser.TryParse(head["HTTP/1.1 ".Length..], out int status, out _) ? status : throw new BenchmarkException($"not a response: {StatusLine}");

    public string StatusLine => Encoding.ASCII.GetString(head[..head.IndexOf("\r\n"u8)]);

    /// <summary>False until the whole response is there.</summary>
    public static bool TryRead(ReadOnlySpan<byte> received, out HttpReply reply)
    {
        reply = default;
        var headEnd = received.IndexOf("\r\n\r\n"u8);
        if (headEnd < 0) return false;

        var head = received[..(headEnd + 4)];
        var rest = received[head.Length..];
        var lengthText = Find(head, "Content-Length"u8);
        var chunked = lengthText.IsEmpty && Find(head, "Transfer-Encoding"u8).SequenceEqual("chunked"u8);
        int length;
        if (chunked)
        {
            if (!TryMeasureChunks(rest, out length)) return false;
        }
        else if (!Utf8Parser.TryParse(lengthText, out length, out _))
        {
            throw new BenchmarkException($"a response with neither length nor chunks: {Encoding.ASCII.GetString(head)}");
        }
        if (rest.Length < length) return false;

        reply = new HttpReply(head, rest[..length], chunked);
        return true;
    }

    /// <summary>A header's value, empty where it is missing.</summary>
    public ReadOnlySpan<byte> Header(ReadOnlySpan<byte> name) => Find(head, name);

    /// <summary>The body without its chunks' frames: a view of one chunk, a copy of several.</summary>
    public ReadOnlySpan<byte> Body()
    {
        if (!chunked) return content;
        TryReadChunk(content, out var first, out var next);
        if (first.IsEmpty) return first;
        List<byte>? joined = null;
        for (var rest = content[next..]; TryReadChunk(rest, out var chunk, out next) && !chunk.IsEmpty; rest = rest[next..])
        {
            joined ??= [.. first];
            joined.AddRange(chunk);
        }
        return joined is null ? first : joined.ToArray();
    }

    private static ReadOnlySpan<byte> Find(ReadOnlySpan<byte> head, ReadOnlySpan<byte> name)
    {
        while (head.IndexOf("\r\n"u8) is var end and >= 0)
        {
            var line = head[..end];
            if (line.Length > name.Length && line[name.Length] == ':' && Ascii.EqualsIgnoreCase(line[..name.Length], name)) return line[(name.Length + 1)..].Trim((byte)' ');
            head = head[(end + 2)..];
        }
        return default;
    }

    private static bool TryMeasureChunks(ReadOnlySpan<byte> content, out int length)
    {
        length = 0;
        while (TryReadChunk(content[length..], out var chunk, out var next))
        {
            length += next;
            if (chunk.IsEmpty) return true;
        }
        return false;
    }

    /// <summary>Size in hexadecimal, line end, bytes, line end; the last one is empty. Trailers are not expected.</summary>
    private static bool TryReadChunk(ReadOnlySpan<byte> content, out ReadOnlySpan<byte> chunk, out int next)
    {
        chunk = default;
        next = 0;
        var sizeEnd = content.IndexOf("\r\n"u8);
        if (sizeEnd < 0) return false;
        var size = int.Parse(content[..sizeEnd], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        var end = sizeEnd + 2 + size;
        if (content.Length < end + 2) return false;
        chunk = content.Slice(sizeEnd + 2, size);
        next = end + 2;
        return true;
    }
}
