using Skiff.Models;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Apps;

/// <summary>What is wrong with a file that somebody wants to publish.</summary>
public sealed class PublishException(string message) : Exception(message);

/// <summary>Publishes models, priors and apps, after trying them: what can't be loaded and run here never becomes a version.</summary>
public sealed class Publisher(ModelStore store, ModelLimits limits)
{
    private static readonly string By = $"skiff {Product.Version}";

    /// <summary>Publishes an ONNX model, or, if the content is JSON, a prior.</summary>
    /// <param name="alias">The alias to move to the new version; null moves none, except that a name's first version becomes <c>live</c>.</param>
    /// <exception cref="PublishException">The content is neither, or can't be loaded and run.</exception>
    public async Task<(Manifest Manifest, string? Alias)> PushAsync(string tenant, byte[] content, string name, string? alias, CancellationToken cancellation)
    {
        if (alias is not null) Names.Check("alias", alias);
        return await PublishAsync(tenant, Describe(name, content), content, alias, cancellation);
    }

    /// <summary>Publishes an app document, which becomes live.</summary>
    /// <exception cref="PublishException">The document is invalid, or does not fit the models in the store, or what an app of its name that ranks has learnt.</exception>
    public async Task<(Manifest Manifest, string? Alias)> PushAppAsync(string tenant, byte[] content, CancellationToken cancellation)
    {
        var manifest = await DescribeAppAsync(tenant, content, cancellation);
        await CheckShardsAsync(tenant, AppDocument.Parse(content), cancellation);
        return await PublishAsync(tenant, manifest, content, ModelStore.Live, cancellation);
    }

    /// <summary>Publishes a model or a prior as a name's first version, live, unless there is one: of several processes that do so at once, one does.</summary>
    /// <exception cref="PublishException">The content is neither, or can't be loaded and run.</exception>
    public Task AddAsync(string tenant, byte[] content, string name, CancellationToken cancellation) => AddAsync(tenant, Describe(name, content), content, cancellation);

    /// <summary>The same for an app.</summary>
    /// <exception cref="PublishException">The document is invalid, or does not fit the models in the store.</exception>
    public async Task AddAppAsync(string tenant, byte[] content, CancellationToken cancellation) =>
        await AddAsync(tenant, await DescribeAppAsync(tenant, content, cancellation), content, cancellation);

    private async Task AddAsync(string tenant, Manifest manifest, byte[] content, CancellationToken cancellation)
    {
        var first = await store.PublishAsync(tenant, manifest, content, cancellation, onlyFirst: true);
        await store.TryAddAliasAsync(tenant, first.Kind, first.Name, ModelStore.Live, first.Version, cancellation);
    }

    private async Task<(Manifest Manifest, string? Alias)> PublishAsync(string tenant, Manifest manifest, byte[] content, string? alias, CancellationToken cancellation)
    {
        var published = await store.PublishAsync(tenant, manifest, content, cancellation);
        alias ??= published.Parent is null ? ModelStore.Live : null;
        if (alias is not null) await store.MoveAliasAsync(tenant, published.Kind, published.Name, alias, published.Version, cancellation);
        return (published, alias);
    }

    private Manifest Describe(string name, byte[] content)
    {
        Names.Check("model", name);
        return content.AsSpan().TrimStart(" \t\r\n"u8) is [(byte)'{', ..] ? DescribePrior(name, content) : DescribeModel(name, content);
    }

    private async Task<Manifest> DescribeAppAsync(string tenant, byte[] content, CancellationToken cancellation)
    {
        try
        {
            var manifest = Start(ArtifactKind.App, AppDocument.Parse(content).Name);
            await App.ReadAsync(tenant, content, store, cancellation);
            return manifest;
        }
        catch (FormatException e)
        {
            throw new PublishException(e.Message);
        }
    }

    /// <summary>Events wait, and what they taught lies, in the shard that the count gave them: with another count, rewards would look elsewhere, and shards beyond it would never be settled.</summary>
    private async Task CheckShardsAsync(string tenant, AppDocument document, CancellationToken cancellation)
    {
        if (document.Rank is not { Shards: var shards }) return;
        // What is live says it; if that doesn't rank, the latest version that does.
        var versions = await store.VersionsAsync(tenant, ArtifactKind.App, document.Name, cancellation);
        var manifests = versions.Reverse().Select<int, Func<Task<Manifest?>>>(version => () => store.ManifestAsync(tenant, ArtifactKind.App, document.Name, version, cancellation));
        foreach (var find in manifests.Prepend(() => store.LiveAsync(tenant, ArtifactKind.App, document.Name, cancellation)))
        {
            try
            {
                if (await find() is not { } manifest || AppDocument.Parse(await store.ContentAsync(tenant, manifest, cancellation)).Rank is not { } before) continue;
                if (before.Shards == shards) return;
                throw new PublishException($"'rank.shards' is {shards}: it takes {before.Shards}, as in version {manifest.Version} of app '{document.Name}'. The count is fixed by an app's first version, since what was learnt and what waits for rewards lies by it; for another count publish under another name");
            }
            catch (Exception e) when (e is FormatException or StoreException)
            {
                // A version that is damaged, or that this program can't read, must not keep one from publishing what replaces it: another one says it.
            }
        }
    }

    private Manifest DescribeModel(string name, byte[] content)
    {
        try
        {
            var inspected = OnnxFile.Inspect(content, limits);
            var session = ModelSession.Load(content, inspected);
            try
            {
                session.Warm();
            }
            finally
            {
                session.Leave();
            }
            var metadata = new Dictionary<string, string>(inspected.Metadata);
            if (inspected.Producer.Length > 0) metadata["producer"] = inspected.Producer;
            return Start(ArtifactKind.Model, name) with { Inputs = inspected.Inputs, Outputs = inspected.Outputs, Metadata = metadata };
        }
        catch (Exception e) when (e is ModelRejectedException or ModelFailedException)
        {
            throw new PublishException(e.Message);
        }
    }

    private static Manifest DescribePrior(string name, byte[] content)
    {
        try
        {
            var prior = Prior.Parse(content);
            return Start(ArtifactKind.Prior, name) with { Metadata = new Dictionary<string, string> { ["dimensions"] = $"{prior.Dimensions}", ["outputs"] = $"{prior.Outputs}" } };
        }
        catch (FormatException e)
        {
            throw new PublishException(e.Message);
        }
    }

    /// <summary>What the store does not fill in itself.</summary>
    private static Manifest Start(ArtifactKind kind, string name) => new() { Kind = kind, Name = name, By = By, Version = 0, Sha256 = "", Bytes = 0, Created = default };
}
