using System.Security.Cryptography;
using Skiff.Store;

namespace Skiff.Caching;

/// <summary>
/// Keeps the content of versions on the local disk, so that a host fetches each once and finds it again after a restart. Only blobs, <c>{tenant}/blobs/{sha256}</c>, are kept:
/// they never change, and their name says what they must contain. Everything else passes through. Several processes may share the folder: files are written aside and named
/// when whole, and what one deletes while another reads it stays readable. A cache that can't be written costs time, never an answer.
/// </summary>
/// <param name="folder">Made when it is first needed; where the disk is read-only, below the folder for temporary files.</param>
/// <param name="mostBytes">The least recently read are deleted first. Processes that write at the same moment can exceed it by a blob each, until the next is written.</param>
public sealed class CachedObjectStore(IObjectStore objects, string folder, long mostBytes) : IObjectStore
{
    private const string TemporaryPrefix = ".tmp-";

    // The tag of no object: a blob from the cache can't be replaced before it has been read from the store.
    private const string CachedTag = "cached";

    // A writer that is still alive is done with its file by then.
    private static readonly TimeSpan Abandoned = TimeSpan.FromMinutes(10);

    public string Location => objects.Location;

    public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
    {
        if (PathOf(key) is not { } path) return await objects.GetAsync(key, cancellation);
        if (await ReadAsync(path, cancellation) is { } kept) return new StoredObject(kept, CachedTag);
        var stored = await objects.GetAsync(key, cancellation);
        if (stored is not null && IsIntact(path, stored.Content)) await KeepAsync(path, stored.Content, cancellation);
        return stored;
    }

    public ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation)
    {
        Forget(key);
        return objects.TryCreateAsync(key, content, cancellation);
    }

    public ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation)
    {
        Forget(key);
        return objects.TryReplaceAsync(key, content, expectedTag, cancellation);
    }

    public ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation) => objects.ListAsync(prefix, cancellation);

    /// <returns>Null for what is not kept. A tenant has files of its own: one must not read what only another has published.</returns>
    private string? PathOf(string key) =>
        key.Split('/') is [var tenant, "blobs", { Length: 64 } sha256] && Names.IsValid(tenant) && sha256.All(char.IsAsciiHexDigitLower) ? Path.Combine(folder, tenant, sha256) : null;

    private static bool IsIntact(string path, byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content)) == Path.GetFileName(path);

    private static async Task<byte[]?> ReadAsync(string path, CancellationToken cancellation)
    {
        try
        {
            var content = await File.ReadAllBytesAsync(path, cancellation);
            if (IsIntact(path, content))
            {
                File.SetLastWriteTimeUtc(path, DateTime.UtcNow);
                return content;
            }
        }
        catch (FileNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // As good as damaged.
        }
        TryDelete(path);
        return null;
    }

    private async Task KeepAsync(string path, byte[] content, CancellationToken cancellation)
    {
        if (content.Length > mostBytes) return;
        var temporary = Path.Combine(Path.GetDirectoryName(path)!, TemporaryPrefix + Guid.NewGuid().ToString("n"));
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            MakeRoom(content.Length);
            // Not flushed to the disk: what a loss of power leaves of it is told by its sha256.
            await File.WriteAllBytesAsync(temporary, content, cancellation);
            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A full or read-only disk: the next read fetches again.
        }
        finally
        {
            TryDelete(temporary);
        }
    }

    private void MakeRoom(long bytes)
    {
        var now = DateTime.UtcNow;
        var files = new List<(string Path, long Bytes, DateTime Used)>();
        foreach (var file in new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories))
        {
            try
            {
                if (file.Name.StartsWith(TemporaryPrefix, StringComparison.Ordinal) && now - file.LastWriteTimeUtc > Abandoned) file.Delete();
                else files.Add((file.FullName, file.Length, file.LastWriteTimeUtc));
            }
            catch (FileNotFoundException)
            {
                // Another process was faster.
            }
        }
        var total = bytes + files.Sum(file => file.Bytes);
        foreach (var file in files.Where(file => !Path.GetFileName(file.Path).StartsWith(TemporaryPrefix, StringComparison.Ordinal)).OrderBy(file => file.Used))
        {
            if (total <= mostBytes) break;
            TryDelete(file.Path);
            total -= file.Bytes;
        }
    }

    /// <summary>Whoever writes a blob wants to know what the store has.</summary>
    private void Forget(string key)
    {
        if (PathOf(key) is { } path) TryDelete(path);
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not there, or not ours to delete: reading checks it anyway.
        }
    }
}
