using System.Buffers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Feedback.Log;

/// <summary>What a segment says of itself.</summary>
public sealed record SegmentHeader
{
    public required string Tenant { get; init; }
    public required string App { get; init; }

    /// <summary>UTC, of the commits: <c>2026-11-21</c>.</summary>
    public required string Day { get; init; }

    /// <summary>SHA-256 of the segment before, whole; null for an app's first.</summary>
    public string? Previous { get; init; }

    public required int Entries { get; init; }
}

/// <summary>
/// A day of an app's feedback, written once. Lines of JSON: the header, then an entry each, which only its user's key opens:
/// <code>
/// {"tenant":"default","app":"digits","day":"2026-11-21","previous":"9f…","entries":2}
/// {"owner":"base64","data":"base64"}        owner = HMAC-SHA-256(key, "owner"), 16 bytes; data = nonce 12 | AES-256-GCM of an entry | tag 16
/// </code>
/// So a user is erased from it by losing the key, and the chain of hashes stays whole.
/// </summary>
public static class LogSegment
{
    private const int NonceLength = 12, TagLength = 16;

    /// <param name="keys">Of every user of the entries.</param>
    public static byte[] Write(SegmentHeader header, IEnumerable<KeptFeedback> entries, IReadOnlyDictionary<string, byte[]> keys)
    {
        var buffer = new ArrayBufferWriter<byte>();
        Append(buffer, JsonSerializer.SerializeToUtf8Bytes(header, LogJson.Default.SegmentHeader));
        var associated = Associated(header);
        foreach (var entry in entries)
        {
            var key = keys[entry.Accepted.Message.User];
            var line = new SealedEntry { Owner = OwnerOf(key), Data = Seal(key, entry, associated) };
            Append(buffer, JsonSerializer.SerializeToUtf8Bytes(line, LogJson.Default.SealedEntry));
        }
        return buffer.WrittenSpan.ToArray();
    }

    /// <param name="keyOf">The key of an owner, null where there is none any more.</param>
    /// <returns>The header, the entries that could be opened, and how many could not.</returns>
    /// <exception cref="StoreException">It is damaged.</exception>
    public static (SegmentHeader Header, IReadOnlyList<KeptFeedback> Entries, int Closed) Read(string name, ReadOnlySpan<byte> content, Func<string, byte[]?> keyOf)
    {
        try
        {
            var end = content.IndexOf((byte)'\n');
            var header = JsonSerializer.Deserialize(content[..Math.Max(end, 0)], LogJson.Default.SegmentHeader) ?? throw new JsonException("the header is null");
            var associated = Associated(header);
            var entries = new List<KeptFeedback>(header.Entries);
            var (lines, closed) = (0, 0);
            for (content = content[(end + 1)..]; (end = content.IndexOf((byte)'\n')) >= 0; content = content[(end + 1)..], lines++)
            {
                var line = JsonSerializer.Deserialize(content[..end], LogJson.Default.SealedEntry) ?? throw new JsonException("an entry is null");
                if (keyOf(Convert.ToBase64String(line.Owner)) is { } key) entries.Add(Open(key, line.Data, associated));
                else closed++;
            }
            return lines == header.Entries && content.Length == 0 ? (header, entries, closed) : throw new JsonException($"it has {lines} entries, its header says {header.Entries}");
        }
        catch (Exception e) when (e is JsonException or CryptographicException or ArgumentException)
        {
            throw new StoreException($"the log segment {name} is damaged: {e.Message}", e);
        }
    }

    public static byte[] OwnerOf(byte[] key) => HMACSHA256.HashData(key, "owner"u8)[..16];

    private static byte[] Seal(byte[] key, KeptFeedback kept, byte[] associated)
    {
        var entry = new LogEntry { Order = kept.Order, Committed = kept.Committed, Learnt = kept.Accepted.Learnt, Note = kept.Accepted.Note, Message = kept.Accepted.Message };
        var plain = JsonSerializer.SerializeToUtf8Bytes(entry, LogJson.Default.LogEntry);
        var data = new byte[NonceLength + plain.Length + TagLength];
        RandomNumberGenerator.Fill(data.AsSpan(0, NonceLength));
        using var aes = new AesGcm(key, TagLength);
        aes.Encrypt(data.AsSpan(0, NonceLength), plain, data.AsSpan(NonceLength, plain.Length), data.AsSpan(NonceLength + plain.Length), associated);
        return data;
    }

    private static KeptFeedback Open(byte[] key, byte[] data, byte[] associated)
    {
        var plain = new byte[data.Length - NonceLength - TagLength];
        using var aes = new AesGcm(key, TagLength);
        aes.Decrypt(data.AsSpan(0, NonceLength), data.AsSpan(NonceLength, plain.Length), data.AsSpan(NonceLength + plain.Length), plain, associated);
        var entry = JsonSerializer.Deserialize(plain, LogJson.Default.LogEntry) ?? throw new JsonException("an entry is null");
        return new KeptFeedback(new AcceptedFeedback(entry.Message, entry.Learnt, entry.Note), entry.Order, entry.Committed);
    }

    /// <summary>An entry opens only where it was written.</summary>
    private static byte[] Associated(SegmentHeader header) => Encoding.UTF8.GetBytes($"{header.Tenant}/{header.App}/{header.Day}");

    private static void Append(ArrayBufferWriter<byte> buffer, byte[] line)
    {
        buffer.Write(line);
        buffer.Write("\n"u8);
    }
}

internal sealed record SealedEntry
{
    public required byte[] Owner { get; init; }
    public required byte[] Data { get; init; }
}

internal sealed record LogEntry
{
    public required long Order { get; init; }
    public required DateTimeOffset Committed { get; init; }
    public required bool Learnt { get; init; }
    public string? Note { get; init; }
    public required FeedbackMessage Message { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(SegmentHeader))]
[JsonSerializable(typeof(SealedEntry))]
[JsonSerializable(typeof(LogEntry))]
internal sealed partial class LogJson : JsonSerializerContext;
