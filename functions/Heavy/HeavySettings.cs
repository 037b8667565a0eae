using System.Collections;
using System.CommandLine;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Skiff.Aws;
using Skiff.Models;
using Skiff.Serving;

namespace Skiff.Heavy;

/// <summary>Everything that can be set, from the command line and the environment, checked once at the start.</summary>
public sealed record HeavySettings
{
    public required StoreAddress ModelStore { get; init; }

    /// <summary>Where it registers for callers with <c>SKIFF_HEAVY=state</c>; null for nowhere.</summary>
    public StoreAddress? State { get; init; }

    /// <summary>Where callers reach it; null: where it listens.</summary>
    public Uri? Address { get; init; }

    /// <summary>Folder and size of the copies of models from a bucket.</summary>
    public required string Cache { get; init; }

    public long CacheBytes { get; init; }

    public required ApiKeys Keys { get; init; }

    /// <summary>What callers sign with; null: whoever reaches us is trusted, and only private networks do.</summary>
    public IReadOnlyList<string>? Secrets { get; init; }

    public long ModelMemoryBytes { get; init; }
    public long MaxBodyBytes { get; init; }

    /// <summary>What is loaded and warm before it is ready.</summary>
    public IReadOnlyList<(string Tenant, string Model)> Preload { get; init; } = [];

    /// <summary>How long it says that it leaves before it no longer listens.</summary>
    public TimeSpan Notice { get; init; }

    /// <summary>Under which name of a tier it logs its load each minute, in the form that CloudWatch makes a metric of; null for not at all.</summary>
    public string? LoadMetric { get; init; }

    public string Urls { get; init; } = "http://127.0.0.1:8090";
    public ExecutionProvider Provider { get; init; }

    /// <summary>Runs of a model side by side; null for as many as are measured to do most, on CUDA for two, of which one copies while the other computes.</summary>
    public int? Instances { get; init; }

    /// <summary>Sessions of the runtime for each model: on CUDA one for each of the runs, with a stream of its own.</summary>
    public int Sessions => Provider == ExecutionProvider.Cuda ? Instances ?? 2 : 1;

    /// <summary>How many runs are made side by side; null to find out.</summary>
    public int? Workers => Provider == ExecutionProvider.Cuda ? Sessions : Instances;

    public int BatchRows { get; init; } = 64;

    /// <summary>Rows of the runs that warm a model.</summary>
    public IReadOnlyList<int> WarmRows => [.. Enumerable.Range(1, 12).Select(power => 1 << power).Where(rows => rows < BatchRows), .. BatchRows > 1 ? (int[])[BatchRows] : []];

    /// <exception cref="SettingException">A variable is unknown or has a value that it doesn't take.</exception>
    public static HeavySettings Read(string? urls, IDictionary environment)
    {
        var reader = new SettingsReader(environment, AwsStores.CacheSetting, "SKIFF_PRELOAD", "SKIFF_LEAVE_SECONDS", "SKIFF_LOAD_METRIC", "SKIFF_ADDRESS");
        var settings = new HeavySettings
        {
            ModelStore = AwsStores.ObjectsAddress(reader),
            State = reader.Value("SKIFF_STATE") is null ? null : reader.Address("SKIFF_STATE", null, "sqlite:///PATH", AwsStores.StateForm),
            Address = ReadAddress(reader.Value("SKIFF_ADDRESS")),
            Cache = Path.Combine(Path.GetTempPath(), "skiff-models"),
            CacheBytes = reader.Number(AwsStores.CacheSetting, 4096, 0, 1 << 20) << 20,
            Keys = reader.Keys,
            Secrets = reader.Secrets,
            ModelMemoryBytes = reader.ModelMemoryBytes,
            MaxBodyBytes = reader.MaxBodyBytes,
            Preload = [.. Split(reader.Value("SKIFF_PRELOAD"))],
            Notice = TimeSpan.FromSeconds(reader.Number("SKIFF_LEAVE_SECONDS", 6, 0, 600)),
            LoadMetric = reader.Value("SKIFF_LOAD_METRIC"),
            Urls = urls ?? reader.Value("ASPNETCORE_URLS") ?? "http://127.0.0.1:8090",
        };
        settings.CheckUrls();
        return settings;
    }

    public string Describe() =>
        (State is null ? "" : $"registers in {State}; ") + $"models from {ModelStore} on {Provider.ToString().ToLowerInvariant()}, up to {ModelMemoryBytes >> 20} MiB and {BatchRows} rows a run; {(Secrets is not null ? "callers sign" : Keys.IsEmpty ? "whoever reaches it is trusted" : "callers show keys")}";

    public static void RequireRange(Option option, int least, int most) => option.Validators.Add(given =>
    {
        if (given.Tokens is [{ Value: var text }] && !(int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most)) given.AddError($"{option.Name} is '{text}': it takes a number from {least} to {most}");
    });

    private static Uri? ReadAddress(string? value) => value is null ? null
        : Uri.TryCreate(value, UriKind.Absolute, out var address) && address is { Scheme: "http" or "https", PathAndQuery: "/", Fragment: "", UserInfo: "", Host.Length: > 0 } ? address
        : throw new SettingException($"SKIFF_ADDRESS is '{value}': it takes where callers reach this replica, http://HOST:PORT");

    private static IEnumerable<(string Tenant, string Model)> Split(string? names)
    {
        foreach (var name in (names ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            var parts = name.Split('/');
            if (parts.Length > 2 || !Array.TrueForAll(parts, part => Store.Names.IsValid(part))) throw new SettingException($"SKIFF_PRELOAD has '{name}': it takes MODEL or TENANT/MODEL, joined by commas");
            yield return parts.Length == 2 ? (parts[0], parts[1]) : (ApiKeys.DefaultTenant, parts[0]);
        }
    }

    /// <summary>Nobody but us may call: either callers show who they are, or the network lets no others in.</summary>
    private void CheckUrls()
    {
        foreach (var (url, address) in ListenAddresses.Parse(Urls))
        {
            if (Secrets is null && Keys.IsEmpty && !address.IsUnixPipe && !IsPrivate(address.Host))
            {
                throw new SettingException($"refusing to listen on {url} without a secret: anybody could call. Set SKIFF_SECRET to what its callers have, or listen on 127.0.0.1 or the address of a private network");
            }
        }
    }

    /// <summary>Addresses that the internet doesn't route (RFC 1918, RFC 4193, link-local and loopback). A name or a wildcard may be any.</summary>
    internal static bool IsPrivate(string host)
    {
        if (Gateway.IsLoopback(host)) return host.Length > 0;
        if (!IPAddress.TryParse(host.Trim('[', ']'), out var address)) return false;
        if (address.AddressFamily == AddressFamily.InterNetworkV6) return address.IsIPv6UniqueLocal || address.IsIPv6LinkLocal;
        return address.GetAddressBytes() is [10, ..] or [172, >= 16 and <= 31, ..] or [192, 168, ..] or [169, 254, ..];
    }
}
