using System.Collections;
using Skiff.Aws;
using Skiff.Personalization;
using Skiff.Routing;
using Skiff.Serving;

namespace Skiff.Serve;

/// <summary>Everything that can be set, from the command line and the environment, checked once at the start.</summary>
public sealed record Settings
{
    /// <summary>Folder of the embedded stores, the secret, and what is kept of models that lie elsewhere.</summary>
    public required string Data { get; init; }

    public required StoreAddress ModelStore { get; init; }
    public required StoreAddress State { get; init; }
    public required StoreAddress Queue { get; init; }

    /// <summary>For copies of models from a bucket.</summary>
    public long ModelCacheBytes { get; init; }

    public required ApiKeys Keys { get; init; }

    /// <summary>Null: made and kept in the data folder.</summary>
    public IReadOnlyList<string>? Secrets { get; init; }

    public long ModelMemoryBytes { get; init; }
    public long PredictionCacheBytes { get; init; }
    public long HeadCacheBytes { get; init; }
    public long MaxBodyBytes { get; init; }

    /// <summary>Where the heavy tier's replicas are; null for none.</summary>
    public string? Heavy { get; init; }

    /// <summary>Processes that run the models behind this one; 0: this one does.</summary>
    public int Replicas { get; init; }

    /// <summary>Whether this process is such a one: another has the data folder, learns and shows.</summary>
    public bool IsReplica { get; init; }

    /// <summary>Addresses to listen on, as ASP.NET has them, joined by semicolons.</summary>
    public string Urls { get; init; } = "http://127.0.0.1:8080";

    /// <exception cref="SettingException">A variable is unknown or has a value that it doesn't take.</exception>
    /// <param name="listens">False for commands on the store, which are not bothered about addresses.</param>
    public static Settings Read(string data, string? urls, IDictionary environment, bool listens = true)
    {
        var reader = new SettingsReader(environment, AwsStores.CacheSetting, HeavyTier.Setting);
        var folder = Path.GetFullPath(data);
        var settings = new Settings
        {
            Data = folder,
            ModelStore = AwsStores.ObjectsAddress(reader, new StoreAddress("SKIFF_MODEL_STORE", "file", Path.Combine(folder, "models"))),
            State = reader.Address("SKIFF_STATE", new StoreAddress("SKIFF_STATE", "sqlite", Path.Combine(folder, "state.db")), "sqlite:///PATH", AwsStores.StateForm),
            Queue = reader.Address("SKIFF_QUEUE", new StoreAddress("SKIFF_QUEUE", "sqlite", Path.Combine(folder, "queue.db")), "sqlite:///PATH", AwsStores.QueueForm),
            ModelCacheBytes = reader.Number(AwsStores.CacheSetting, 4096, 0, 1 << 20) << 20,
            Keys = reader.Keys,
            Secrets = reader.Secrets,
            ModelMemoryBytes = reader.ModelMemoryBytes,
            PredictionCacheBytes = reader.PredictionCacheBytes,
            HeadCacheBytes = reader.HeadCacheBytes,
            MaxBodyBytes = reader.MaxBodyBytes,
            Heavy = reader.Value(HeavyTier.Setting),
            Urls = urls ?? reader.Value("ASPNETCORE_URLS") ?? "http://127.0.0.1:8080",
        };
        return listens ? settings.CheckUrls() : settings;
    }

    /// <param name="secrets">What calls of the tier are signed with.</param>
    /// <param name="state">Where replicas may have registered.</param>
    /// <exception cref="SettingException">It names no replicas.</exception>
    public HeavyTier? OpenHeavy(IReadOnlyList<string> secrets, IStateStore state) => SettingsReader.Heavy(Heavy, secrets, state, isFunction: false);

    private Settings CheckUrls()
    {
        foreach (var (url, address) in ListenAddresses.Parse(Urls))
        {
            if (Keys.IsEmpty && !(address.IsUnixPipe || (address.Host.Length > 0 && Gateway.IsLoopback(address.Host))))
            {
                throw new SettingException(
                    $"refusing to listen on {url} without keys: anybody could call. Set SKIFF_API_KEYS (make an entry with 'skiff key new --tenant NAME --scope predict,feedback'), or listen on 127.0.0.1");
            }
        }
        return this;
    }
}
