using Skiff.Apps;
using Skiff.Cascades;
using Skiff.Monitoring;

namespace Skiff.Caching;

/// <summary>All that an answer depends on besides the row: tenant, app and its version, and which version of each stage's model is live.</summary>
internal sealed class CacheScope
{
    private static int s_last;

    private readonly int[] _versions;
    private readonly StageRun[][] _runs;

    private CacheScope(int appVersion, int[] versions, CacheCounts statistics)
    {
        AppVersion = appVersion;
        Statistics = statistics;
        _versions = versions;
        // Made once, so that a hit makes none.
        _runs = [.. versions.Select((_, last) => versions[..(last + 1)].Select((version, stage) => new StageRun(stage, version, 0, TimeSpan.Zero)).ToArray())];
    }

    /// <summary>Its own in this process.</summary>
    public int Number { get; } = Interlocked.Increment(ref s_last);

    public int AppVersion { get; }

    public CacheCounts Statistics { get; }

    /// <summary>For the keys of the approximate cache's tables; null where the app has none.</summary>
    public CacheScope? Tables { get; private init; }

    public SignHash? Signs { get; private init; }

    /// <summary>Without an approximate cache.</summary>
    public static CacheScope Exact(int appVersion, int[] versions, CacheCounts statistics) => new(appVersion, versions, statistics);

    /// <param name="versions">Of the stages' models, 0 for one that is not known or was unloaded.</param>
    /// <param name="alike">A scope of the same app, whose hyperplanes are taken over where they fit.</param>
    public static CacheScope Create(App app, ReadOnlySpan<int> versions, CacheCounts statistics, CacheScope? alike)
    {
        var numbers = versions.ToArray();
        if (app.Document.Cache.Approximate is not { } approximate) return Exact(app.Version, numbers, statistics);
        return new CacheScope(app.Version, numbers, statistics)
        {
            Tables = Exact(app.Version, [], statistics),
            Signs = alike?.Signs is { } signs && signs.Fits(app.RowElements, approximate.Bits, approximate.Tables) ? signs : new SignHash(app.RowElements, approximate.Bits, approximate.Tables),
        };
    }

    public bool Is(int appVersion, ReadOnlySpan<int> versions) => AppVersion == appVersion && versions.SequenceEqual(_versions);

    /// <summary>The versions that an answer of <paramref name="stage"/> stands on, as runs of no rows and no time.</summary>
    public IReadOnlyList<StageRun> RunsTo(int stage) => _runs[stage];

    /// <summary>Whether an answer of <paramref name="stage"/> was computed by the versions of this scope.</summary>
    public bool Made(int stage, IReadOnlyList<StageRun> runs)
    {
        for (var i = 0; i <= stage; i++)
        {
            if (i >= runs.Count || runs[i].Stage != i || runs[i].Version != _versions[i]) return false;
        }
        return true;
    }
}
