using System.Buffers.Text;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Skiff.Routing;

/// <summary>
/// How a replica knows that a request comes from one of us: <c>Skiff-Caller: 1;TIME;BODY;MAC</c>, where MAC is HMAC-SHA256, under a key derived from <c>SKIFF_SECRET</c>, over method, address, path with query, deadline,
/// TIME (Unix milliseconds) and BODY, the body's SHA-256. It can't be used for another request or replica, nor later than a minute. A body that is streamed is named <c>streamed</c> and not covered: who
/// can change it on its way is kept out by the network, or the replica doesn't accept such. Answers change nothing at a replica, so a repeat within the minute says nothing that was not said before.
/// </summary>
public sealed class CallerSignature
{
    public const string Header = "Skiff-Caller";

    private const string Streamed = "streamed";
    private static readonly TimeSpan s_validFor = TimeSpan.FromMinutes(1);

    private readonly byte[][] _keys;
    private readonly TimeProvider _time;

    /// <param name="secrets">The first signs, all are accepted.</param>
    public CallerSignature(IReadOnlyList<string> secrets, TimeProvider time)
    {
        if (secrets.Count == 0) throw new ArgumentException("callers sign with a secret, and there is none");
        _keys = [.. secrets.Select(secret => HKDF.DeriveKey(HashAlgorithmName.SHA256, Encoding.UTF8.GetBytes(secret), 32, info: "skiff caller 1"u8.ToArray()))];
        _time = time;
    }

    /// <param name="body">Null for one that is streamed.</param>
    public string Sign(string method, string authority, string target, string? deadline, ReadOnlyMemory<byte>? body)
    {
        var time = _time.GetUtcNow().ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture);
        var named = Name(body);
        return $"1;{time};{named};{Base64Url.EncodeToString(Mac(_keys[0], method, authority, target, deadline, time, named))}";
    }

    /// <summary>Whether one of us made this request, for this address and just now. Says nothing about why not.</summary>
    /// <param name="body">Null for one that has not been read: true only if the caller streamed it, and such are accepted.</param>
    public bool IsValid(string? header, string method, string authority, string target, string? deadline, ReadOnlyMemory<byte>? body)
    {
        if (header is not { Length: <= 256 } || header.Split(';') is not ["1", var time, var named, var mac]) return false;
        if (!long.TryParse(time, NumberStyles.None, CultureInfo.InvariantCulture, out var sent) || !Base64Url.IsValid(mac)) return false;
        if (Math.Abs(_time.GetUtcNow().ToUnixTimeMilliseconds() - sent) > s_validFor.TotalMilliseconds) return false;
        var given = Base64Url.DecodeFromChars(mac);
        var isOurs = false;
        foreach (var key in _keys) isOurs |= CryptographicOperations.FixedTimeEquals(given, Mac(key, method, authority, target, deadline, time, named));
        return isOurs && (named == Streamed ? body is null : body is not null && named == Name(body));
    }

    private static string Name(ReadOnlyMemory<byte>? body) => body is { } bytes ? Base64Url.EncodeToString(SHA256.HashData(bytes.Span)) : Streamed;

    /// <summary>One part a line: none of them can have a line's end in it, being parts of HTTP's own lines.</summary>
    private static byte[] Mac(byte[] key, string method, string authority, string target, string? deadline, string time, string body) =>
        HMACSHA256.HashData(key, Encoding.UTF8.GetBytes($"{method}\n{authority}\n{target}\n{deadline}\n{time}\n{body}"));
}
