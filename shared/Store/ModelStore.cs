using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Skiff.Store;

/// <summary>
/// Models, priors and apps as versions: content under its sha256, immutable manifests beside it, aliases that move by conditional write.
/// <code>
/// {tenant}/blobs/{sha256}
/// {tenant}/{models|priors|apps}/{name}/versions/{00000001}.json
/// {tenant}/{models|priors|apps}/{name}/aliases/{alias}.json
/// </code>
/// A version is published content first, manifest second and alias last, so whatever can be reached is whole. Nothing here knows files or buckets.
/// </summary>
public sealed class ModelStore(IObjectStore objects, TimeProvider time)
{
    public const string Live = "live";

    public string Location => objects.Location;

    /// <summary>Publishes content as the next version of a name. Two publishers at once get two versions.</summary>
    /// <param name="manifest">Name, kind, inputs, outputs, metadata and publisher; the rest is filled in here.</param>
    /// <param name="onlyFirst">Publish nothing where the name has a version already; that one is given back.</param>
    public async Task<Manifest> PublishAsync(string tenant, Manifest manifest, ReadOnlyMemory<byte> content, CancellationToken cancellation, bool onlyFirst = false)
    {
        Names.Check("tenant", tenant);
        Names.Check(manifest.Kind.ToString().ToLowerInvariant(), manifest.Name);
        var sha256 = Convert.ToHexStringLower(SHA256.HashData(content.Span));
        await WriteBlobAsync(BlobKey(tenant, sha256), sha256, content, cancellation);
        while (true)
        {
            var versions = await VersionsAsync(tenant, manifest.Kind, manifest.Name, cancellation);
            int? parent = versions.Count == 0 ? null : versions[^1];
            if (onlyFirst && parent is { } there && await ManifestAsync(tenant, manifest.Kind, manifest.Name, there, cancellation) is { } present) return present;
            var complete = manifest with
            {
                Version = (parent ?? 0) + 1,
                Sha256 = sha256,
                Bytes = content.Length,
                Parent = parent,
                Created = time.GetUtcNow(),
            };
            var key = ManifestKey(tenant, complete.Kind, complete.Name, complete.Version);
            if (await objects.TryCreateAsync(key, Serialize(complete, StoreJson.Default.Manifest), cancellation)) return complete;
        }
    }

    /// <returns>The numbers of the versions that there are, ascending; empty for an unknown name.</returns>
    public async Task<IReadOnlyList<int>> VersionsAsync(string tenant, ArtifactKind kind, string name, CancellationToken cancellation)
    {
        var names = await objects.ListAsync($"{FolderOf(tenant, kind, name)}/versions", cancellation);
        var versions = new List<int>(names.Count);
        foreach (var file in names)
        {
            if (int.TryParse(Path.GetFileNameWithoutExtension(file), NumberStyles.None, CultureInfo.InvariantCulture, out var version)) versions.Add(version);
        }
        versions.Sort();
        return versions;
    }

    /// <summary>Whoever has published anything here.</summary>
    public async Task<IReadOnlyList<string>> TenantsAsync(CancellationToken cancellation) => [.. (await objects.ListAsync("", cancellation)).Where(name => Names.IsValid(name))];

    public async Task<IReadOnlyList<string>> NamesAsync(string tenant, ArtifactKind kind, CancellationToken cancellation)
    {
        var names = await objects.ListAsync($"{Names.Check("tenant", tenant)}/{Plural(kind)}", cancellation);
        return [.. names.Where(name => Names.IsValid(name))];
    }

    /// <returns>The manifest, or null when there is no such version.</returns>
    public async Task<Manifest?> ManifestAsync(string tenant, ArtifactKind kind, string name, int version, CancellationToken cancellation)
    {
        if (version < 1) return null;
        var key = ManifestKey(tenant, kind, name, version);
        var stored = await objects.GetAsync(key, cancellation);
        return stored is null ? null : Deserialize(key, stored.Content, StoreJson.Default.Manifest);
    }

    /// <returns>The content of a version, checked against its sha256.</returns>
    /// <exception cref="StoreException">It is gone, or not what was published.</exception>
    public async Task<byte[]> ContentAsync(string tenant, Manifest manifest, CancellationToken cancellation)
    {
        var stored = await objects.GetAsync(BlobKey(tenant, manifest.Sha256), cancellation)
            ?? throw new StoreException($"the content of {manifest.Name} version {manifest.Version} (sha256 {manifest.Sha256}) is missing in {Location}");
        var sha256 = Convert.ToHexStringLower(SHA256.HashData(stored.Content));
        return sha256 == manifest.Sha256
            ? stored.Content
            : throw new StoreException($"the content of {manifest.Name} version {manifest.Version} is corrupt in {Location}: its sha256 is {sha256}, the manifest says {manifest.Sha256}");
    }

    /// <returns>The version that an alias names, or null when there is no such alias.</returns>
    public async Task<int?> ResolveAsync(string tenant, ArtifactKind kind, string name, string alias, CancellationToken cancellation)
    {
        var key = AliasKey(tenant, kind, name, alias);
        var stored = await objects.GetAsync(key, cancellation);
        return stored is null ? null : Deserialize(key, stored.Content, StoreJson.Default.Alias).Version;
    }

    /// <returns>The manifest of the version that <c>live</c> names, or null when nothing is live.</returns>
    public async Task<Manifest?> LiveAsync(string tenant, ArtifactKind kind, string name, CancellationToken cancellation)
    {
        var key = AliasKey(tenant, kind, name, Live);
        if (await objects.GetAsync(key, cancellation) is not { } stored) return null;
        var alias = Deserialize(key, stored.Content, StoreJson.Default.Alias);
        // An alias that was copied by hand from another name brings along that one's manifest.
        if (alias.Manifest is { } copy && (copy.Kind, copy.Name, copy.Version) == (kind, name, alias.Version)) return copy;
        return await ManifestAsync(tenant, kind, name, alias.Version, cancellation)
            ?? throw new StoreException($"version {alias.Version} of {kind.ToString().ToLowerInvariant()} '{name}' is missing in {Location}");
    }

    /// <summary>Moves an alias, or makes it. The last of several movers wins whole; none is lost halfway.</summary>
    /// <returns>The version that the alias named before, null if it is new.</returns>
    /// <exception cref="ArgumentException">There is no such version.</exception>
    public async Task<int?> MoveAliasAsync(string tenant, ArtifactKind kind, string name, string alias, int version, CancellationToken cancellation)
    {
        Names.Check("alias", alias);
        if (await ManifestAsync(tenant, kind, name, version, cancellation) is not { } manifest)
        {
            var versions = await VersionsAsync(tenant, kind, name, cancellation);
            throw new ArgumentException(versions.Count == 0
                ? $"there is no {kind.ToString().ToLowerInvariant()} '{name}'"
                : $"'{name}' has no version {version}; it has {string.Join(", ", versions)}");
        }
        var key = AliasKey(tenant, kind, name, alias);
        var content = Serialize(new Alias { Version = version, Moved = time.GetUtcNow(), Manifest = manifest }, StoreJson.Default.Alias);
        while (true)
        {
            var before = await objects.GetAsync(key, cancellation);
            var written = before is null
                ? await objects.TryCreateAsync(key, content, cancellation)
                : await objects.TryReplaceAsync(key, content, before.Tag, cancellation);
            // What was there may be damaged; now it no longer is.
            if (written) return before is null ? null : VersionOf(before);
        }
    }

    /// <summary>Makes an alias unless there is one.</summary>
    /// <returns>Whether it was made.</returns>
    public async Task<bool> TryAddAliasAsync(string tenant, ArtifactKind kind, string name, string alias, int version, CancellationToken cancellation) =>
        await objects.TryCreateAsync(AliasKey(tenant, kind, name, alias), Serialize(new Alias { Version = version, Moved = time.GetUtcNow() }, StoreJson.Default.Alias), cancellation);

    private static int? VersionOf(StoredObject alias)
    {
        try
        {
            return JsonSerializer.Deserialize(alias.Content, StoreJson.Default.Alias)?.Version;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <returns>Every alias of a name with the version it names.</returns>
    public async Task<IReadOnlyDictionary<string, int>> AliasesAsync(string tenant, ArtifactKind kind, string name, CancellationToken cancellation)
    {
        var aliases = new SortedDictionary<string, int>(StringComparer.Ordinal);
        foreach (var file in await objects.ListAsync($"{FolderOf(tenant, kind, name)}/aliases", cancellation))
        {
            var alias = Path.GetFileNameWithoutExtension(file);
            if (await ResolveAsync(tenant, kind, name, alias, cancellation) is { } version) aliases[alias] = version;
        }
        return aliases;
    }

    private async Task WriteBlobAsync(string key, string sha256, ReadOnlyMemory<byte> content, CancellationToken cancellation)
    {
        while (!await objects.TryCreateAsync(key, content, cancellation))
        {
            var stored = await objects.GetAsync(key, cancellation);
            if (stored is not null && Convert.ToHexStringLower(SHA256.HashData(stored.Content)) == sha256) return;
            // What lies there is damaged: publishing the same content again heals it.
            if (stored is not null && await objects.TryReplaceAsync(key, content, stored.Tag, cancellation)) return;
        }
    }

    private static string Plural(ArtifactKind kind) => kind switch
    {
        ArtifactKind.Model => "models",
        ArtifactKind.Prior => "priors",
        ArtifactKind.App => "apps",
        _ => throw new ArgumentOutOfRangeException(nameof(kind)),
    };

    private static string FolderOf(string tenant, ArtifactKind kind, string name) =>
        $"{Names.Check("tenant", tenant)}/{Plural(kind)}/{Names.Check(kind.ToString().ToLowerInvariant(), name)}";

    private static string BlobKey(string tenant, string sha256) => $"{tenant}/blobs/{sha256}";

    private static string ManifestKey(string tenant, ArtifactKind kind, string name, int version) => $"{FolderOf(tenant, kind, name)}/versions/{version:d8}.json";

    private static string AliasKey(string tenant, ArtifactKind kind, string name, string alias) =>
        $"{FolderOf(tenant, kind, name)}/aliases/{Names.Check("alias", alias)}.json";

    private static byte[] Serialize<T>(T value, JsonTypeInfo<T> type) => JsonSerializer.SerializeToUtf8Bytes(value, type);

    private T Deserialize<T>(string key, byte[] content, JsonTypeInfo<T> type)
    {
        try
        {
            return JsonSerializer.Deserialize(content, type) ?? throw new JsonException("it is null");
        }
        catch (JsonException e)
        {
            throw new StoreException($"'{key}' in {Location} is damaged: {e.Message}", e);
        }
    }
}
