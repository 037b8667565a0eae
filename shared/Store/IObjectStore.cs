namespace Skiff.Store;

/// <summary>An object and the tag that a conditional write of the same key compares with.</summary>
public sealed record StoredObject(byte[] Content, string Tag);

/// <summary>
/// What the model store needs of the place that holds its objects: files here, a bucket in the cloud. Keys are parts joined by '/', each of them
/// a valid name or made by the model store, so that none can climb out of the store.
/// </summary>
public interface IObjectStore
{
    /// <summary>Where this is, for messages: for example <c>file:///…</c>.</summary>
    string Location { get; }

    /// <returns>The object, or null when there is none.</returns>
    ValueTask<StoredObject?> GetAsync(string key, CancellationToken cancellation);

    /// <summary>Writes an object unless the key is taken. Readers see all of it or nothing.</summary>
    /// <returns>False when the key is taken; nothing was written then.</returns>
    ValueTask<bool> TryCreateAsync(string key, ReadOnlyMemory<byte> content, CancellationToken cancellation);

    /// <summary>Replaces an object if its tag is still <paramref name="expectedTag"/>.</summary>
    /// <returns>False when somebody else wrote in between; nothing was written then.</returns>
    ValueTask<bool> TryReplaceAsync(string key, ReadOnlyMemory<byte> content, string expectedTag, CancellationToken cancellation);

    /// <summary>The names directly below a prefix, folders and objects alike, in ordinal order.</summary>
    ValueTask<IReadOnlyList<string>> ListAsync(string prefix, CancellationToken cancellation);
}

/// <summary>The store can't be read or written: the message says which object and why. Not the caller's fault.</summary>
public sealed class StoreException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Trying again won't help: what was to be stored doesn't fit.</summary>
    public bool IsPermanent { get; init; }
}
