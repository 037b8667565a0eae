using System.Diagnostics.CodeAnalysis;
using System.Numerics;

namespace Skiff.Caching;

/// <summary>
/// What this process has computed for rows, bounded by bytes, and what it is computing: who asks for a row that is under way joins that run. Replacement is CLOCK, the second chance: a hit sets a bit and moves
/// nothing. Sharded by key; the locks are held over a look at a table, never over a run. Nothing expires: what an answer depends on is in its key.
/// </summary>
public sealed class PredictionCache
{
    /// <summary>A shard that holds less would evict by accident of its keys.</summary>
    private const long LeastShardBytes = 1 << 18;

    private readonly Shard[] _shards;

    /// <param name="mostBytes">Of everything that is kept, as <see cref="Kept.Bytes"/> and <see cref="EntryBytes"/> count it; 0 turns the cache off.</param>
    public PredictionCache(long mostBytes)
    {
        MostBytes = mostBytes;
        var shards = (int)Math.Clamp((long)BitOperations.RoundUpToPowerOf2((ulong)Math.Max(1, mostBytes / LeastShardBytes / 2)), 1, 16);
        _shards = [.. Enumerable.Range(0, shards).Select(_ => new Shard(mostBytes / shards))];
    }

    public long MostBytes { get; }

    public bool IsOn => MostBytes > 0;

    public long UsedBytes => _shards.Sum(shard => shard.UsedBytes);

    /// <summary>What an entry takes beside its value: the entry itself, and its places in the table and on the clock, with the room that these keep to grow.</summary>
    internal const int EntryBytes = 80 + 136 + 16;

    /// <param name="touch">Whether the look is a use, which earns a second chance.</param>
    internal bool TryGet(in RowKey key, [MaybeNullWhen(false)] out Kept kept, bool touch = true) => ShardOf(key).TryGet(key, touch, out kept);

    /// <summary>Keeps a value, unless it is larger than a shard.</summary>
    internal void Put(in RowKey key, Kept kept) => ShardOf(key).Put(key, kept);

    /// <summary>Finds what is kept, or joins who computes it, or makes the caller the one who does: it must then end the flight, whatever happens.</summary>
    internal Boarding Board(in RowKey key) => ShardOf(key).Board(key);

    /// <summary>Ends a flight that <see cref="Board"/> made the caller lead.</summary>
    /// <param name="keptUnder">Where the answer is to be found from now on; null to keep nothing.</param>
    internal void Land(in RowKey key, Flight flight, Landing landing, RowKey? keptUnder)
    {
        // Kept before the flight is gone: nobody may find neither.
        if (keptUnder is { } place && landing.Answer is { } answer) Put(place, answer);
        ShardOf(key).Remove(key, flight);
        flight.Land(landing);
    }

    private Shard ShardOf(in RowKey key) => _shards[(uint)key.GetHashCode() >> 16 & (uint)(_shards.Length - 1)];

    private sealed class Shard(long mostBytes)
    {
        private readonly Lock _lock = new();
        private readonly Dictionary<RowKey, Entry> _entries = [];
        private readonly Dictionary<RowKey, Flight> _flights = [];
        private readonly List<Entry?> _clock = [];
        private readonly Stack<int> _gaps = [];
        private int _hand;
        private long _used;

        public long UsedBytes
        {
            get
            {
                lock (_lock) return _used;
            }
        }

        public bool TryGet(in RowKey key, bool touch, [MaybeNullWhen(false)] out Kept kept)
        {
            lock (_lock)
            {
                if (_entries.TryGetValue(key, out var entry))
                {
                    if (touch) entry.Used = true;
                    kept = entry.Kept;
                    return true;
                }
            }
            kept = null;
            return false;
        }

        public Boarding Board(in RowKey key)
        {
            lock (_lock)
            {
                if (_entries.TryGetValue(key, out var entry))
                {
                    entry.Used = true;
                    return new Boarding(entry.Kept, null, Leads: false);
                }
                if (_flights.TryGetValue(key, out var flight)) return new Boarding(null, flight, Leads: false);
                _flights.Add(key, flight = new Flight());
                return new Boarding(null, flight, Leads: true);
            }
        }

        public void Remove(in RowKey key, Flight flight)
        {
            lock (_lock)
            {
                if (_flights.TryGetValue(key, out var current) && current == flight) _flights.Remove(key);
            }
        }

        public void Put(in RowKey key, Kept kept)
        {
            var bytes = kept.Bytes + EntryBytes;
            if (bytes > mostBytes) return;
            lock (_lock)
            {
                if (_entries.TryGetValue(key, out var entry))
                {
                    _used += kept.Bytes - entry.Kept.Bytes;
                    entry.Kept = kept;
                    MakeRoom(0);
                    return;
                }
                MakeRoom(bytes);
                entry = new Entry(key, kept);
                _entries.Add(key, entry);
                _used += bytes;
                // Into the gap that the hand has left behind it, so that a new entry is the last to be looked at.
                if (_gaps.TryPop(out var gap)) _clock[gap] = entry;
                else _clock.Add(entry);
            }
        }

        private void MakeRoom(long bytes)
        {
            while (_used + bytes > mostBytes)
            {
                if (_hand >= _clock.Count) _hand = 0;
                if (_clock[_hand] is { } entry)
                {
                    if (entry.Used) entry.Used = false;
                    else
                    {
                        _entries.Remove(entry.Key);
                        _clock[_hand] = null;
                        _gaps.Push(_hand);
                        _used -= entry.Kept.Bytes + EntryBytes;
                        if (entry.Kept is KeptAnswer) entry.Key.Scope.Statistics.AddEvicted();
                    }
                }
                _hand++;
            }
        }

        private sealed class Entry(RowKey key, Kept kept)
        {
            public readonly RowKey Key = key;
            public Kept Kept = kept;
            public bool Used;
        }
    }
}

/// <summary>What is kept under a key.</summary>
internal abstract class Kept
{
    /// <summary>Its size in memory, with the headers of its objects.</summary>
    public abstract int Bytes { get; }
}

/// <summary>How a row was found: kept already, or under way, led by the caller or by somebody else.</summary>
internal readonly record struct Boarding(Kept? Kept, Flight? Flight, bool Leads);

/// <summary>How a run ended for one of its rows: with an answer, with the failure of that very row, or with neither, and who waited for it runs it alone.</summary>
internal readonly record struct Landing(KeptAnswer? Answer, Exception? Failure);

/// <summary>A row's run that is under way.</summary>
internal sealed class Flight
{
    private readonly TaskCompletionSource<Landing> _landing = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task<Landing> Landing => _landing.Task;

    /// <summary>The first time counts.</summary>
    public void Land(Landing landing) => _landing.TrySetResult(landing);
}
