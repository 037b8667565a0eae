using Skiff.Aws;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>The three stores that the settings name, embedded or not, in any mixture.</summary>
internal sealed class Stores : IAsyncDisposable
{
    public required IObjectStore Objects { get; init; }
    public required IStateStore State { get; init; }
    public required IFeedbackQueue Queue { get; init; }

    /// <exception cref="StoreException">One can't be opened.</exception>
    /// <exception cref="Serving.SettingException">An address is none.</exception>
    public static async Task<Stores> OpenAsync(Settings settings)
    {
        var opened = new Stack<object>();
        try
        {
            var stores = new Stores
            {
                Objects = Keep(OpenObjects(settings)),
                State = Keep(settings.State.Scheme == "sqlite" ? new SqliteStateStore(settings.State.Place) : AwsStores.State(settings.State, TimeProvider.System)),
                Queue = Keep(settings.Queue.Scheme == "sqlite" ? new SqliteFeedbackQueue(settings.Queue.Place) : AwsStores.Queue(settings.Queue)),
            };
            return stores;
        }
        catch
        {
            await CloseAsync(opened);
            throw;
        }

        T Keep<T>(T store)
            where T : notnull
        {
            opened.Push(store);
            return store;
        }
    }

    /// <summary>All that commands on the store need.</summary>
    public static IObjectStore OpenObjects(Settings settings) => AwsStores.Objects(settings.ModelStore, Path.Combine(settings.Data, "cache"), settings.ModelCacheBytes);

    public async ValueTask DisposeAsync() => await CloseAsync([Queue, State, Objects]);

    private static async Task CloseAsync(IEnumerable<object> stores)
    {
        foreach (var store in stores)
        {
            if (store is IAsyncDisposable later) await later.DisposeAsync();
            else (store as IDisposable)?.Dispose();
        }
    }
}
