using System.Security.Cryptography;
using System.Text;
using Skiff.Store;

namespace Skiff.Serving;

[Flags]
public enum Scopes
{
    None = 0,
    Predict = 1,
    Feedback = 2,
    Admin = 4,
    All = Predict | Feedback | Admin,
}

/// <summary>Who asks, and what they may.</summary>
/// <param name="Key">Tells a tenant's keys apart: how the key's hash begins; empty where there are no keys.</param>
public sealed record Caller(string Tenant, Scopes Scopes, string Key = "");

/// <summary>
/// The keys that callers show, kept as hashes only: <c>tenant:scope+scope:sha256:hex</c>, joined by commas. Without any key there is one tenant, <c>default</c>,
/// that may do everything; the host then listens on loopback only.
/// </summary>
public sealed class ApiKeys
{
    public const string Form = "TENANT:SCOPE+SCOPE:sha256:HEX, joined by commas; scopes are predict, feedback and admin (`skiff key new` prints one)";
    public const string DefaultTenant = "default";

    private readonly (byte[] Hash, Caller Caller)[] _entries;

    private ApiKeys((byte[] Hash, Caller Caller)[] entries) => _entries = entries;

    public bool IsEmpty => _entries.Length == 0;

    /// <summary>The tenants that the keys name; just <c>default</c> without keys.</summary>
    public IEnumerable<string> Tenants => IsEmpty ? [DefaultTenant] : _entries.Select(entry => entry.Caller.Tenant).Distinct();

    /// <param name="setting">The value of <c>SKIFF_API_KEYS</c>; null or empty for none.</param>
    /// <exception cref="FormatException">The value has another form; the message says which entry, never its hash.</exception>
    public static ApiKeys Parse(string? setting)
    {
        var entries = (setting ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return new ApiKeys([.. entries.Select(ParseEntry)]);
    }

    /// <summary>Makes a key: shown once, kept as the entry only.</summary>
    public static (string Key, string Entry) Create(string tenant, Scopes scopes)
    {
        Names.Check("tenant", tenant);
        var key = "skiff_" + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(24));
        var names = new[] { Scopes.Predict, Scopes.Feedback, Scopes.Admin }.Where(scope => scopes.HasFlag(scope)).Select(scope => scope.ToString().ToLowerInvariant());
        return (key, $"{tenant}:{string.Join('+', names)}:sha256:{Convert.ToHexStringLower(HashOf(key))}");
    }

    /// <exception cref="FormatException">A name is not a scope.</exception>
    public static Scopes ParseScopes(string names)
    {
        var scopes = Scopes.None;
        foreach (var name in names.Split(['+', ','], StringSplitOptions.TrimEntries))
        {
            scopes |= name switch
            {
                "predict" => Scopes.Predict,
                "feedback" => Scopes.Feedback,
                "admin" => Scopes.Admin,
                _ => throw new FormatException($"'{name}' is not a scope: it takes predict, feedback and admin"),
            };
        }
        return scopes;
    }

    /// <summary>Finds the key's caller. Every entry is compared, each in constant time, so that the time tells nothing about a near miss.</summary>
    /// <param name="key">The key as it came, or null.</param>
    /// <exception cref="RequestException">No key where one is needed, an unknown one, or one without the scope.</exception>
    public Caller Authorize(string? key, Scopes needed)
    {
        if (IsEmpty) return Everyone;
        if (string.IsNullOrEmpty(key))
        {
            throw new RequestException(Refusal.Unauthenticated, "a key is needed: send 'Authorization: Bearer KEY' or 'Ocp-Apim-Subscription-Key: KEY'");
        }
        var hash = HashOf(key);
        Caller? found = null;
        foreach (var entry in _entries)
        {
            if (CryptographicOperations.FixedTimeEquals(hash, entry.Hash)) found = entry.Caller;
        }
        if (found is null) throw new RequestException(Refusal.Unauthenticated, "unknown key");
        if ((found.Scopes & needed) != needed)
        {
            throw new RequestException(Refusal.Forbidden, $"this key has no scope '{needed.ToString().ToLowerInvariant()}'");
        }
        return found;
    }

    private static readonly Caller Everyone = new(DefaultTenant, Scopes.All);

    private static byte[] HashOf(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    private static (byte[] Hash, Caller Caller) ParseEntry(string entry, int index)
    {
        var parts = entry.Split(':');
        if (parts.Length != 4 || parts[2] != "sha256" || parts[3].Length != 64 || !parts[3].All(char.IsAsciiHexDigit) || !Names.IsValid(parts[0]))
        {
            throw new FormatException($"entry {index + 1} is malformed: it takes {Form}");
        }
        return (Convert.FromHexString(parts[3]), new Caller(parts[0], ParseScopes(parts[1]), parts[3][..8].ToLowerInvariant()));
    }
}
