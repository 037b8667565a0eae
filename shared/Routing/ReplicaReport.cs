using System.Globalization;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Http;
using Skiff.Store;

namespace Skiff.Routing;

/// <summary>
/// What a replica says of itself on each response, in headers: <c>Skiff-Load: 0.85</c> (busy workers ÷ workers), <c>Skiff-Queue: 12</c> (rows that wait), <c>Skiff-Workers: 2</c> (runs side by side), <c>Skiff-Warm: acme/fm_big, …</c> (loaded
/// models, with their tenant) and <c>Skiff-Version: 0.1.0</c>. What is missing or can't be read is unknown; it never fails a request that was answered.
/// </summary>
public sealed record ReplicaReport
{
    public const string LoadHeader = "Skiff-Load";
    public const string QueueHeader = "Skiff-Queue";
    public const string WarmHeader = "Skiff-Warm";
    public const string WorkersHeader = "Skiff-Workers";
    public const string ShareHeader = "Skiff-Share-Us";
    public const string VersionHeader = "Skiff-Version";

    /// <summary>More than this is not read.</summary>
    public const int MostWarm = 1024;

    private const int LongestVersion = 64;

    private readonly ulong[]? _warm;

    /// <summary>1 and more: all of its workers are busy. Null: not said.</summary>
    public double? Load { get; init; }

    public int? Queue { get; init; }

    /// <summary>Runs of a model that it makes side by side, of the one with most.</summary>
    public int? Workers { get; init; }

    public string? Version { get; init; }

    /// <summary><see cref="RouteKey.OfModel"/> of the models that are loaded; null: not said.</summary>
    public IReadOnlyList<ulong>? Warm
    {
        get => _warm;
        init => _warm = value is null ? null : [.. value.Order()];
    }

    /// <summary>Full, and more waits.</summary>
    public bool IsSaturated => Load >= 1 && Queue > 0;

    /// <returns>Null when it doesn't say.</returns>
    public bool? IsWarm(ulong model) => _warm is null ? null : Array.BinarySearch(_warm, model) >= 0;

    /// <returns>Null where a response has none of the headers.</returns>
    public static ReplicaReport? Read(HttpResponseHeaders headers)
    {
        var (load, queue, warm, version) = (One(headers, LoadHeader), One(headers, QueueHeader), One(headers, WarmHeader), One(headers, VersionHeader));
        return load is null && queue is null && warm is null && version is null ? null : Parse(load, queue, warm, version, One(headers, WorkersHeader));
    }

    /// <summary>Each header by itself: one that is nonsense doesn't take the others with it.</summary>
    public static ReplicaReport Parse(string? load, string? queue, string? warm, string? version, string? workers = null) => new()
    {
        Load = double.TryParse(load, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var share) && share <= 1e6 ? share : null,
        Queue = int.TryParse(queue, NumberStyles.None, CultureInfo.InvariantCulture, out var rows) ? rows : null,
        Workers = int.TryParse(workers, NumberStyles.None, CultureInfo.InvariantCulture, out var runs) && runs is >= 1 and <= 1024 ? runs : null,
        Warm = warm is null ? null : ParseWarm(warm),
        Version = version is { Length: > 0 and <= LongestVersion } && version.All(c => c is > ' ' and < '\x7f') ? version : null,
    };

    /// <param name="models">Loaded ones.</param>
    public static void Write(IHeaderDictionary headers, double load, int queue, int workers, IEnumerable<(string Tenant, string Model)> models)
    {
        headers[LoadHeader] = load.ToString("0.###", CultureInfo.InvariantCulture);
        headers[QueueHeader] = queue.ToString(CultureInfo.InvariantCulture);
        headers[WorkersHeader] = workers.ToString(CultureInfo.InvariantCulture);
        headers[WarmHeader] = Write(models.Take(MostWarm));
        headers[VersionHeader] = Product.Version;
    }

    /// <summary>How much of the replica's time an answer took; nothing where it doesn't say.</summary>
    internal static TimeSpan ReadShare(HttpResponseHeaders headers) =>
        double.TryParse(One(headers, ShareHeader), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var microseconds) && microseconds <= 3.6e9 ? TimeSpan.FromMicroseconds(microseconds) : TimeSpan.Zero;

    internal static string Write(IEnumerable<(string Tenant, string Model)> models) => string.Join(", ", models.Select(item => $"{item.Tenant}/{item.Model}"));

    private static string? One(HttpResponseHeaders headers, string name) => headers.NonValidated.TryGetValues(name, out var values) ? values.ToString() : null;

    private static ulong[] ParseWarm(string text)
    {
        var models = new List<ulong>();
        foreach (var range in text.AsSpan().Split(','))
        {
            var item = text.AsSpan()[range].Trim();
            var slash = item.IndexOf('/');
            if (slash < 0) continue;
            var (tenant, model) = (item[..slash].ToString(), item[(slash + 1)..].ToString());
            if (Names.IsValid(tenant) && Names.IsValid(model)) models.Add(RouteKey.OfModel(tenant, model));
            if (models.Count == MostWarm) break;
        }
        return [.. models];
    }
}
