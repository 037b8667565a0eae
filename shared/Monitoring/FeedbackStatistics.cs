using System.Collections.Concurrent;

namespace Skiff.Monitoring;

/// <summary>What became of feedback in this process, each tenant's for itself.</summary>
public sealed class FeedbackStatistics
{
    private readonly ConcurrentDictionary<string, FeedbackCounts> _tenants = new();

    public FeedbackCounts Of(string tenant) => _tenants.GetOrAdd(tenant, _ => new FeedbackCounts());
}

/// <summary>What became of a tenant's feedback.</summary>
public sealed class FeedbackCounts
{
    private long _accepted;
    private long _learnt;
    private long _kept;
    private long _duplicates;
    private long _quarantined;
    private long _late;
    private long _erased;
    private long _implicit;

    public long Accepted => Volatile.Read(ref _accepted);
    public long Learnt => Volatile.Read(ref _learnt);

    /// <summary>Kept, but no head changed by it.</summary>
    public long Kept => Volatile.Read(ref _kept);

    public long Duplicates => Volatile.Read(ref _duplicates);

    /// <summary>Put into quarantine.</summary>
    public long Quarantined => Volatile.Read(ref _quarantined);

    /// <summary>Kept, of decisions whose time for feedback was over.</summary>
    public long Late => Volatile.Read(ref _late);

    /// <summary>Dropped, because its user was erased after it was accepted.</summary>
    public long Erased => Volatile.Read(ref _erased);

    /// <summary>Silence that counted as feedback.</summary>
    public long Implicit => Volatile.Read(ref _implicit);

    public void AddAccepted(long count) => Interlocked.Add(ref _accepted, count);

    public void AddLearnt(long count) => Interlocked.Add(ref _learnt, count);

    public void AddKept(long count) => Interlocked.Add(ref _kept, count);

    public void AddDuplicates(long count) => Interlocked.Add(ref _duplicates, count);

    public void AddQuarantined(long count) => Interlocked.Add(ref _quarantined, count);

    public void AddLate(long count) => Interlocked.Add(ref _late, count);

    public void AddErased(long count) => Interlocked.Add(ref _erased, count);

    public void AddImplicit(long count) => Interlocked.Add(ref _implicit, count);
}
