using System.Numerics.Tensors;

namespace Skiff.Caching;

/// <summary>
/// Finds an answer that is kept for a row nearby. Each table of <see cref="SignHash"/> names a few of the rows that fell where this one falls; of those the nearest counts, if it is near enough by its true
/// distance. Tables, rows and answers all live in the one <see cref="PredictionCache"/>, under its bound: a table may name what is gone by now.
/// </summary>
internal static class ApproximateCache
{
    /// <summary>Tables that an app may have.</summary>
    public const int MostTables = 16;

    /// <summary>Rows that one code names; a newer one drives out the oldest.</summary>
    private const int MostNames = 8;

    /// <param name="most">The Euclidean distance up to which a row is near enough, in the input's units.</param>
    public static KeptAnswer? Find(PredictionCache cache, CacheScope scope, ReadOnlySpan<float> row, double most, ReadOnlySpan<ulong> codes, out float distance)
    {
        KeptAnswer? nearest = null;
        RowKey place = default;
        distance = float.PositiveInfinity;
        for (var table = 0; table < codes.Length; table++)
        {
            if (!cache.TryGet(KeyOf(scope, table, codes[table]), out var kept) || kept is not Names names) continue;
            foreach (var name in names.Keys)
            {
                if (!cache.TryGet(name, out var named, touch: false) || named == nearest || named is not KeptAnswer { Row: { } other } answer) continue;
                var between = TensorPrimitives.Distance(row, other);
                if (between <= most && between < distance) (nearest, place, distance) = (answer, name, between);
            }
        }
        if (nearest is not null) cache.TryGet(place, out _);
        return nearest;
    }

    /// <summary>Writes the name of a row that is now kept into every table.</summary>
    public static void Add(PredictionCache cache, CacheScope scope, RowKey name, ReadOnlySpan<ulong> codes)
    {
        for (var table = 0; table < codes.Length; table++)
        {
            var key = KeyOf(scope, table, codes[table]);
            // Of two that write at once one may be forgotten: a hit less.
            RowKey[] others = cache.TryGet(key, out var kept) && kept is Names names ? names.Keys : [];
            cache.Put(key, new Names([name, .. others.Where(other => !other.Equals(name)).Take(MostNames - 1)]));
        }
    }

    private static RowKey KeyOf(CacheScope scope, int table, ulong code) => new(scope.Tables!, (ulong)table, code, 0, 0);

    private sealed class Names(RowKey[] keys) : Kept
    {
        public RowKey[] Keys => keys;

        public override int Bytes => 24 + 24 + keys.Length * 40;
    }
}
