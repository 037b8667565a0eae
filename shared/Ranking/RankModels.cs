using System.Collections.Concurrent;
using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Ranking;

/// <summary>
/// The models of the apps that rank, as this process last saw them: read from the store when first asked for and again when they are older than a while, while the older one still answers. What is learnt in this process is seen at once.
/// </summary>
public sealed class RankModels(IStateStore state, TimeSpan oldest, TimeProvider time)
{
    private static readonly TimeSpan LongestSettling = TimeSpan.FromSeconds(2);

    private readonly ConcurrentDictionary<(string Tenant, string App), Entry> _apps = new();

    public ValueTask<RankView> ViewAsync(App app, CancellationToken cancellation)
    {
        var entry = _apps.GetOrAdd((app.Tenant, app.Name), _ => new Entry());
        if (entry.View is not { } view || view.Shards.Count != app.Document.Rank!.Shards || view.Shards[0].Space != app.Space!.Id) return FirstAsync(entry, app, cancellation);
        if (time.GetElapsedTime(Volatile.Read(ref entry.ReadAt)) >= oldest && Interlocked.Exchange(ref entry.Reading, 1) == 0) entry.Refresh = RefreshAsync(entry, app);
        return ValueTask.FromResult(view);
    }

    /// <summary>For hosts that may be frozen between two requests: waits for the reading that requests have begun.</summary>
    public async Task SettleAsync(CancellationToken cancellation)
    {
        var refreshes = _apps.Values.Select(entry => Interlocked.Exchange(ref entry.Refresh, null)).OfType<Task>().ToList();
        if (refreshes.Count > 0) await Task.WhenAll(refreshes).WaitAsync(LongestSettling, time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Takes over a shard that was committed.</summary>
    /// <param name="model">Nobody's to change any more.</param>
    internal void Learnt(UserKey shard, RankModel model)
    {
        foreach (var (key, entry) in _apps)
        {
            if (key.Tenant != shard.Tenant) continue;
            lock (entry)
            {
                if (entry.View is not { } view) continue;
                for (var i = 0; i < view.Shards.Count; i++)
                {
                    if (UserKey.OfShard(key.Tenant, key.App, i) == shard) entry.Put(i, model);
                }
            }
        }
    }

    private async ValueTask<RankView> FirstAsync(Entry entry, App app, CancellationToken cancellation)
    {
        await ReadAsync(entry, app, cancellation);
        return entry.View!;
    }

    private async Task RefreshAsync(Entry entry, App app)
    {
        try
        {
            await ReadAsync(entry, app, CancellationToken.None);
        }
        catch (Store.StoreException)
        {
            // The older one answers on; the next request asks again.
        }
        finally
        {
            Volatile.Write(ref entry.Reading, 0);
        }
    }

    private async Task ReadAsync(Entry entry, App app, CancellationToken cancellation)
    {
        Volatile.Write(ref entry.ReadAt, time.GetTimestamp());
        var rank = app.Document.Rank!;
        var reads = await Task.WhenAll(Enumerable.Range(0, rank.Shards).Select(i => state.ReadWeightsAsync(UserKey.OfShard(app.Tenant, app.Name, i), cancellation).AsTask()));
        var shards = reads.Select(read => RankModel.ReadOrStart(read.Weights?.Policy, app.Space!, rank.PriorStrength)).ToArray();
        lock (entry)
        {
            if (entry.View is not { } view || view.Shards.Count != shards.Length || view.Shards[0].Space != app.Space!.Id)
            {
                entry.View = new RankView(shards);
                return;
            }
            // What was learnt here meanwhile is newer than what was read.
            for (var i = 0; i < shards.Length; i++)
            {
                if (shards[i].Version > view.Shards[i].Version) entry.Put(i, shards[i]);
            }
        }
    }

    private sealed class Entry
    {
        public volatile RankView? View;
        public long ReadAt;
        public int Reading;
        public Task? Refresh; // begun by a request, and not yet waited for

        public void Put(int shard, RankModel model)
        {
            if (View is not { } view || view.Shards[shard].Space != model.Space) return;
            View = new RankView([.. view.Shards.Select((other, i) => i == shard ? model : other)]);
        }
    }
}
