using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Skiff.Batching;
using Skiff.Monitoring;
using Skiff.Store;

namespace Skiff.Models;

public sealed record ModelHostOptions
{
    /// <summary>What loaded sessions may take together, as <see cref="ModelHost.EstimateBytes"/> counts it.</summary>
    public long MemoryBytes { get; init; } = 2L << 30;

    /// <summary>How old an alias may be when it is used: a moved alias is seen within this time and the new version's load.</summary>
    public TimeSpan AliasInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a version that failed to load is left alone before the next attempt.</summary>
    public TimeSpan RetryFailedAfter { get; init; } = TimeSpan.FromSeconds(5);

    public ExecutionProvider Provider { get; init; } = ExecutionProvider.Cpu;

    /// <summary>Sessions of the runtime for each model: more than one only helps where the runs of one wait for each other, which is on a GPU. Each counts in <see cref="MemoryBytes"/>.</summary>
    public int Instances { get; init; } = 1;

    /// <summary>Rows of the runs that warm a model before it is used, besides one of a single row.</summary>
    public IReadOnlyList<int> WarmRows { get; init; } = [];

    public ModelLimits Limits { get; init; } = ModelLimits.Default;
    public BatchingOptions Batching { get; init; } = new();
}

/// <summary>A session in use: dispose it when the outputs are read.</summary>
public readonly struct ModelLease(ModelVersion version, Batcher batcher) : IDisposable
{
    public ModelSession Session => batcher.Session;
    public Manifest Manifest => version.Manifest;
    public ModelStatistics Statistics => version.Statistics;

    /// <summary>How many runs of this model are made side by side.</summary>
    public int Workers => batcher.Workers;

    /// <inheritdoc cref="Batcher.RunAsync"/>
    public ValueTask<ModelOutputs> RunAsync(TensorBuffer buffer, Tensor[] inputs, Terms terms, TimeSpan? objective, CancellationToken cancellation) =>
        batcher.RunAsync(buffer, inputs, terms, objective, cancellation);

    /// <summary>
    /// An app was checked against the versions that were live when it was read; <c>live</c> may have moved since. Makes sure that this version still takes the input, and
    /// that its first output is FP32 of <paramref name="width"/> columns.
    /// </summary>
    /// <param name="width">-1 for any.</param>
    /// <exception cref="RequestException">It doesn't; not the caller's fault.</exception>
    public void RequireFit(Tensor input, long width)
    {
        var (inputs, output) = (Session.Inputs, Session.Outputs[0]);
        if (inputs.Count != 1 || inputs[0].Type != input.Type || !inputs[0].Takes(input.Shape)) throw Misfit($"takes {string.Join(", ", inputs)}");
        if (output.Type != DataType.Fp32 || (width >= 0 && (output.Shape.Length != 2 || output.Shape[1] != width))) throw Misfit($"gives {output}");
    }

    public RequestException Misfit(string what) =>
        RequestException.Unavailable($"version {Manifest.Version} of model '{Manifest.Name}' no longer fits the app: it {what}. Move 'live' to a version that does, or publish the app anew");

    public void Dispose() => Session.Leave();
}

/// <summary>
/// The models of this process. A model is loaded when it is first asked for, by one of however many ask at once; sessions live under a memory budget and the least recently
/// used goes first; a moved alias is noticed in the background, the new version loaded and run once, and only then swapped in. If that fails, the old version stays.
/// </summary>
public sealed class ModelHost(ModelStore store, ModelHostOptions options, TimeProvider time, ILogger<ModelHost> log)
{
    /// <summary>Aliases that one look in the background takes in.</summary>
    private const int MostLooks = 256;

    /// <summary>Questions of an index that the store is asked at once.</summary>
    private const int MostQuestions = 32;

    private readonly ConcurrentDictionary<(string Tenant, string Name), ServedModel> _models = new();
    private readonly Lock _budget = new();
    private readonly List<ModelVersion> _loaded = []; // guarded by _budget
    private long _used; // guarded by _budget

    /// <summary>Bytes that sessions take now, of <see cref="ModelHostOptions.MemoryBytes"/>.</summary>
    public long UsedBytes
    {
        get
        {
            lock (_budget) return _used;
        }
    }

    /// <summary>What a session is counted as: the runtime holds the weights twice at worst, as stored and as packed for its kernels.</summary>
    public static long EstimateBytes(long modelBytes) => 2 * modelBytes + (1 << 20);

    /// <summary>Leases a model's session, loading it first if need be.</summary>
    /// <param name="version">A version, or null for the one that <c>live</c> names.</param>
    /// <exception cref="RequestException">The model or version is unknown, was unloaded, or can't be loaded.</exception>
    public ValueTask<ModelLease> AcquireAsync(string tenant, string name, int? version, CancellationToken cancellation)
    {
        if (_models.TryGetValue((tenant, name), out var model))
        {
            if (IsDue(model) && RefreshAsync(model) is { IsCompleted: false } refresh) model.Refresh = refresh;
            var wanted = version is { } number ? model.Versions.GetValueOrDefault(number) : model.Live;
            if (!model.Unloaded && wanted is not null && TryLease(wanted, out var lease)) return ValueTask.FromResult(lease);
        }
        return AcquireSlowAsync(tenant, name, version, cancellation);
    }

    /// <summary>Which version a request would run on now, without loading it. The alias is looked at where that is due, as requests do it.</summary>
    /// <returns>0 for a model that nobody has asked for, or that was unloaded.</returns>
    public int LiveVersion(string tenant, string name)
    {
        if (!_models.TryGetValue((tenant, name), out var model)) return 0;
        if (IsDue(model)) _ = RefreshAsync(model);
        return model.Unloaded ? 0 : model.Live?.Manifest.Version ?? 0;
    }

    /// <summary>Whether nobody need wait for a model any more: it could run at once, or it is known that it can't.</summary>
    public bool IsSettled(string tenant, string name) =>
        _models.TryGetValue((tenant, name), out var model) && (model.Unloaded || model.Live is { Batcher: not null } or { Error: not null });

    /// <param name="isElsewhere">Whether it runs on another tier: then it isn't loaded here when its alias moves either.</param>
    /// <returns>A version's manifest without loading it; for null, of the version that answers now.</returns>
    public async Task<Manifest> DescribeAsync(string tenant, string name, int? version, CancellationToken cancellation, bool isElsewhere = false)
    {
        var model = await FindAsync(tenant, name, cancellation);
        if (isElsewhere) model.IsElsewhere = true;
        return (await VersionAsync(model, version, cancellation)).Manifest;
    }

    /// <summary>Loads a model, also one that was unloaded, at the version that <c>live</c> names now.</summary>
    public async Task LoadAsync(string tenant, string name, CancellationToken cancellation)
    {
        var model = await FindAsync(tenant, name, cancellation);
        model.Unloaded = false;
        await RefreshAsync(model, retryFailed: true).WaitAsync(cancellation);
        if (model.SwapError is { } error) throw RequestException.Unavailable(error);
        (await AcquireAsync(tenant, name, null, cancellation)).Dispose();
    }

    /// <summary>Frees a model's memory and refuses requests for it until it is loaded again. Requests that have begun finish.</summary>
    public async Task UnloadAsync(string tenant, string name, CancellationToken cancellation)
    {
        var model = await FindAsync(tenant, name, cancellation);
        model.Unloaded = true;
        foreach (var version in model.Versions.Values)
        {
            // A load that has begun would otherwise end after we have looked.
            if (version.Loading is { } underWay) await underWay.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            Evict(version);
        }
    }

    /// <summary>
    /// Looks at the aliases that are due, at most so many and those first that were looked at longest ago: with thousands of models the looks cost no more, and a push without traffic is noticed later.
    /// Long-lived hosts call it now and then, so that one is noticed at all.
    /// </summary>
    public Task RefreshDueAsync() => Task.WhenAll(
        (from model in _models.Values where IsDue(model) orderby Volatile.Read(ref model.CheckedAt) select model).Take(MostLooks).Select(model => RefreshAsync(model)));

    /// <summary>The looks at aliases that requests have begun; each is given out once.</summary>
    public IEnumerable<Task?> TakeRefreshes() => from model in _models select Interlocked.Exchange(ref model.Value.Refresh, null);

    /// <summary>Every model of a tenant, its versions and their state.</summary>
    public async Task<IReadOnlyList<ModelState>> IndexAsync(string tenant, CancellationToken cancellation)
    {
        var names = await store.NamesAsync(tenant, ArtifactKind.Model, cancellation);
        // Side by side: a bucket answers each question in milliseconds, and there are two a model.
        var states = new List<ModelState>[names.Count];
        var options = new ParallelOptions { MaxDegreeOfParallelism = MostQuestions, CancellationToken = cancellation };
        await Parallel.ForAsync(0, names.Count, options, async (i, cancelled) => states[i] = await StatesAsync(tenant, names[i], cancelled));
        return [.. states.SelectMany(versions => versions)];
    }

    private async Task<List<ModelState>> StatesAsync(string tenant, string name, CancellationToken cancellation)
    {
        var states = new List<ModelState>();
        _models.TryGetValue((tenant, name), out var model);
        var live = model?.Live?.Manifest.Version ?? await store.ResolveAsync(tenant, ArtifactKind.Model, name, ModelStore.Live, cancellation);
        foreach (var number in await store.VersionsAsync(tenant, ArtifactKind.Model, name, cancellation))
        {
            var version = model?.Versions.GetValueOrDefault(number);
            var loaded = version?.Batcher is not null && model is { Unloaded: false };
            var reason = model is { Unloaded: true } ? "unloaded" : version?.Error ?? (model?.SwapVersion == number ? model.SwapError : null) ?? (loaded ? "" : "not loaded; the first request loads it");
            states.Add(new ModelState(name, number, number == live, loaded, reason));
        }
        return states;
    }

    /// <summary>The batchers of what is loaded now.</summary>
    public IEnumerable<(string Tenant, Manifest Manifest, Batcher Batcher)> Batchers() =>
        from model in _models
        from version in model.Value.Versions
        where version.Value.Batcher is not null
        select (model.Key.Tenant, version.Value.Manifest, version.Value.Batcher);

    /// <summary>Statistics of the versions that have served since this process started.</summary>
    public IEnumerable<(string Tenant, Manifest Manifest, ModelStatistics Statistics)> Statistics() =>
        from model in _models
        from version in model.Value.Versions
        select (model.Key.Tenant, version.Value.Manifest, version.Value.Statistics);

    /// <summary>Frees everything. Leases that are still out free theirs when they end.</summary>
    public void UnloadAll()
    {
        foreach (var model in _models.Values)
        {
            model.Unloaded = true;
            foreach (var version in model.Versions.Values) Evict(version);
        }
    }

    private async ValueTask<ModelLease> AcquireSlowAsync(string tenant, string name, int? version, CancellationToken cancellation)
    {
        var model = await FindAsync(tenant, name, cancellation);
        while (true)
        {
            if (model.Unloaded)
            {
                throw RequestException.Unavailable($"model '{name}' was unloaded; POST /v2/repository/models/{name}/load loads it again");
            }
            var wanted = await VersionAsync(model, version, cancellation);
            await LoadOnceAsync(wanted, retryFailed: false).WaitAsync(cancellation);
            // Between load and lease the session may have been evicted for another one: then it is loaded again.
            if (TryLease(wanted, out var lease)) return lease;
        }
    }

    private bool TryLease(ModelVersion version, out ModelLease lease)
    {
        if (version.Batcher is { } batcher && batcher.Session.TryEnter())
        {
            version.LastUsed = time.GetTimestamp();
            lease = new ModelLease(version, batcher);
            return true;
        }
        lease = default;
        return false;
    }

    private async Task<ServedModel> FindAsync(string tenant, string name, CancellationToken cancellation)
    {
        if (_models.TryGetValue((tenant, name), out var known)) return known;
        // Only what the store has is remembered, or callers could fill the memory with names. Asked first is what tells most: a cold start waits for every answer.
        var live = Names.IsValid(name) ? await store.LiveAsync(tenant, ArtifactKind.Model, name, cancellation) : null;
        if (live is null && (!Names.IsValid(name) || (await store.VersionsAsync(tenant, ArtifactKind.Model, name, cancellation)).Count == 0))
        {
            throw RequestException.NotFound($"unknown model '{name}'; POST /v2/repository/index lists the models");
        }
        var model = _models.GetOrAdd((tenant, name), key => new ServedModel(key.Tenant, key.Name) { CheckedAt = time.GetTimestamp() });
        if (live is not null) Interlocked.CompareExchange(ref model.Live, model.Version(live), null);
        return model;
    }

    private async Task<ModelVersion> VersionAsync(ServedModel model, int? version, CancellationToken cancellation)
    {
        if (version is { } number) return await VersionAsync(model, number, cancellation);
        if (model.Live is { } live) return live;
        var manifest = await store.LiveAsync(model.Tenant, ArtifactKind.Model, model.Name, cancellation)
            ?? throw RequestException.NotFound($"model '{model.Name}' has no live version: ask for a version, or move the alias 'live' to one");
        var found = model.Version(manifest);
        return Interlocked.CompareExchange(ref model.Live, found, null) ?? found;
    }

    private async Task<ModelVersion> VersionAsync(ServedModel model, int number, CancellationToken cancellation)
    {
        if (model.Versions.TryGetValue(number, out var known)) return known;
        var manifest = await store.ManifestAsync(model.Tenant, ArtifactKind.Model, model.Name, number, cancellation);
        if (manifest is null)
        {
            var versions = await store.VersionsAsync(model.Tenant, ArtifactKind.Model, model.Name, cancellation);
            throw RequestException.NotFound($"model '{model.Name}' has no version {number}; it has {string.Join(", ", versions)}");
        }
        return model.Version(manifest);
    }

    /// <summary>The task of the one load that everybody waits for.</summary>
    private Task LoadOnceAsync(ModelVersion version, bool retryFailed)
    {
        lock (version)
        {
            if (version.Batcher is not null) return Task.CompletedTask;
            if (version.Loading is { IsCompleted: false } underWay) return underWay;
            if (version.Error is { } error && !retryFailed && time.GetElapsedTime(version.FailedAt) < options.RetryFailedAfter)
            {
                return Task.FromException(RequestException.Unavailable(error));
            }
            return version.Loading = Task.Run(() => LoadAsync(version));
        }
    }

    private async Task LoadAsync(ModelVersion version)
    {
        var manifest = version.Manifest;
        try
        {
            var content = await store.ContentAsync(version.Tenant, manifest, CancellationToken.None);
            var inspected = OnnxFile.Inspect(content, options.Limits);
            MakeRoom(version, options.Instances * EstimateBytes(content.Length));
            try
            {
                var session = ModelSession.Load(content, inspected, options.Provider, options.Instances);
                try
                {
                    session.Warm([.. options.WarmRows]);
                }
                catch
                {
                    session.Leave();
                    throw;
                }
                version.Error = null;
                version.LastUsed = time.GetTimestamp();
                version.Batcher = new Batcher(session, options.Batching, version.Statistics, time);
                // Those that were still loading when this one began could not make room.
                Shrink(options.MemoryBytes, except: version);
            }
            catch
            {
                Forget(version);
                throw;
            }
            log.LogInformation("loaded model {Model} version {Version} of tenant {Tenant}", manifest.Name, manifest.Version, version.Tenant);
        }
        catch (Exception e) when (e is StoreException or ModelRejectedException or ModelFailedException or RequestException)
        {
            version.Error = $"model '{manifest.Name}' version {manifest.Version} can't be loaded: {e.Message}";
            version.FailedAt = time.GetTimestamp();
            log.LogError("{Error}", version.Error);
            throw RequestException.Unavailable(version.Error);
        }
    }

    private void MakeRoom(ModelVersion version, long bytes)
    {
        lock (_budget)
        {
            if (bytes > options.MemoryBytes)
            {
                throw RequestException.Unavailable($"it needs {bytes >> 20} MiB and the memory budget for models is {options.MemoryBytes >> 20} MiB (SKIFF_MODEL_MEMORY_MB)");
            }
            Shrink(options.MemoryBytes - bytes, except: version);
            version.Bytes = bytes;
            _used += bytes;
            _loaded.Add(version);
        }
    }

    /// <summary>Evicts the least recently used until no more than <paramref name="bytes"/> are left.</summary>
    private void Shrink(long bytes, ModelVersion except)
    {
        lock (_budget)
        {
            while (_used > bytes)
            {
                // One that is still loading has no session to give up: then the budget is exceeded until it has loaded, rather than a request refused.
                if (_loaded.Where(other => other != except && other.Batcher is not null).MinBy(other => other.LastUsed) is not { } oldest) break;
                Evict(oldest);
            }
        }
    }

    private void Evict(ModelVersion version)
    {
        Batcher? batcher;
        lock (_budget)
        {
            batcher = Interlocked.Exchange(ref version.Batcher, null);
            if (batcher is not null) Forget(version);
        }
        batcher?.Session.Leave();
    }

    private void Forget(ModelVersion version)
    {
        lock (_budget)
        {
            if (_loaded.Remove(version)) _used -= version.Bytes;
        }
    }

    private bool IsDue(ServedModel model) => time.GetElapsedTime(Volatile.Read(ref model.CheckedAt)) >= options.AliasInterval;

    private async Task RefreshAsync(ServedModel model, bool retryFailed = false)
    {
        if (Interlocked.Exchange(ref model.Checking, 1) == 1 && !retryFailed) return;
        try
        {
            Volatile.Write(ref model.CheckedAt, time.GetTimestamp());
            if (model.Unloaded) return;
            var manifest = await ReadLiveAsync(model);
            if (manifest is null || manifest.Version == model.Live?.Manifest.Version)
            {
                model.SwapError = null;
                return;
            }
            var next = model.Version(manifest);
            // One that runs elsewhere is not loaded here for having moved.
            if (!model.IsElsewhere || model.Live is { LastUsed: > 0 }) await LoadOnceAsync(next, retryFailed);
            var previous = Interlocked.Exchange(ref model.Live, next);
            model.SwapError = null;
            if (previous is not null && previous != next) Evict(previous);
        }
        catch (Exception e) when (e is RequestException or StoreException)
        {
            model.SwapError = e.Message;
        }
        finally
        {
            Volatile.Write(ref model.Checking, 0);
        }
    }

    private async Task<Manifest?> ReadLiveAsync(ServedModel model)
    {
        try
        {
            var manifest = await store.LiveAsync(model.Tenant, ArtifactKind.Model, model.Name, CancellationToken.None);
            model.SwapVersion = manifest?.Version;
            return manifest;
        }
        catch (StoreException)
        {
            // Where the alias can be read and its version's manifest can't, the index says so of that version.
            model.SwapVersion = await store.ResolveAsync(model.Tenant, ArtifactKind.Model, model.Name, ModelStore.Live, CancellationToken.None);
            throw;
        }
    }

    /// <summary>A model that has been asked for: which version answers, and the versions that were ever used.</summary>
    private sealed class ServedModel(string tenant, string name)
    {
        public readonly string Tenant = tenant;
        public readonly string Name = name;
        public readonly ConcurrentDictionary<int, ModelVersion> Versions = new();
        public volatile ModelVersion? Live;
        public long CheckedAt;
        public int Checking;
        public Task? Refresh; // begun by a request, and not yet waited for
        public volatile bool Unloaded;
        public volatile bool IsElsewhere; // it runs on another tier: only its version is of interest
        public int? SwapVersion; // which version live names, loaded or not
        public volatile string? SwapError;

        public ModelVersion Version(Manifest manifest) => Versions.GetOrAdd(manifest.Version, _ => new ModelVersion(Tenant, manifest));
    }
}

/// <summary>A version in this process, loaded or not. Only <see cref="ModelHost"/> changes it.</summary>
public sealed class ModelVersion(string tenant, Manifest manifest)
{
    public string Tenant { get; } = tenant;
    public Manifest Manifest { get; } = manifest;
    public ModelStatistics Statistics { get; } = new();

    internal volatile Batcher? Batcher;
    internal volatile Task? Loading;
    internal volatile string? Error;
    internal long FailedAt;
    internal long LastUsed;
    internal long Bytes;
}

/// <summary>A line of the repository's index.</summary>
public sealed record ModelState(string Name, int Version, bool IsLive, bool IsLoaded, string Reason);
