using System.Collections.Concurrent;
using Skiff.Apps;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Feedback;

/// <summary>What a replay has to work with, and what it found.</summary>
public sealed record ReplayReport
{
    public required int Users { get; init; }
    public required int Feedback { get; init; }

    /// <summary>Entries of the log whose users were erased.</summary>
    public required int Erased { get; init; }

    /// <summary>Heads that learning the kept feedback again, on the version they are pinned to, gives.</summary>
    public required int Reproduced { get; init; }

    /// <summary>The largest relative difference of a live head to its replay.</summary>
    public required double Worst { get; init; }

    /// <summary>Feedback without the input that new features could be made of.</summary>
    public required int Missing { get; init; }

    /// <summary>Heads that were put in the place of others.</summary>
    public required int Swapped { get; init; }
}

/// <summary>
/// Learns an app's whole history again: to see that the heads are what it makes, and to move them to another version of the feature model. Everything is made before anything is
/// changed, so that an interrupted replay leaves what was; each head is then exchanged whole, on condition that nothing was learnt meanwhile, else it is made again.
/// </summary>
public sealed class FeedbackReplay(App app, IStateStore state, FeedbackLog log, ModelStore store, ModelHost models)
{
    public const double Tolerance = 1e-6;
    private const int MostAttempts = 20;

    private readonly Head _head = app.Head ?? throw new ArgumentException($"app '{app.Name}' has no head: there is nothing to replay");
    private int _missing;

    /// <param name="theta">The version to move to; null for the one that each head is on.</param>
    /// <param name="rebuild">Put what the feedback gives under the app's settings in the place of heads, though they are something else; false to verify first, and without a version only that.</param>
    /// <param name="skipMissing">Leave out feedback without an input where it needs one, rather than refuse.</param>
    /// <param name="progress">Users done and users in all.</param>
    /// <exception cref="FormatException">It can't be done; the message says why, and nothing was changed.</exception>
    public async Task<ReplayReport> RunAsync(int? theta, bool skipMissing, bool rebuild, Action<int, int> progress, CancellationToken cancellation)
    {
        if (theta is { } version) await CheckAsync(version, cancellation);
        // Tags, feedback, heads, in this order: where a head's tag is the same at the end, the feedback between is the one that it has.
        var tags = new Dictionary<string, string?>();
        await foreach (var user in state.ReadUsersAsync(app.Tenant, app.Name, cancellation)) tags[user] = (await state.ReadWeightsAsync(KeyOf(user), cancellation)).Weights?.Tag;
        var history = await log.ReadAsync(app.Tenant, app.Name, cancellation);
        var users = await ReadAsync(history.Entries, null, cancellation);
        foreach (var user in tags.Keys) users.TryAdd(user, []);
        var rebuilt = new ConcurrentBag<Rebuilt>();
        var differences = new ConcurrentBag<double>();
        var done = 0;
        var options = new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount, CancellationToken = cancellation };
        await Parallel.ForEachAsync(users, options, async (user, token) =>
        {
            var (read, entries) = (await state.ReadUserAsync(KeyOf(user.Key), token), user.Value);
            if (read.Head?.Weights.Tag != tags.GetValueOrDefault(user.Key)) (read, entries) = await SteadyAsync(user.Key, history.Entries, token);
            differences.Add(await DifferenceAsync(read, entries, token));
            if (theta is not null || rebuild) rebuilt.Add(await RebuildAsync(user.Key, read, entries, theta, token));
            progress(Interlocked.Increment(ref done), users.Count);
        });

        var report = new ReplayReport
        {
            Users = users.Count, Feedback = users.Sum(user => user.Value.Count), Erased = history.Closed,
            Reproduced = differences.Count(difference => difference <= Tolerance), Worst = differences.DefaultIfEmpty().Max(), Missing = _missing, Swapped = 0,
        };
        if (theta is null && !rebuild) return report;
        if (report.Reproduced < report.Users && !rebuild)
        {
            throw new FormatException($"{report.Users - report.Reproduced} of {report.Users} heads are not what their feedback gives (relative difference up to {report.Worst:0.0e0}): nothing was changed. "
                + "Where the head's settings have changed since they were learnt, that is as it should be, and --rebuild goes on");
        }
        if (_missing > 0 && !skipMissing)
        {
            throw new FormatException($"{_missing} of {report.Feedback} feedbacks have no input that {(theta is null ? "their head's version" : $"version {theta}")} could be run on, so they can't be replayed: nothing was changed. "
                + "'\"keep_inputs\": true' in the app keeps the inputs of feedback that brings them along; --skip-missing goes on without those");
        }
        return report with { Swapped = await SwapAsync([.. rebuilt], history.Entries, theta, cancellation) };
    }

    private async Task CheckAsync(int version, CancellationToken cancellation)
    {
        var manifest = await store.ManifestAsync(app.Tenant, ArtifactKind.Model, _head.Document.Features, version, cancellation)
            ?? throw new FormatException($"feature model '{_head.Document.Features}' has no version {version}");
        if (manifest.Outputs[0].Shape is not [_, var width] || width != _head.Width)
        {
            throw new FormatException($"version {version} of '{_head.Document.Features}' gives {manifest.Outputs[0]}, the app's head takes {_head.Width} features: make the version live, with a prior that fits, first");
        }
    }

    /// <summary>The log and what the state store still has, each feedback once, by user in the order of commits.</summary>
    private async Task<Dictionary<string, List<KeptFeedback>>> ReadAsync(IEnumerable<KeptFeedback> logged, string? user, CancellationToken cancellation)
    {
        var latest = new Dictionary<string, KeptFeedback>();
        foreach (var kept in logged.Where(kept => user is null || kept.Accepted.Message.User == user)) Add(kept);
        await foreach (var kept in state.ReadFeedbackAsync(new FeedbackQuery(app.Tenant, app.Name) { User = user }, cancellation)) Add(kept);
        return latest.Values.Where(kept => kept.Accepted.Message.User.Length > 0).GroupBy(kept => kept.Accepted.Message.User)
            .ToDictionary(user => user.Key, user => user.OrderBy(kept => kept.Order).ToList());

        // Released from quarantine it stands in the log twice: last where it was learnt.
        void Add(KeptFeedback kept)
        {
            // The log has contexts' feedback too, under the same ids.
            if (kept.Accepted.Message.Owner.App != app.Name) return;
            if (!latest.TryGetValue(kept.Accepted.Message.FeedbackId, out var other) || other.Order <= kept.Order) latest[kept.Accepted.Message.FeedbackId] = kept;
        }
    }

    /// <summary>A user who learns meanwhile: head and feedback of one moment.</summary>
    private async Task<(UserRead Read, List<KeptFeedback> Entries)> SteadyAsync(string user, IReadOnlyList<KeptFeedback> logged, CancellationToken cancellation)
    {
        for (var attempt = 1; attempt <= MostAttempts; attempt++)
        {
            var before = await state.ReadUserAsync(KeyOf(user), cancellation);
            var entries = (await ReadAsync(logged, user, cancellation)).GetValueOrDefault(user, []);
            if ((await state.ReadWeightsAsync(KeyOf(user), cancellation)).Weights?.Tag == before.Head?.Weights.Tag) return (before, entries);
        }
        throw new StoreException($"a user of app '{app.Name}' learnt {MostAttempts} times while its feedback was read: try again");
    }

    private async Task<double> DifferenceAsync(UserRead read, List<KeptFeedback> entries, CancellationToken cancellation)
    {
        if (read.Head is not { Weights.Weights.Length: > 0 } live) return read.Head is null && entries.Any(kept => kept.Accepted.Learnt) ? double.PositiveInfinity : 0;
        // Up to a swap the head has all that could be replayed then; since, what was learnt, and what its guards remember of the rest.
        var messages = await OnAsync(entries.Where(kept => kept.Order <= read.Replayed), live.Weights.FeaturesVersion, cancellation);
        messages.AddRange(from kept in entries
                          where kept.Accepted.Learnt || kept.Accepted.IsGuarded
                          let message = kept.Accepted.Message
                          from one in message.Released is > 0 and var before ? [(Order: before, Message: message with { Released = null }), (kept.Order, message)] : new[] { (kept.Order, Message: message) }
                          where one.Order > read.Replayed
                          orderby one.Order
                          select one.Message);
        var replayed = FeedbackLearner.Rebuild(await app.HeadFromAsync(live.Weights.PriorVersion, cancellation), messages);
        return replayed is null ? double.PositiveInfinity : Math.Max(Relative(live.Weights.Weights, replayed.Weights.Weights), Relative(live.Covariance, replayed.Covariance));
    }

    private async Task<Rebuilt> RebuildAsync(string user, UserRead read, List<KeptFeedback> entries, int? theta, CancellationToken cancellation)
    {
        var version = theta ?? read.Head?.Weights.FeaturesVersion ?? entries.FirstOrDefault(kept => !IsLeftOut(kept))?.Accepted.Message.FeaturesVersion ?? 1;
        var messages = await OnAsync(entries, version, cancellation);
        Interlocked.Add(ref _missing, entries.Count(kept => !IsLeftOut(kept)) - messages.Count);
        var head = FeedbackLearner.Rebuild(_head, messages);
        // The policy's state goes by members, not by features: it stays.
        if (head is not null) head = head with { Weights = head.Weights with { Policy = read.Head?.Weights.Policy } };
        return new Rebuilt(user, read, entries.Count == 0 ? 0 : entries[^1].Order, head);
    }

    /// <summary>The messages with φ of a version, past the guards: what was said of them when they came stands. Those are missing that have no input to make φ of.</summary>
    private async Task<List<FeedbackMessage>> OnAsync(IEnumerable<KeptFeedback> entries, int version, CancellationToken cancellation)
    {
        var messages = new List<FeedbackMessage>();
        foreach (var kept in entries.Where(kept => !IsLeftOut(kept)))
        {
            if (await OnAsync(kept.Accepted.Message, version, cancellation) is { } message) messages.Add(message with { Released = message.Released ?? 0 });
        }
        return messages;
    }

    /// <summary>What is in quarantine stays there, and what came late stays out.</summary>
    private static bool IsLeftOut(KeptFeedback kept) => kept.Accepted.IsQuarantined || kept.Accepted.Message.Late == true;

    /// <summary>The message with φ of a version; null where there is no input to make it of.</summary>
    private async Task<FeedbackMessage?> OnAsync(FeedbackMessage message, int version, CancellationToken cancellation)
    {
        if (message.FeaturesVersion == version) return message;
        if (message.Input is not { } input || input.Length != app.RowElements * app.InputType.Size()) return null;
        var buffer = new TensorBuffer();
        var tensor = new Tensor { Name = app.Document.Input.Name, Type = app.InputType, Offset = buffer.Allocate(input.Length), Length = input.Length };
        tensor.SetShape([1, .. app.Document.Input.Shape]);
        input.CopyTo(buffer.Span(tensor.Offset, tensor.Length));
        using var lease = await models.AcquireAsync(app.Tenant, _head.Document.Features, version, cancellation);
        using var outputs = await lease.RunAsync(buffer, [tensor], long.MaxValue, app.Document.Objective, cancellation);
        var features = new float[_head.Dimensions];
        _head.ReadFeatures(outputs.Floats(0)[.._head.Width], features);
        return message with { FeaturesVersion = version, Features = System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(features).ToArray() };
    }

    private async Task<int> SwapAsync(List<Rebuilt> open, IReadOnlyList<KeptFeedback> logged, int? theta, CancellationToken cancellation)
    {
        var swapped = 0;
        for (var attempt = 1; attempt <= MostAttempts; attempt++)
        {
            open = open.FindAll(one => one.Head is not null);
            var made = await state.CommitAsync([.. open.Select(one => new UserCommit
            {
                User = KeyOf(one.User), ExpectedTag = one.Read.Head?.Weights.Tag, Erasure = one.Read.Erasure, Head = one.Head, Accepted = [], Replayed = one.Order,
            })], cancellation);
            swapped += made.Count(one => one);
            var late = open.Where((_, i) => !made[i]).Select(one => one.User).ToList();
            if (late.Count == 0) return swapped;
            open = [];
            foreach (var user in late)
            {
                // Erased meanwhile, a user has nothing left but what the log had when it was read.
                var (read, entries) = await SteadyAsync(user, logged, cancellation);
                entries.RemoveAll(kept => kept.Accepted.Message.At <= read.Erasure?.At);
                open.Add(await RebuildAsync(user, read, entries, theta, cancellation));
            }
        }
        throw new StoreException($"{open.Count} heads were changed by others {MostAttempts} times in a row and stay as they were; {swapped} are swapped. Run it again");
    }

    private UserKey KeyOf(string user) => new(app.Tenant, app.Name, user);

    /// <summary>‖a − b‖ / ‖b‖.</summary>
    private static double Relative(float[] a, float[] b)
    {
        if (a.Length != b.Length) return double.PositiveInfinity;
        var (difference, size) = (0.0, 0.0);
        for (var i = 0; i < a.Length; i++)
        {
            difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
            size += (double)b[i] * b[i];
        }
        return size == 0 ? (difference == 0 ? 0 : double.PositiveInfinity) : Math.Sqrt(difference / size);
    }

    private sealed record Rebuilt(string User, UserRead Read, long Order, HeadState? Head);
}
