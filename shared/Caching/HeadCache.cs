using System.Collections.Concurrent;
using Skiff.Apps;
using Skiff.Personalization;

namespace Skiff.Caching;

/// <summary>Where a prediction's head came from.</summary>
public enum HeadSource
{
    /// <summary>From here; the store was not asked.</summary>
    Kept,

    /// <summary>From here, after the store had said that its version is still the same.</summary>
    Checked,

    /// <summary>From the store.</summary>
    Store,
}

/// <summary>A user's head as a prediction has it.</summary>
/// <param name="Weights">Null for a user who has none.</param>
/// <param name="CostUsd">Of asking the store.</param>
public readonly record struct HeadRead(HeadWeights? Weights, double CostUsd, HeadSource Source);

/// <summary>
/// The heads of the users that this process predicts for, bounded by bytes. One is answered with for as long as its app allows (<see cref="HeadCacheDocument"/>); then the store is asked for its version, and for the
/// weights only where that is another. What is learnt or erased in this process is seen at once. A head says itself which versions of features and prior it belongs to, so no swap of these makes it wrong; that a user has
/// none is kept likewise. Replacement is CLOCK; a hit takes no lock.
/// </summary>
/// <param name="mostBytes">Of all that is kept, as <see cref="UsedBytes"/> counts it; 0 keeps nothing.</param>
public sealed class HeadCache(IStateStore state, long mostBytes, TimeProvider time)
{
    /// <summary>What an entry takes beside names, weights and policy: itself, its head, its places in the table and on the clock.</summary>
    private const int EntryBytes = 480;

    /// <summary>Users share the places where changes are noted: who shares one that changed is looked for in the store, which does no harm.</summary>
    private const int ChangeSlots = 1 << 16;

    /// <summary>Longer than a store's reads lag behind its writes.</summary>
    private static readonly TimeSpan LongestLag = TimeSpan.FromSeconds(5);

    private readonly ConcurrentDictionary<UserKey, Entry> _entries = new();
    private readonly ConcurrentDictionary<(string Tenant, string App), long[]> _reads = new();
    private readonly Lock _lock = new();
    private readonly List<Entry> _clock = [];
    private readonly long[] _changed = new long[ChangeSlots]; // the timestamp, and one more: 0 is never
    private int _hand;
    private long _used;

    public long MostBytes => mostBytes;

    public long UsedBytes => Volatile.Read(ref _used);

    /// <summary>Of a tenant's apps whose users' heads were read here, how many came from where, in the order of <see cref="HeadSource"/>.</summary>
    public IEnumerable<(string App, IReadOnlyList<long> Reads)> Reads(string tenant) =>
        from app in _reads
        where app.Key.Tenant == tenant
        orderby app.Key.App
        select (app.Key.App, (IReadOnlyList<long>)app.Value);

    /// <summary>Somebody's state, from here where that will do.</summary>
    /// <param name="isFresh">Whether the caller wants what the store has now.</param>
    /// <exception cref="Store.StoreException">The store was asked and can't be read: nothing older than allowed is answered instead.</exception>
    public ValueTask<HeadRead> ReadAsync(UserKey user, HeadCacheDocument how, bool isFresh, CancellationToken cancellation)
    {
        // The time before the store is asked: what it says is at least as new.
        var (now, date) = (time.GetTimestamp(), time.GetUtcNow());
        HeadWeights? known = null;
        if (how.IsOn && _entries.TryGetValue(user, out var entry))
        {
            var kept = entry.Kept;
            entry.IsUsed = true;
            if (!isFresh && Age(kept, now, date) < how.MaxAge && kept.At >= Volatile.Read(ref ChangedSlot(user))) return ValueTask.FromResult(Counted(user, new HeadRead(kept.Weights, 0, HeadSource.Kept)));
            known = kept.Weights;
        }
        return AskAsync(user, known, how.IsOn, isFresh || HasChanged(user, LongestLag), now, date, cancellation);
    }

    /// <summary>Somebody's state has changed by this process, or may have: what was read before is not answered any more.</summary>
    public void Changed(UserKey user)
    {
        ref var slot = ref ChangedSlot(user);
        var now = time.GetTimestamp() + 1;
        for (var before = Volatile.Read(ref slot); before < now; before = Volatile.Read(ref slot))
        {
            if (Interlocked.CompareExchange(ref slot, now, before) == before) return;
        }
    }

    /// <summary>Whether somebody's state may have changed by this process so lately that another may still answer with what was before.</summary>
    public bool HasChanged(UserKey user) => HasChanged(user, HeadCacheDocument.LongestAge);

    private bool HasChanged(UserKey user, TimeSpan within) => Volatile.Read(ref ChangedSlot(user)) is > 0 and var changed && time.GetElapsedTime(changed) < within;

    /// <param name="isLatest">Whether what lags behind won't do: it would be kept as if it were new.</param>
    private async ValueTask<HeadRead> AskAsync(UserKey user, HeadWeights? known, bool keeps, bool isLatest, long now, DateTimeOffset date, CancellationToken cancellation)
    {
        var read = isLatest ? await state.ReadLatestWeightsAsync(user, known?.Tag, cancellation)
            : known is null ? await state.ReadWeightsAsync(user, cancellation)
            : await state.ReadWeightsAsync(user, known.Tag, cancellation);
        var weights = read.IsUnchanged ? known : read.Weights;
        if (keeps) Keep(user, new Kept(weights, now, date));
        return Counted(user, new HeadRead(weights, read.CostUsd, read.IsUnchanged ? HeadSource.Checked : HeadSource.Store));
    }

    private HeadRead Counted(UserKey user, HeadRead read)
    {
        Interlocked.Increment(ref _reads.GetOrAdd((user.Tenant, user.App), static _ => new long[3])[(int)read.Source]);
        return read;
    }

    private void Keep(UserKey user, Kept kept)
    {
        var bytes = BytesOf(user, kept.Weights);
        if (bytes > mostBytes) return;
        lock (_lock)
        {
            if (_entries.TryGetValue(user, out var entry))
            {
                // Two may have asked; the older answer is not put over the newer.
                if (kept.At < entry.Kept.At) return;
                _used += bytes - entry.Bytes;
                (entry.Kept, entry.Bytes) = (kept, bytes);
            }
            else
            {
                _entries[user] = entry = new Entry(user, kept) { Bytes = bytes };
                _clock.Add(entry);
                _used += bytes;
            }
            while (_used > mostBytes) Evict();
        }
    }

    /// <summary>Whoever was not asked for since the hand last passed goes. The last on the clock, who is the newest, takes his place, behind the hand.</summary>
    private void Evict()
    {
        for (; ; _hand++)
        {
            if (_hand >= _clock.Count) _hand = 0;
            var entry = _clock[_hand];
            if (entry.IsUsed)
            {
                entry.IsUsed = false;
                continue;
            }
            _clock[_hand] = _clock[^1];
            _clock.RemoveAt(_clock.Count - 1);
            _entries.TryRemove(entry.User, out _);
            _used -= entry.Bytes;
            _hand++;
            return;
        }
    }

    /// <summary>By the clock that went further: one of them may stand still while a sandbox is frozen.</summary>
    private TimeSpan Age(Kept kept, long now, DateTimeOffset date)
    {
        var (elapsed, passed) = (time.GetElapsedTime(kept.At, now), date - kept.Date);
        return elapsed > passed ? elapsed : passed;
    }

    private ref long ChangedSlot(UserKey user) => ref _changed[user.GetHashCode() & (ChangeSlots - 1)];

    private static long BytesOf(UserKey user, HeadWeights? weights) =>
        EntryBytes + 2L * user.User.Length + (weights is null ? 0 : sizeof(float) * (long)weights.Weights.Length + (weights.Policy?.Length ?? 0) + 2L * weights.Tag.Length);

    /// <param name="At">When it was asked for.</param>
    private sealed record Kept(HeadWeights? Weights, long At, DateTimeOffset Date);

    private sealed class Entry(UserKey user, Kept kept)
    {
        public volatile Kept Kept = kept;
        public volatile bool IsUsed;

        public UserKey User => user;

        public long Bytes { get; set; }
    }
}
