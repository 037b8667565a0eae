using System.Buffers.Binary;
using System.Buffers.Text;
using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace Skiff.Serving;

/// <summary>
/// Turns decisions into ids that only we can read or make, so that a prediction writes nothing and features stay ours: AES-256-GCM, base64url.
/// <code>
/// version 1 | key id 4 | salt 16 | counter 8 | ciphertext | tag 16
/// </code>
/// Each process draws a salt and derives a key of its own from the secret (HKDF, RFC 5869), then counts: no nonce can repeat, however many answers are given.
/// Several secrets may be known: the first seals, all of them open, which is how a secret is rotated.
/// </summary>
public sealed class DecisionSeal
{
    private const byte FormatVersion = 1;
    private const int KeyIdLength = 4;
    private const int SaltLength = 16;
    private const int HeaderLength = 1 + KeyIdLength + SaltLength + sizeof(long);
    private const int TagLength = 16;

    /// <summary>How long after its time an id is still known: feedback on it is late, kept and counted, and not learnt. Erasures are remembered for longer than an id's time and this together.</summary>
    public static readonly TimeSpan LateFor = TimeSpan.FromDays(30);

    /// <summary>Ids longer than this are not ours.</summary>
    private const int LongestId = 64 * 1024;

    private readonly Secret[] _secrets;
    private readonly byte[] _salt = RandomNumberGenerator.GetBytes(SaltLength);
    private readonly byte[] _sealingKey;
    private readonly TimeProvider _time;
    private readonly ConcurrentBag<AesGcm> _sealers = [];
    private readonly ConcurrentDictionary<string, byte[]> _openingKeys = new();
    private long _counter;

    /// <param name="secrets">At least one; the first seals.</param>
    /// <exception cref="FormatException">A secret is shorter than 16 characters.</exception>
    public DecisionSeal(IReadOnlyList<string> secrets, TimeProvider time)
    {
        if (secrets.Count == 0 || secrets.Any(secret => secret.Length < 16)) throw new FormatException("a secret takes at least 16 characters; several are joined by commas, the first seals");
        _secrets = [.. secrets.Select(secret => new Secret(Encoding.UTF8.GetBytes(secret)))];
        _sealingKey = _secrets[0].DeriveKey(_salt);
        _time = time;
    }

    public string Seal(Decision decision)
    {
        var plain = Write(decision);
        var sealed_ = new byte[HeaderLength + plain.Length + TagLength];
        sealed_[0] = FormatVersion;
        _secrets[0].Id.CopyTo(sealed_, 1);
        _salt.CopyTo(sealed_, 1 + KeyIdLength);
        BinaryPrimitives.WriteInt64LittleEndian(sealed_.AsSpan(HeaderLength - sizeof(long)), Interlocked.Increment(ref _counter));

        // An AesGcm is not for several threads at once, and making one costs as much as using it.
        if (!_sealers.TryTake(out var aes)) aes = new AesGcm(_sealingKey, TagLength);
        aes.Encrypt(Nonce(sealed_), plain, sealed_.AsSpan(HeaderLength, plain.Length), sealed_.AsSpan(HeaderLength + plain.Length), sealed_.AsSpan(0, HeaderLength));
        _sealers.Add(aes);
        return Base64Url.EncodeToString(sealed_);
    }

    /// <returns>The decision, whose time may be over but not long since; or null: for an id that we did not make, of another tenant or app, or long expired. Which of them is nobody's business.</returns>
    public Decision? Open(string id, string tenant, string app)
    {
        if (id.Length > LongestId || !Base64Url.IsValid(id)) return null;
        var sealed_ = Base64Url.DecodeFromChars(id);
        // White space, padding and spare bits decode as well; the id is also the feedback's, which counts once, so there is one spelling of it.
        if (Base64Url.EncodeToString(sealed_) != id) return null;
        if (sealed_.Length < HeaderLength + TagLength || sealed_[0] != FormatVersion) return null;
        if (KeyOf(sealed_) is not { } key) return null;
        var plain = new byte[sealed_.Length - HeaderLength - TagLength];
        try
        {
            using var aes = new AesGcm(key, TagLength);
            aes.Decrypt(Nonce(sealed_), sealed_.AsSpan(HeaderLength, plain.Length), sealed_.AsSpan(HeaderLength + plain.Length), plain, sealed_.AsSpan(0, HeaderLength));
        }
        catch (CryptographicException)
        {
            return null;
        }
        var decision = Read(plain);
        return decision.Tenant == tenant && decision.App == app && decision.Expires + LateFor > _time.GetUtcNow() ? decision : null;
    }

    /// <summary>A number that only we can tell from a text, the same in every process: what seeds a draw whose text the caller chooses.</summary>
    public ulong SeedOf(string text) => BinaryPrimitives.ReadUInt64LittleEndian(HMACSHA256.HashData(_secrets[0].SeedKey, Encoding.UTF8.GetBytes(text)));

    private byte[]? KeyOf(byte[] sealed_)
    {
        var id = sealed_.AsSpan(1, KeyIdLength);
        foreach (var secret in _secrets)
        {
            if (!id.SequenceEqual(secret.Id)) continue;
            var salt = sealed_.AsSpan(1 + KeyIdLength, SaltLength);
            if (salt.SequenceEqual(_salt) && secret == _secrets[0]) return _sealingKey;
            var name = Convert.ToHexString(sealed_.AsSpan(1, KeyIdLength + SaltLength));
            // Salts in forged ids are as many as somebody cares to send: the cache is emptied before they fill the memory.
            if (_openingKeys.Count > 1000) _openingKeys.Clear();
            return _openingKeys.GetOrAdd(name, _ => secret.DeriveKey(sealed_.AsSpan(1 + KeyIdLength, SaltLength)));
        }
        return null;
    }

    /// <summary>12 bytes: the end of the salt and the counter. The salt is in the key already; what must not repeat under it is the counter.</summary>
    private static ReadOnlySpan<byte> Nonce(byte[] sealed_) => sealed_.AsSpan(HeaderLength - 12, 12);

    private static byte[] Write(Decision decision)
    {
        using var stream = new MemoryStream(128 + 2 * decision.Features.Length + 4 * decision.Base.Length);
        using var writer = new BinaryWriter(stream);
        writer.Write(decision.Expires.ToUnixTimeSeconds());
        writer.Write(decision.Tenant);
        writer.Write(decision.App);
        writer.Write(decision.User);
        writer.Write7BitEncodedInt(decision.AppVersion);
        writer.Write7BitEncodedInt(decision.Label + 1);
        writer.Write(decision.Propensity);
        writer.Write7BitEncodedInt(decision.FeaturesVersion);
        writer.Write7BitEncodedInt(decision.PriorVersion);
        var isWide = decision.Features.Any(value => !Half.IsFinite((Half)value)); // beyond 65504
        writer.Write(isWide);
        writer.Write7BitEncodedInt(decision.Features.Length);
        foreach (var value in decision.Features)
        {
            if (isWide) writer.Write(value);
            else writer.Write((Half)value);
        }
        writer.Write7BitEncodedInt(decision.Base.Length);
        foreach (var value in decision.Base) writer.Write(value);
        writer.Write(decision.Context);
        writer.Write7BitEncodedInt(decision.Members.Length);
        writer.Write(decision.Members);
        if (decision.Made is { } made) writer.Write(made.ToUnixTimeMilliseconds());
        if (decision.Due is { } due) writer.Write(due.ToUnixTimeMilliseconds());
        writer.Flush();
        return stream.ToArray();
    }

    private static Decision Read(byte[] plain)
    {
        using var reader = new BinaryReader(new MemoryStream(plain));
        return new Decision
        {
            Expires = DateTimeOffset.FromUnixTimeSeconds(reader.ReadInt64()),
            Tenant = reader.ReadString(),
            App = reader.ReadString(),
            User = reader.ReadString(),
            AppVersion = reader.Read7BitEncodedInt(),
            Label = reader.Read7BitEncodedInt() - 1,
            Propensity = reader.ReadSingle(),
            FeaturesVersion = reader.Read7BitEncodedInt(),
            PriorVersion = reader.Read7BitEncodedInt(),
            Features = ReadFeatures(reader),
            Base = ReadValues(reader, r => r.ReadSingle()),
            // Ids of an earlier version of this program end here.
            Context = IsAtEnd(reader) ? "" : reader.ReadString(),
            Members = IsAtEnd(reader) ? [] : reader.ReadBytes(reader.Read7BitEncodedInt()),
            Made = IsAtEnd(reader) ? null : DateTimeOffset.FromUnixTimeMilliseconds(reader.ReadInt64()),
            Due = IsAtEnd(reader) ? null : DateTimeOffset.FromUnixTimeMilliseconds(reader.ReadInt64()),
        };
    }

    private static bool IsAtEnd(BinaryReader reader) => reader.BaseStream.Position == reader.BaseStream.Length;

    private static float[] ReadFeatures(BinaryReader reader) =>
        reader.ReadBoolean() ? ReadValues(reader, r => r.ReadSingle()) : ReadValues(reader, r => (float)r.ReadHalf());

    private static float[] ReadValues(BinaryReader reader, Func<BinaryReader, float> read)
    {
        var values = new float[reader.Read7BitEncodedInt()];
        for (var i = 0; i < values.Length; i++) values[i] = read(reader);
        return values;
    }

    private sealed class Secret(byte[] secret)
    {
        /// <summary>Tells which secret an id was sealed under, and nothing else about it.</summary>
        public byte[] Id { get; } = HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, KeyIdLength, info: "skiff decision key id"u8.ToArray());

        public byte[] SeedKey { get; } = HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, 32, info: "skiff seed"u8.ToArray());

        public byte[] DeriveKey(ReadOnlySpan<byte> salt)
        {
            var key = new byte[32];
            HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, key, salt, "skiff decision"u8);
            return key;
        }
    }
}
