using System.Collections.Concurrent;
using Skiff.Caching;

namespace Skiff.Monitoring;

/// <summary>What the prediction cache did in this process, each app's for itself.</summary>
public sealed class CacheStatistics
{
    private readonly ConcurrentDictionary<(string Tenant, string App), CacheCounts> _apps = new();

    public CacheCounts Of(string tenant, string app) => _apps.GetOrAdd((tenant, app), _ => new CacheCounts());

    /// <summary>Of a tenant's apps that have been asked through the cache.</summary>
    public IEnumerable<(string App, CacheCounts Counts)> All(string tenant) =>
        from app in _apps
        where app.Key.Tenant == tenant
        orderby app.Key.App
        select (app.Key.App, app.Value);
}

/// <summary>What the cache did for an app.</summary>
public sealed class CacheCounts
{
    private readonly long[] _rows = new long[Enum.GetValues<AnswerSource>().Length];
    private long _evicted;

    /// <summary>Answers that were kept and had to make room.</summary>
    public long Evicted => Volatile.Read(ref _evicted);

    /// <summary>Rows that were answered from there.</summary>
    public long Rows(AnswerSource source) => Volatile.Read(ref _rows[(int)source]);

    public void Add(AnswerSource source) => Interlocked.Increment(ref _rows[(int)source]);

    public void AddEvicted() => Interlocked.Increment(ref _evicted);
}
