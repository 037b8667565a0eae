using System.Collections;
using System.Globalization;
using Microsoft.AspNetCore.Http;
using Skiff.Serving;

namespace Skiff.Serve;

/// <summary>A setting has a value that it doesn't take; the message names the setting, the value and what it takes.</summary>
public sealed class SettingException(string message) : Exception(message);

/// <summary>Everything that can be set, from the command line and the environment, checked once at the start.</summary>
public sealed record Settings
{
    private static readonly string[] Known =
        ["SKIFF_MODEL_STORE", "SKIFF_STATE", "SKIFF_QUEUE", "SKIFF_API_KEYS", "SKIFF_SECRET", "SKIFF_MODEL_MEMORY_MB", "SKIFF_MAX_BODY_BYTES"];

    /// <summary>Folder of the embedded stores and the secret.</summary>
    public required string Data { get; init; }

    public required string ModelStore { get; init; }
    public required string State { get; init; }
    public required string Queue { get; init; }
    public required ApiKeys Keys { get; init; }

    /// <summary>Null: made and kept in the data folder.</summary>
    public IReadOnlyList<string>? Secrets { get; init; }

    public long ModelMemoryBytes { get; init; }
    public long MaxBodyBytes { get; init; }

    /// <summary>Addresses to listen on, as ASP.NET has them, joined by semicolons.</summary>
    public string Urls { get; init; } = "http://127.0.0.1:8080";

    /// <exception cref="SettingException">A variable is unknown or has a value that it doesn't take.</exception>
    public static Settings Read(string data, string? urls, IDictionary environment)
    {
        foreach (string name in environment.Keys)
        {
            if (name.StartsWith("SKIFF_", StringComparison.Ordinal) && !Known.Contains(name)) throw new SettingException($"unknown setting {name}: there are {string.Join(", ", Known)}");
        }
        var folder = Path.GetFullPath(data);
        return new Settings
        {
            Data = folder,
            ModelStore = ReadPath("SKIFF_MODEL_STORE", "file", Path.Combine(folder, "models")),
            State = ReadPath("SKIFF_STATE", "sqlite", Path.Combine(folder, "state.db")),
            Queue = ReadPath("SKIFF_QUEUE", "sqlite", Path.Combine(folder, "queue.db")),
            Keys = Take("SKIFF_API_KEYS", ApiKeys.Parse),
            Secrets = ReadSecrets(Value("SKIFF_SECRET")),
            ModelMemoryBytes = ReadNumber("SKIFF_MODEL_MEMORY_MB", 2048, 16, 1 << 20) << 20,
            MaxBodyBytes = ReadNumber("SKIFF_MAX_BODY_BYTES", 32 << 20, 1024, 1 << 30),
            Urls = urls ?? Value("ASPNETCORE_URLS") ?? "http://127.0.0.1:8080",
        }.CheckUrls();

        string? Value(string name) => environment[name] as string is { Length: > 0 } value ? value : null;

        static string[]? ReadSecrets(string? value)
        {
            if (value is null) return null;
            var secrets = value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            return secrets.Length > 0 && secrets.All(secret => secret.Length >= 16)
                ? secrets
                : throw new SettingException("SKIFF_SECRET takes at least 16 characters; several secrets are joined by commas, the first seals");
        }

        string ReadPath(string name, string scheme, string otherwise)
        {
            if (Value(name) is not { } value) return otherwise;
            var prefix = scheme + "://";
            if (!value.StartsWith(prefix + "/", StringComparison.Ordinal) || value.Length == prefix.Length + 1)
            {
                throw new SettingException($"{name} is '{value}': it takes {prefix}/PATH, an absolute path");
            }
            return value[prefix.Length..];
        }

        long ReadNumber(string name, long otherwise, long least, long most)
        {
            if (Value(name) is not { } value) return otherwise;
            return long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
                ? number
                : throw new SettingException($"{name} is '{value}': it takes a whole number from {least} to {most}");
        }

        T Take<T>(string name, Func<string?, T> parse)
        {
            try
            {
                return parse(Value(name));
            }
            catch (FormatException e)
            {
                throw new SettingException($"{name}: {e.Message}");
            }
        }
    }

    private Settings CheckUrls()
    {
        var urls = Urls.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (urls.Length == 0) throw new SettingException("--urls is empty: it takes addresses like http://127.0.0.1:8080, joined by semicolons");
        foreach (var url in urls)
        {
            BindingAddress address;
            try
            {
                address = BindingAddress.Parse(url);
            }
            catch (FormatException)
            {
                throw new SettingException($"--urls has '{url}': it takes addresses like http://127.0.0.1:8080, joined by semicolons");
            }
            if (address.Scheme != "http") throw new SettingException($"--urls has '{url}': it takes http addresses; put a proxy in front for https");
            if (Keys.IsEmpty && !IsLoopback(address))
            {
                throw new SettingException(
                    $"refusing to listen on {url} without keys: anybody could call. Set SKIFF_API_KEYS (make an entry with 'skiff key new --tenant NAME --scope predict,feedback'), or listen on 127.0.0.1");
            }
        }
        return this;
    }

    private static bool IsLoopback(BindingAddress address) => address.IsUnixPipe || (address.Host.Length > 0 && Gateway.IsLoopback(address.Host));
}
