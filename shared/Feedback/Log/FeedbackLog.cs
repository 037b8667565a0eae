using System.Globalization;
using System.Security.Cryptography;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Feedback.Log;

/// <summary>An app's history as the log has it.</summary>
/// <param name="Closed">Entries of users who were erased.</param>
public sealed record LogHistory(IReadOnlyList<KeptFeedback> Entries, int Segments, int Closed);

/// <summary>
/// The log of accepted feedback, <c>{tenant}/logs/{app}/{day}.jsonl</c> beside the models: compacted from the state store day by day, so there is no second write that could be lost,
/// and chained by hash. Only those who learn write it. What is in the log may leave the state store when the horizon is past, within which a duplicate is noticed.
/// </summary>
public sealed class FeedbackLog(IObjectStore objects, IStateStore state, TimeProvider time)
{
    /// <summary>How long accepted feedback stays in the state store at least, and with it how late a duplicate is noticed.</summary>
    public static readonly TimeSpan Horizon = TimeSpan.FromDays(30);

    /// <summary>After midnight, for commits whose clock is behind or whose answer is late.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromHours(1);

    private const string Suffix = ".jsonl", DayFormat = "yyyy-MM-dd";

    /// <summary>Writes every day that is over and not in the log, then lets the state store go of what is old and in it. Several may do so at once.</summary>
    /// <returns>The days that were written.</returns>
    public async Task<IReadOnlyList<string>> CompactAsync(string tenant, string app, CancellationToken cancellation)
    {
        var until = Midnight(time.GetUtcNow() - Grace);
        var days = await DaysAsync(tenant, app, cancellation);
        var from = days.Count == 0 ? DateTimeOffset.UnixEpoch : Midnight(days[^1]).AddDays(1);
        if (from >= until) return [];
        var entries = new List<KeptFeedback>();
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(tenant, app) { InAllParts = true, From = from, To = until }, cancellation)) entries.Add(kept);
        var written = new List<string>();
        if (entries.Count > 0)
        {
            var keys = await state.LogKeysAsync(tenant, app, [.. entries.Select(kept => kept.Accepted.Message.User).Distinct()], create: true, cancellation);
            entries = await WithoutErasedAsync(tenant, app, entries, cancellation);
            var previous = days.Count == 0 ? null : HashOf(await ContentAsync(tenant, app, days[^1], cancellation));
            foreach (var day in entries.GroupBy(kept => DayOf(kept.Committed)).OrderBy(day => day.Key, StringComparer.Ordinal))
            {
                var content = LogSegment.Write(new SegmentHeader { Tenant = tenant, App = app, Day = day.Key, Previous = previous, Entries = day.Count() }, day, keys);
                // Somebody else was faster: his has the same feedback, under other nonces.
                if (await objects.TryCreateAsync(KeyOf(tenant, app, day.Key), content, cancellation)) written.Add(day.Key);
                else content = await ContentAsync(tenant, app, day.Key, cancellation);
                previous = HashOf(content);
            }
        }
        var old = Midnight(time.GetUtcNow() - Horizon);
        foreach (var part in UserKey.FeedbackApps(app)) await state.PurgeAsync(tenant, part, old < until ? old : until, cancellation);
        return written;
    }

    /// <summary>Everything in the log that can still be opened.</summary>
    /// <exception cref="StoreException">A segment is damaged, missing or another than was written.</exception>
    public async Task<LogHistory> ReadAsync(string tenant, string app, CancellationToken cancellation) =>
        await ReadAsync(tenant, app, await state.LogKeysAsync(tenant, app, null, create: false, cancellation), cancellation);

    /// <summary>All of it that names a user.</summary>
    /// <exception cref="StoreException">A segment is damaged, missing or another than was written.</exception>
    public async Task<IReadOnlyList<KeptFeedback>> ReadAsync(UserKey user, CancellationToken cancellation)
    {
        var keys = await state.LogKeysAsync(user.Tenant, user.App, [user.User], create: false, cancellation);
        return keys.Count == 0 ? [] : (await ReadAsync(user.Tenant, user.App, keys, cancellation)).Entries;
    }

    private async Task<LogHistory> ReadAsync(string tenant, string app, IReadOnlyDictionary<string, byte[]> keys, CancellationToken cancellation)
    {
        var byOwner = keys.Values.ToDictionary(key => Convert.ToBase64String(LogSegment.OwnerOf(key)));
        var entries = new List<KeptFeedback>();
        var (segments, closed) = (0, 0);
        string? previous = null;
        foreach (var day in await DaysAsync(tenant, app, cancellation))
        {
            var content = await ContentAsync(tenant, app, day, cancellation);
            var segment = LogSegment.Read(KeyOf(tenant, app, day), content, byOwner.GetValueOrDefault);
            if (segment.Header.Previous != previous || segment.Header.Day != day)
            {
                throw new StoreException($"the log's chain is broken before {KeyOf(tenant, app, day)} in {objects.Location}: a segment is missing, or another than was written");
            }
            previous = HashOf(content);
            entries.AddRange(segment.Entries);
            closed += segment.Closed;
            segments++;
        }
        return new LogHistory(entries, segments, closed);
    }

    /// <summary>Everything of one part of an app that is in the log or still in the state store, each feedback once: as it was last.</summary>
    /// <param name="part">One of <see cref="UserKey.FeedbackApps"/>.</param>
    /// <exception cref="StoreException">A segment is damaged, missing or another than was written.</exception>
    public async Task<IReadOnlyList<KeptFeedback>> ReadWithStateAsync(string tenant, string app, string part, CancellationToken cancellation)
    {
        var latest = new Dictionary<string, KeptFeedback>();
        foreach (var kept in (await ReadAsync(tenant, app, cancellation)).Entries.Where(kept => kept.Accepted.Message.Owner.App == part)) Add(kept);
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(tenant, part), cancellation)) Add(kept);
        return [.. latest.Values];

        // Released from quarantine it stands in the log twice: last where it was learnt.
        void Add(KeptFeedback kept)
        {
            if (!latest.TryGetValue(kept.Accepted.Message.FeedbackId, out var other) || other.Order <= kept.Order) latest[kept.Accepted.Message.FeedbackId] = kept;
        }
    }

    /// <summary>
    /// Who is erased after this look loses the key that was made before it; who was erased before it is found here. Either way nothing of a user from before is written that can be read.
    /// </summary>
    private async Task<List<KeptFeedback>> WithoutErasedAsync(string tenant, string app, List<KeptFeedback> entries, CancellationToken cancellation)
    {
        var erasures = await state.FindErasedAsync(tenant, app, [.. entries.Select(kept => kept.Accepted.Message.User).Where(user => user.Length > 0).Distinct()], cancellation);
        return entries.FindAll(kept => !erasures.TryGetValue(kept.Accepted.Message.User, out var at) || kept.Accepted.Message.At > at);
    }

    private async Task<IReadOnlyList<string>> DaysAsync(string tenant, string app, CancellationToken cancellation) =>
    [
        .. (await objects.ListAsync($"{Names.Check("tenant", tenant)}/logs/{Names.Check("app", app)}", cancellation))
            .Where(name => name.EndsWith(Suffix, StringComparison.Ordinal)).Select(name => name[..^Suffix.Length])
            // What else lies there is not ours.
            .Where(day => DateOnly.TryParseExact(day, DayFormat, CultureInfo.InvariantCulture, DateTimeStyles.None, out _)).Order(StringComparer.Ordinal),
    ];

    private async Task<byte[]> ContentAsync(string tenant, string app, string day, CancellationToken cancellation) =>
        (await objects.GetAsync(KeyOf(tenant, app, day), cancellation))?.Content ?? throw new StoreException($"the log segment {KeyOf(tenant, app, day)} is gone from {objects.Location}");

    private static string KeyOf(string tenant, string app, string day) => $"{Names.Check("tenant", tenant)}/logs/{Names.Check("app", app)}/{day}{Suffix}";

    private static string HashOf(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    private static string DayOf(DateTimeOffset moment) => moment.UtcDateTime.ToString(DayFormat, CultureInfo.InvariantCulture);

    private static DateTimeOffset Midnight(DateTimeOffset moment) => new(moment.UtcDateTime.Date, TimeSpan.Zero);

    private static DateTimeOffset Midnight(string day) => DateTimeOffset.ParseExact(day, DayFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);
}
