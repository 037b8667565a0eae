using System.Collections;
using System.Globalization;
using Skiff.Personalization;
using Skiff.Routing;

namespace Skiff.Serving;

/// <summary>A setting has a value that it doesn't take; the message names the setting, the value and what it takes.</summary>
public sealed class SettingException(string message) : Exception(message);

/// <summary>A place as a setting names it: <c>scheme://place</c>.</summary>
/// <param name="Setting">The variable, for errors.</param>
/// <param name="Place">What follows <c>://</c>; of an embedded store its absolute path.</param>
public sealed record StoreAddress(string Setting, string Scheme, string Place)
{
    public override string ToString() => $"{Scheme}://{Place}";

    /// <summary>Opens what is there.</summary>
    /// <exception cref="SettingException">The address has another form than <paramref name="open"/> takes.</exception>
    public T Open<T>(Func<string, T> open)
    {
        try
        {
            return open(ToString());
        }
        catch (FormatException e)
        {
            throw new SettingException($"{Setting}: {e.Message}");
        }
    }
}

/// <summary>
/// Reads the <c>SKIFF_…</c> variables of a host, each by its rule, and refuses those that the host doesn't have: a typing error must not become a default.
/// What every host has is here; the rest asks for what it needs.
/// </summary>
public sealed class SettingsReader
{
    private static readonly string[] Common = ["SKIFF_MODEL_STORE", "SKIFF_STATE", "SKIFF_QUEUE", "SKIFF_API_KEYS", "SKIFF_SECRET", "SKIFF_MODEL_MEMORY_MB", "SKIFF_PREDICTION_CACHE_MB", "SKIFF_HEAD_CACHE_MB", "SKIFF_MAX_BODY_BYTES"];

    private readonly IDictionary _environment;

    /// <param name="own">Names of variables that only this host has.</param>
    /// <exception cref="SettingException">There is a <c>SKIFF_</c> variable of another name.</exception>
    public SettingsReader(IDictionary environment, params string[] own)
    {
        _environment = environment;
        foreach (string name in environment.Keys)
        {
            if (name.StartsWith("SKIFF_", StringComparison.Ordinal) && !Common.Contains(name) && !own.Contains(name))
            {
                throw new SettingException($"unknown setting {name}: there are {string.Join(", ", Common.Concat(own))}");
            }
        }
    }

    public ApiKeys Keys
    {
        get
        {
            try
            {
                return ApiKeys.Parse(Value("SKIFF_API_KEYS"));
            }
            catch (FormatException e)
            {
                throw new SettingException($"SKIFF_API_KEYS: {e.Message}");
            }
        }
    }

    /// <summary>Null where none is set.</summary>
    public IReadOnlyList<string>? Secrets
    {
        get
        {
            if (Value("SKIFF_SECRET") is not { } value) return null;
            var secrets = value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            return secrets.Length > 0 && secrets.All(secret => secret.Length >= 16)
                ? secrets
                : throw new SettingException("SKIFF_SECRET takes at least 16 characters; several secrets are joined by commas, the first seals");
        }
    }

    public long ModelMemoryBytes => Number("SKIFF_MODEL_MEMORY_MB", 2048, 16, 1 << 20) << 20;

    /// <summary>0 for no cache.</summary>
    public long PredictionCacheBytes => Number("SKIFF_PREDICTION_CACHE_MB", 64, 0, 1 << 20) << 20;

    /// <summary>0 for no cache.</summary>
    public long HeadCacheBytes => Number("SKIFF_HEAD_CACHE_MB", 32, 0, 1 << 20) << 20;

    public long MaxBodyBytes => Number("SKIFF_MAX_BODY_BYTES", 32 << 20, 1024, 1 << 30);

    /// <returns>The value, or null where the variable is missing or empty.</returns>
    public string? Value(string name) => _environment[name] as string is { Length: > 0 } value ? value : null;

    /// <summary>Where something is kept.</summary>
    /// <param name="otherwise">What a missing variable means; null where the host can't do without it.</param>
    /// <param name="forms">What it takes, such as <c>file:///PATH</c>: what stands before <c>://</c> is the scheme, and a third slash wants an absolute path.</param>
    public StoreAddress Address(string name, StoreAddress? otherwise, params ReadOnlySpan<string> forms)
    {
        var takes = string.Join(" or ", forms.ToArray());
        if (Value(name) is not { } value) return otherwise ?? throw new SettingException($"{name} is missing: it takes {takes}");
        foreach (var form in forms)
        {
            var scheme = form[..form.IndexOf("://", StringComparison.Ordinal)];
            var start = form.StartsWith(scheme + ":///", StringComparison.Ordinal) ? scheme + ":///" : scheme + "://";
            if (value.StartsWith(start, StringComparison.Ordinal) && value.Length > start.Length) return new StoreAddress(name, scheme, value[(scheme.Length + 3)..]);
        }
        throw new SettingException($"{name} is '{value}': it takes {takes}");
    }

    /// <summary>The heavy tier that a value of <c>SKIFF_HEAVY</c> names; null for none.</summary>
    /// <param name="secrets">What calls are signed with.</param>
    /// <param name="state">Where replicas may have registered.</param>
    /// <exception cref="SettingException">It names no replicas.</exception>
    public static HeavyTier? Heavy(string? value, IReadOnlyList<string> secrets, IStateStore state, bool isFunction)
    {
        try
        {
            return HeavyTier.Open(value, secrets, state as IReplicaRegistry, isFunction, TimeProvider.System);
        }
        catch (FormatException e)
        {
            throw new SettingException($"{HeavyTier.Setting}: {e.Message}");
        }
    }

    /// <returns>Names joined by commas; none where the variable is missing.</returns>
    public IReadOnlyList<string> Names(string name)
    {
        var names = (Value(name) ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return Array.Find(names, item => !Store.Names.IsValid(item)) is { } wrong
            ? throw new SettingException($"{name} has '{wrong}': it takes names of apps and models ({Store.Names.Rule}), joined by commas")
            : names;
    }

    public long Number(string name, long otherwise, long least, long most)
    {
        if (Value(name) is not { } value) return otherwise;
        return long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
            ? number
            : throw new SettingException($"{name} is '{value}': it takes a whole number from {least} to {most}");
    }
}
