using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Cascades;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Store;

namespace Skiff.Caching;

/// <summary>Where a row's answer came from.</summary>
public enum AnswerSource
{
    /// <summary>The cascade ran for it.</summary>
    Computed,

    /// <summary>It was kept.</summary>
    Exact,

    /// <summary>The same row was under way; its run was waited for.</summary>
    Joined,

    /// <summary>It was kept for a row nearby.</summary>
    Approximate,
}

/// <param name="Distance">How far the row lies from the one that was answered; 0 unless approximate.</param>
public readonly record struct AnswerOrigin(AnswerSource Source, float Distance);

/// <summary>What a cascade says about the rows of a request.</summary>
/// <param name="Origins">Of each row; null when all were computed.</param>
/// <param name="Runs">What ran, and without rows and time the stages behind what was kept.</param>
public readonly record struct CascadeAnswers(StageAnswer[] Answers, AnswerOrigin[]? Origins, IReadOnlyList<StageRun> Runs)
{
    public AnswerOrigin Origin(int row) => Origins is null ? default : Origins[row];

    public int Computed
    {
        get
        {
            var count = 0;
            for (var row = 0; row < Answers.Length; row++) count += Origin(row).Source == AnswerSource.Computed ? 1 : 0;
            return count;
        }
    }
}

/// <summary>
/// Stands before the cascades of apps that want a cache. Rows hit and miss singly; those that miss run together. Kept is what the global models say, before any user's head, and only what is all it could be:
/// nothing that was cut short, no failure. What was kept must not be changed.
/// </summary>
public sealed class CascadeCache(PredictionCache cache, ModelHost models, CacheStatistics statistics, TimeProvider time)
{
    private readonly ConcurrentDictionary<(string Tenant, string App), Scopes> _apps = new();

    /// <param name="input">All rows, shape [N, …]; the buffer is extended by what the cascade needs.</param>
    /// <param name="terms">After the deadline no further stage is begun, and nobody else's run is waited for; what is kept is answered even then.</param>
    /// <param name="cancellation">Ends waiting. A run that others may have joined goes on to its end.</param>
    /// <exception cref="RequestException">The first stage can't run.</exception>
    public ValueTask<CascadeAnswers> RunAsync(App app, Cascade cascade, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        if (!cache.IsOn || !app.Document.Cache.IsOn) return RunAllAsync(app, cascade, buffer, input, terms, cancellation);
        if (!TryScope(app, out var scope)) return RunFirstAsync(app, cascade, buffer, input, terms, cancellation);
        return RunAsync(app, cascade, scope, buffer, input, terms, cancellation);
    }

    /// <summary>Finds out what is live, so that all who ask until the models have run for the first time are of one scope, and join.</summary>
    private async ValueTask<CascadeAnswers> RunFirstAsync(App app, Cascade cascade, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        foreach (var stage in app.Document.Cascade)
        {
            if (models.LiveVersion(app.Tenant, stage.Model) != 0) continue;
            try
            {
                await models.DescribeAsync(app.Tenant, stage.Model, null, cancellation, app.RunsElsewhere(stage));
            }
            catch (Exception e) when (e is RequestException or StoreException)
            {
                // The cascade says so, if it comes to that stage.
            }
        }
        TryScope(app, out var scope);
        return await RunAsync(app, cascade, scope, buffer, input, terms, cancellation);
    }

    private ValueTask<CascadeAnswers> RunAsync(App app, Cascade cascade, CacheScope scope, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        if (input.Shape[0] != 1) return RunCachedAsync(app, cascade, scope, null, buffer, input, terms, cancellation);
        // The most frequent hit, of a single row, allocates its answer and nothing else.
        var key = RowKey.Of(scope, RowOf(buffer, input, 0));
        if (!cache.TryGet(key, out var kept)) return RunCachedAsync(app, cascade, scope, key, buffer, input, terms, cancellation);
        scope.Statistics.Add(AnswerSource.Exact);
        var answer = (KeptAnswer)kept;
        return ValueTask.FromResult(new CascadeAnswers([answer.Answer], [new AnswerOrigin(AnswerSource.Exact, 0)], answer.Runs));
    }

    private static async ValueTask<CascadeAnswers> RunAllAsync(App app, Cascade cascade, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        var (answers, runs) = await cascade.RunAsync(app.Tenant, buffer, input, terms, cancellation);
        return new CascadeAnswers(answers, null, runs);
    }

    /// <param name="first">The key of the only row, if it has been made; the row was then not kept a moment ago.</param>
    private async ValueTask<CascadeAnswers> RunCachedAsync(
        App app, Cascade cascade, CacheScope scope, RowKey? first, TensorBuffer buffer, Tensor input, Terms terms, CancellationToken cancellation)
    {
        var answers = new StageAnswer[(int)input.Shape[0]];
        var origins = new AnswerOrigin[answers.Length];
        IReadOnlyList<StageRun> before = [], ran = [];
        List<Flown>? led = null, joined = null, alone = null;
        try
        {
            // 1 What is kept, nearby too, and what is under way.
            for (var row = 0; row < answers.Length; row++)
            {
                var (kept, flown) = Find(app, scope, first, RowOf(buffer, input, row), row, ref origins[row]);
                if (kept is not null) Take(row, kept);
                else if (flown.Leads) (led ??= []).Add(flown);
                else (joined ??= []).Add(flown);
            }
            // 2 The rest, in one run. Others may join it, so it doesn't end with whoever began it.
            if (led is not null) await FlyAsync(led, CancellationToken.None);
        }
        catch (Exception e)
        {
            // With more than one row it can't be said whose failure it is: then everybody tries alone.
            foreach (var flown in led ?? []) cache.Land(flown.Key, flown.Flight, new Landing(null, led!.Count == 1 ? e : null), null);
            throw;
        }
        // 3 What others run; after our own, which they may be waiting for.
        foreach (var flown in joined ?? [])
        {
            var landing = await WaitAsync(flown.Flight, terms.Deadline, cancellation);
            if (landing.Failure is { } failure) ExceptionDispatchInfo.Throw(failure);
            // Whoever led had less time than we may have.
            if (landing.Answer is { } answer && answer.Answer.CutShort != "deadline")
            {
                origins[flown.Row] = new AnswerOrigin(AnswerSource.Joined, 0);
                Take(flown.Row, answer);
            }
            else if (time.GetTimestamp() < terms.Deadline) (alone ??= []).Add(flown);
            else answers[flown.Row] = new StageAnswer { CutShort = "deadline" };
        }
        if (alone is not null) await FlyAsync(alone, cancellation);
        foreach (var origin in origins) scope.Statistics.Add(origin.Source);
        return new CascadeAnswers(answers, origins, before.Count == 0 ? ran : ran.Count == 0 ? before : [.. before, .. ran]);

        void Take(int row, KeptAnswer kept)
        {
            answers[row] = kept.Answer;
            // Of rows that different stages answered, the latest says it for all.
            if (kept.Runs.Count > before.Count) before = kept.Runs;
        }

        async ValueTask FlyAsync(List<Flown> rows, CancellationToken cancelled)
        {
            var tensor = rows.Count == answers.Length ? input : Cascade.Gather(buffer, input, [.. rows.Select(flown => flown.Row)]);
            var (computed, runs) = await cascade.RunAsync(app.Tenant, buffer, tensor, terms, cancelled);
            // As the versions are now: one may have been swapped meanwhile, or loaded for the first time.
            var after = ScopeOf(app);
            for (var i = 0; i < rows.Count; i++)
            {
                answers[rows[i].Row] = computed[i];
                Keep(after, rows[i], computed[i], runs, RowOf(buffer, input, rows[i].Row));
            }
            ran = ran.Count == 0 ? runs : [.. ran, .. runs];
        }
    }

    /// <summary>Looks for one row; where nothing is found, it has joined a flight or leads one.</summary>
    private (KeptAnswer? Kept, Flown Flown) Find(App app, CacheScope scope, RowKey? first, ReadOnlySpan<byte> row, int index, ref AnswerOrigin origin)
    {
        var key = first ?? RowKey.Of(scope, row);
        if (first is null && cache.TryGet(key, out var kept))
        {
            origin = new AnswerOrigin(AnswerSource.Exact, 0);
            return ((KeptAnswer)kept, default);
        }
        ulong[]? codes = null;
        if (scope.Signs is { } signs)
        {
            var floats = MemoryMarshal.Cast<byte, float>(row);
            signs.Codes(floats, codes = new ulong[signs.Tables]);
            if (ApproximateCache.Find(cache, scope, floats, app.Document.Cache.Approximate!.Distance, codes, out var distance) is { } near)
            {
                origin = new AnswerOrigin(AnswerSource.Approximate, distance);
                return (near, default);
            }
        }
        var boarding = cache.Board(key);
        if (boarding.Flight is { } flight) return (null, new Flown(index, key, flight, boarding.Leads, codes));
        // It landed between the two looks.
        origin = new AnswerOrigin(AnswerSource.Exact, 0);
        return ((KeptAnswer)boarding.Kept!, default);
    }

    /// <summary>Keeps an answer that is all it could be, under the versions that made it, and lands its flight.</summary>
    private void Keep(CacheScope scope, Flown flown, StageAnswer answer, IReadOnlyList<StageRun> runs, ReadOnlySpan<byte> row)
    {
        var isMade = answer.Stage >= 0 && scope.Made(answer.Stage, runs);
        var isWhole = isMade && answer.CutShort is null && !((ReadOnlySpan<float>)answer.Probabilities).ContainsNotFinite();
        var kept = new KeptAnswer(
            answer,
            isMade ? scope.RunsTo(answer.Stage) : [.. runs.Take(answer.Stage + 1).Select(run => run with { Rows = 0, Duration = TimeSpan.Zero, OnTier = TimeSpan.Zero })],
            isWhole && flown.Codes is not null ? MemoryMarshal.Cast<byte, float>(row).ToArray() : null);
        var place = flown.Key.In(scope);
        if (flown.Leads) cache.Land(flown.Key, flown.Flight, new Landing(kept, null), isWhole ? place : null);
        else if (isWhole) cache.Put(place, kept);
        if (isWhole && flown.Codes is not null) ApproximateCache.Add(cache, scope, place, flown.Codes);
    }

    /// <summary>Waits for somebody else's run, as long as this request may: at its deadline it has nothing.</summary>
    private async ValueTask<Landing> WaitAsync(Flight flight, long deadline, CancellationToken cancellation)
    {
        if (deadline == long.MaxValue) return await flight.Landing.WaitAsync(cancellation);
        var rest = TimeSpan.FromSeconds(Math.Clamp((deadline - time.GetTimestamp()) / (double)time.TimestampFrequency, 0, TimeSpan.FromDays(1).TotalSeconds));
        try
        {
            return await flight.Landing.WaitAsync(rest, time, cancellation);
        }
        catch (TimeoutException)
        {
            return default;
        }
    }

    private CacheScope ScopeOf(App app)
    {
        TryScope(app, out var scope);
        return scope;
    }

    /// <returns>Whether every stage's version is known.</returns>
    private bool TryScope(App app, out CacheScope scope)
    {
        var stages = app.Document.Cascade;
        Span<int> versions = stages.Count <= 16 ? stackalloc int[stages.Count] : new int[stages.Count];
        for (var i = 0; i < versions.Length; i++) versions[i] = models.LiveVersion(app.Tenant, stages[i].Model);
        var scopes = _apps.GetOrAdd((app.Tenant, app.Name), static (name, all) => new Scopes(all.Of(name.Tenant, name.App)), statistics);
        scope = scopes.Find(app, versions);
        return !versions.Contains(0);
    }

    private static ReadOnlySpan<byte> RowOf(TensorBuffer buffer, Tensor input, int row)
    {
        var bytes = input.Length / (int)input.Shape[0];
        return buffer.Span(input.Offset + row * bytes, bytes);
    }

    /// <summary>The latest scopes of an app. More than one, since requests of the old and the new version overlap, and an alias may move back.</summary>
    private sealed class Scopes(CacheCounts statistics)
    {
        private const int Most = 4;

        private readonly Lock _lock = new();
        private volatile CacheScope[] _latest = [];

        public CacheScope Find(App app, ReadOnlySpan<int> versions) => Find(_latest, app, versions) ?? Add(app, versions);

        private static CacheScope? Find(CacheScope[] scopes, App app, ReadOnlySpan<int> versions)
        {
            foreach (var scope in scopes)
            {
                if (scope.Is(app.Version, versions)) return scope;
            }
            return null;
        }

        private CacheScope Add(App app, ReadOnlySpan<int> versions)
        {
            lock (_lock)
            {
                var latest = _latest;
                if (Find(latest, app, versions) is { } known) return known;
                var scope = CacheScope.Create(app, versions, statistics, latest.FirstOrDefault());
                _latest = [scope, .. latest.Take(Most - 1)];
                return scope;
            }
        }
    }

    /// <summary>A row that was not kept, and the flight that brings its answer.</summary>
    /// <param name="Codes">Where it falls in the approximate cache's tables; null where the app has none.</param>
    private readonly record struct Flown(int Row, RowKey Key, Flight Flight, bool Leads, ulong[]? Codes);
}

/// <summary>An answer that is shared by all who ask: nobody changes it.</summary>
/// <param name="runs">The versions it stands on, as runs of no rows and no time.</param>
/// <param name="row">Of the row itself, for an approximate cache; otherwise null.</param>
internal sealed class KeptAnswer(StageAnswer answer, IReadOnlyList<StageRun> runs, float[]? row) : Kept
{
    public StageAnswer Answer => answer;

    public IReadOnlyList<StageRun> Runs => runs;

    public float[]? Row => row;

    public override int Bytes { get; } = 48 + 48 + 32 + 24 + 24 + (answer.Probabilities.Length + answer.Confidences.Capacity) * sizeof(float) + (row is null ? 0 : 24 + row.Length * sizeof(float));
}
