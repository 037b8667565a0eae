namespace Skiff.Planning.Simulation;

/// <summary>Numbers, at most so many: the least recently used goes when there is no room. A hash table with a list through it, in arrays that grow with what is in.</summary>
internal sealed class LruSet(int capacity)
{
    private const int None = -1;
    private int[] _buckets = [];
    private Entry[] _entries = [];
    private int _count;
    private int _newest = None, _oldest = None;

    /// <summary>Uses a number.</summary>
    /// <returns>Whether it was in.</returns>
    public bool Touch(int value)
    {
        if (capacity == 0) return false;
        var at = _count == 0 ? None : Find(value);
        if (at != None)
        {
            if (at == _newest) return true;
            Unlink(at);
            LinkNewest(at);
            return true;
        }
        if (_count < capacity)
        {
            if (_count == _entries.Length) Grow();
            at = _count++;
        }
        else
        {
            at = _oldest;
            Unlink(at);
            Unhash(at);
        }
        _entries[at].Value = value;
        Hash(at);
        LinkNewest(at);
        return false;
    }

    public bool Contains(int value) => _count > 0 && Find(value) != None;

    public void Clear()
    {
        Array.Fill(_buckets, None);
        _count = 0;
        _newest = _oldest = None;
    }

    /// <summary>What is in, the newest first.</summary>
    public IEnumerable<int> Values()
    {
        for (var at = _newest; at != None; at = _entries[at].Older) yield return _entries[at].Value;
    }

    private int Find(int value)
    {
        for (var at = _buckets[BucketOf(value)]; at != None; at = _entries[at].NextInBucket)
        {
            if (_entries[at].Value == value) return at;
        }
        return None;
    }

    private int BucketOf(int value) => (int)((uint)value * 0x9E3779B1u >> 7) & (_buckets.Length - 1);

    private void Hash(int at)
    {
        ref var bucket = ref _buckets[BucketOf(_entries[at].Value)];
        _entries[at].NextInBucket = bucket;
        bucket = at;
    }

    private void Unhash(int at)
    {
        ref var link = ref _buckets[BucketOf(_entries[at].Value)];
        while (link != at) link = ref _entries[link].NextInBucket;
        link = _entries[at].NextInBucket;
    }

    private void LinkNewest(int at)
    {
        (_entries[at].Older, _entries[at].Newer) = (_newest, None);
        if (_newest != None) _entries[_newest].Newer = at;
        else _oldest = at;
        _newest = at;
    }

    private void Unlink(int at)
    {
        var (older, newer) = (_entries[at].Older, _entries[at].Newer);
        if (older != None) _entries[older].Newer = newer;
        else _oldest = newer;
        if (newer != None) _entries[newer].Older = older;
        else _newest = older;
    }

    private void Grow()
    {
        var size = Math.Min(capacity, Math.Max(4, 2 * _entries.Length));
        Array.Resize(ref _entries, size);
        _buckets = new int[System.Numerics.BitOperations.RoundUpToPowerOf2((uint)size)];
        Array.Fill(_buckets, None);
        for (var at = 0; at < _count; at++) Hash(at);
    }

    private struct Entry
    {
        public int Value, Older, Newer, NextInBucket;
    }
}
