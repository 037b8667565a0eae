using System.Security.Cryptography;

namespace Skiff.Store;

/// <summary>
/// Objects as files below one folder. A write goes to a temporary file, is flushed to the disk and then named, so a reader or a crash never meets half of one;
/// a lock file around the naming makes both conditional writes hold between processes.
/// </summary>
public sealed class FileObjectStore : IObjectStore
{
    private const string TemporaryPrefix = ".tmp-";

    private readonly string _root;

    /// <exception cref="StoreException">The folder can't be made or written.</exception>
    public FileObjectStore(string root)
    {
        _root = Path.GetFullPath(root);
        Location = new Uri(_root).AbsoluteUri;
        Guard(_root, () => Directory.CreateDirectory(_root));
    }

    public string Location { get; }

    public async ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation)
    {
        var path = PathOf(key);
        try
        {
            var content = await File.ReadAllBytesAsync(path, cancellation);
            return new StoredObject(content, TagOf(content));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't read '{key}' in {Location}: {e.Message}", e);
        }
    }

    public async ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation)
    {
        var path = PathOf(key);
        if (File.Exists(path)) return false;
        var temporary = await WriteTemporaryAsync(key, path, content, cancellation);
        try
        {
            // Without the lock two could win: the platform's move that doesn't overwrite looks first and renames then.
            using var held = await LockAsync(key, path, cancellation);
            File.Move(temporary, path, overwrite: false);
            return true;
        }
        catch (IOException) when (File.Exists(path))
        {
            return false;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw CannotWrite(key, e);
        }
        finally
        {
            TryDelete(temporary);
        }
    }

    public async ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation)
    {
        var path = PathOf(key);
        if (await GetAsync(key, cancellation) is null) return false;
        using var held = await LockAsync(key, path, cancellation);
        var current = await GetAsync(key, cancellation);
        if (current?.Tag != expectedTag) return false;
        var temporary = await WriteTemporaryAsync(key, path, content, cancellation);
        try
        {
            File.Move(temporary, path, overwrite: true);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw CannotWrite(key, e);
        }
        finally
        {
            TryDelete(temporary);
        }
    }

    public ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation)
    {
        try
        {
            IReadOnlyList<string> names =
            [
                .. Directory.EnumerateFileSystemEntries(PathOf(prefix)).Select(path => Path.GetFileName(path)!)
                    .Where(name => name[0] != '.').Order(StringComparer.Ordinal),
            ];
            return ValueTask.FromResult(names);
        }
        catch (DirectoryNotFoundException)
        {
            return ValueTask.FromResult<IReadOnlyList<string>>([]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't list '{prefix}' in {Location}: {e.Message}", e);
        }
    }

    private string PathOf(string key) => Path.Combine(_root, key);

    private static string TagOf(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    private async Task<string> WriteTemporaryAsync(string key, string path, ReadOnlyMemory<byte> content, CancellationToken cancellation)
    {
        var folder = Path.GetDirectoryName(path)!;
        var temporary = Path.Combine(folder, TemporaryPrefix + Guid.NewGuid().ToString("n"));
        try
        {
            Directory.CreateDirectory(folder);
            await using var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None);
            await file.WriteAsync(content, cancellation);
            file.Flush(flushToDisk: true);
            return temporary;
        }
        catch (Exception e)
        {
            TryDelete(temporary);
            if (e is IOException or UnauthorizedAccessException) throw CannotWrite(key, e);
            throw;
        }
    }

    /// <summary>An exclusive lock between processes: the operating system drops it with the handle, also when the holder dies.</summary>
    private async Task<IDisposable> LockAsync(string key, string path, CancellationToken cancellation)
    {
        var name = Path.Combine(Path.GetDirectoryName(path)!, ".lock");
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                return new FileStream(name, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (Exception e) when (e is UnauthorizedAccessException or DirectoryNotFoundException || attempt == 1000)
            {
                throw CannotWrite(key, e);
            }
            catch (IOException)
            {
                await Task.Delay(5, cancellation);
            }
        }
    }

    private StoreException CannotWrite(string key, Exception e) => new($"can't write '{key}' in {Location}: {e.Message}", e);

    private static void Guard(string path, Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreException($"can't use '{path}' as a model store: {e.Message}", e);
        }
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A leftover with a dot in front is never listed; there is nobody to tell.
        }
    }
}
