using System.Runtime.InteropServices;

namespace Skiff.Caching;

/// <summary>
/// A row of an app as a key: the scope, which is compared as the object that it is, and 32 bytes. A row that is no longer stands there itself, a longer one by <see cref="RowHash"/>. So no two tenants, apps or versions
/// can meet under one key, whatever their inputs; and within a scope nobody can make two inputs that do, which a fast hash without a key would not promise. The input itself, by which one could compare, would
/// take several times the memory of an answer.
/// </summary>
internal readonly struct RowKey(CacheScope scope, ulong a, ulong b, ulong c, ulong d) : IEquatable<RowKey>
{
    private readonly ulong _a = a, _b = b, _c = c, _d = d;

    public CacheScope Scope => scope;

    /// <param name="row">Of one length within a scope: shorter rows are filled up with zeros.</param>
    public static RowKey Of(CacheScope scope, ReadOnlySpan<byte> row)
    {
        Span<ulong> words = stackalloc ulong[4];
        var bytes = MemoryMarshal.AsBytes(words);
        if (row.Length <= bytes.Length) row.CopyTo(bytes);
        else RowHash.Hash(row, words);
        return new RowKey(scope, words[0], words[1], words[2], words[3]);
    }

    /// <summary>The same row in another scope of its app.</summary>
    public RowKey In(CacheScope other) => new(other, _a, _b, _c, _d);

    public bool Equals(RowKey other) => ReferenceEquals(scope, other.Scope) && _a == other._a && _b == other._b && _c == other._c && _d == other._d;

    public override bool Equals(object? other) => other is RowKey key && Equals(key);

    /// <summary>With this process's seed, as <see cref="HashCode"/> has one: callers can't choose inputs that crowd together.</summary>
    public override int GetHashCode() => HashCode.Combine(scope.Number, _a, _b, _c, _d);
}
