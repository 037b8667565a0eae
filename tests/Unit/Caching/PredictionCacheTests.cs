using Skiff.Caching;
using Skiff.Monitoring;
using FsCheck;
using FsCheck.Fluent;

namespace Skiff.Unit.Caching;

public sealed class PredictionCacheTests
{
    private const int Bytes = 1000 - PredictionCache.EntryBytes;

    private readonly CacheCounts _counts = new();
    private readonly CacheScope _scope;

    public PredictionCacheTests() => _scope = Scope(1);

    [Fact]
    public void Kept_IsFoundUnderItsKeyAlone()
    {
        var cache = new PredictionCache(1 << 20);
        var kept = new Sized(Bytes);

        cache.Put(Key(_scope, 1), kept);

        Assert.True(cache.TryGet(Key(_scope, 1), out var found));
        Assert.Same(kept, found);
        Assert.False(cache.TryGet(Key(_scope, 2), out _));
        Assert.False(cache.TryGet(Key(Scope(1), 1), out _));
    }

    [Fact]
    public void Used_StaysAndUnusedGoes()
    {
        // One shard of a hundred entries.
        var cache = new PredictionCache(100_000);
        for (var i = 0; i < 100; i++) cache.Put(Key(_scope, i), new Sized(Bytes));
        for (var round = 0; round < 10; round++)
        {
            for (var i = 0; i < 10; i++) Assert.True(cache.TryGet(Key(_scope, i), out _));
            for (var i = 0; i < 50; i++) cache.Put(Key(_scope, 1000 + 50 * round + i), new Sized(Bytes));
        }

        for (var i = 0; i < 10; i++) Assert.True(cache.TryGet(Key(_scope, i), out _), $"{i} was used and is gone");
        for (var i = 10; i < 100; i++) Assert.False(cache.TryGet(Key(_scope, i), out _), $"{i} was not used and is there");
    }

    [Fact]
    public void LookThatIsNoUse_EarnsNoSecondChance()
    {
        var cache = new PredictionCache(10_000);
        for (var i = 0; i < 10; i++) cache.Put(Key(_scope, i), new Sized(Bytes));
        Assert.True(cache.TryGet(Key(_scope, 0), out _, touch: false));

        cache.Put(Key(_scope, 10), new Sized(Bytes));

        Assert.False(cache.TryGet(Key(_scope, 0), out _));
        Assert.True(cache.TryGet(Key(_scope, 1), out _));
    }

    [Fact]
    public void MemoryBound_HoldsWhateverIsKept() => Prop.ForAll(
        ArbMap.Default.GeneratorFor<(byte Key, ushort Size)>().ListOf().ToArbitrary(),
        puts =>
        {
            var cache = new PredictionCache(50_000);
            var last = new Dictionary<byte, int>();
            foreach (var (key, size) in puts)
            {
                cache.Put(Key(_scope, key), new Sized(size));
                if (size + PredictionCache.EntryBytes <= 50_000) last[key] = size;
            }
            // What is there is the last that was put, and its bytes are what is counted.
            var there = last.Where(pair => cache.TryGet(Key(_scope, pair.Key), out var kept) && kept.Bytes == pair.Value).Sum(pair => pair.Value + PredictionCache.EntryBytes);
            return cache.UsedBytes <= 50_000 && there == cache.UsedBytes;
        }).QuickCheckThrowOnFailure();

    [Fact]
    public void LargerThanTheCache_IsNotKeptAndDrivesNothingOut()
    {
        var cache = new PredictionCache(10_000);
        cache.Put(Key(_scope, 1), new Sized(Bytes));

        cache.Put(Key(_scope, 2), new Sized(10_000));

        Assert.True(cache.TryGet(Key(_scope, 1), out _));
        Assert.False(cache.TryGet(Key(_scope, 2), out _));
    }

    [Fact]
    public void ManyThreads_KeepTheBoundAndFindWhatIsTheirs()
    {
        var cache = new PredictionCache(4 << 20);

        Parallel.For(0, 50_000, i =>
        {
            var key = Key(_scope, i % 7000);
            if (cache.TryGet(key, out var kept)) Assert.Equal(i % 7000 % 900, kept.Bytes);
            else cache.Put(key, new Sized(i % 7000 % 900));
        });

        Assert.InRange(cache.UsedBytes, 1, 4 << 20);
    }

    [Fact]
    public async Task SecondToBoard_JoinsAndTheFlightIsGoneWhenItHasLanded()
    {
        var cache = new PredictionCache(1 << 20);
        var key = Key(_scope, 1);
        var first = cache.Board(key);
        var second = cache.Board(key);
        Assert.True(first.Leads && !second.Leads);
        Assert.Same(first.Flight, second.Flight);

        cache.Land(key, first.Flight!, new Landing(null, new InvalidOperationException("as planned")), null);

        Assert.Equal("as planned", (await second.Flight!.Landing).Failure!.Message);
        Assert.True(cache.Board(key).Leads);
    }

    [Fact]
    public void ShortRow_IsItsOwnKeyAndLongOneDiffersByAnyBit()
    {
        Assert.Equal(RowKey.Of(_scope, [1, 2, 3]), RowKey.Of(_scope, [1, 2, 3]));
        Assert.NotEqual(RowKey.Of(_scope, [1, 2, 3]), RowKey.Of(_scope, [1, 2, 4]));
        var row = new byte[3136];
        var key = RowKey.Of(_scope, row);
        for (var bit = 0; bit < row.Length * 8; bit += 97)
        {
            row[bit / 8] ^= (byte)(1 << bit % 8);
            Assert.NotEqual(key, RowKey.Of(_scope, row));
            row[bit / 8] = 0;
        }
        Assert.Equal(key, RowKey.Of(_scope, row));
    }

    [Fact]
    public void VectorsAndPairs_HashAlike()
    {
        Assert.SkipUnless(System.Runtime.Intrinsics.X86.Avx2.IsSupported, "there is one way only");
        var row = new byte[300];
        new Random(1).NextBytes(row);
        for (var length = 1; length <= row.Length; length++)
        {
            var (wide, narrow) = (new ulong[4], new ulong[4]);
            RowHash.HashWide(row.AsSpan(0, length), wide);
            RowHash.HashNarrow(row.AsSpan(0, length), narrow);
            Assert.Equal(narrow, wide);
        }
    }

    private static RowKey Key(CacheScope scope, int row) => RowKey.Of(scope, BitConverter.GetBytes(row));

    private CacheScope Scope(int version) => CacheScope.Exact(1, [version], _counts);

    private sealed class Sized(int bytes) : Kept
    {
        public override int Bytes => bytes;
    }
}
