using System.Text;
using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Feedback;
using Skiff.Lambda;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.FeedbackFunction;

/// <summary>
/// Learns a batch of the queue. The learner commits each user for itself and drops what was accepted before, so a batch that fails in part is simply handed back:
/// the users who were done lose nothing when their messages come again.
/// </summary>
/// <param name="due">What a schedule wakes this function for, and of apps with messages here also a batch.</param>
internal sealed class FeedbackBatch(FeedbackLearner learner, AppHost apps, DueWork due, ModelStore store, IStateStore state, TimeProvider time, ILogger<FeedbackBatch> log)
{
    private const string Events = "events", Log = "log";

    /// <summary>After a batch no sooner than so: looking costs.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    /// <summary>For all that is due after a batch: what it has learnt must not come again because a backlog took longer than the function may.</summary>
    private static readonly TimeSpan Budget = TimeSpan.FromSeconds(5);

    private readonly Dictionary<(string Tenant, string App), long> _passed = [];

    /// <param name="what">As the schedules of template.yaml say it.</param>
    public async Task WakeAsync(string what, CancellationToken cancellation)
    {
        if (what is not (Events or Log)) throw new InvalidEventException($"the schedule wants '{what}': there are '{Events}' and '{Log}'");
        var tenants = await store.TenantsAsync(cancellation);
        await (what == Events ? due.PassAllAsync(tenants, cancellation) : due.CompactAllAsync(tenants, cancellation));
    }

    /// <returns>The messages that should come again, and in the end go to the dead-letter queue.</returns>
    public async Task<IReadOnlyCollection<string>> HandleAsync(IReadOnlyList<SqsRecord> records, CancellationToken cancellation)
    {
        var failed = new List<string>();
        var before = state.SpentUsd;
        var seen = new HashSet<(string Tenant, string App)>();
        foreach (var group in records.GroupBy(record => record.GroupId ?? record.MessageId))
        {
            var messages = new List<FeedbackMessage>();
            foreach (var record in group)
            {
                var message = FeedbackMessage.Read(Encoding.UTF8.GetBytes(record.Body));
                // Predict writes no such message: somebody else did, or it was damaged.
                if (message.Fault is { } fault) log.LogError("message {Message} is {Fault}: it is in quarantine", record.MessageId, fault);
                messages.Add(message);
                if (message.Fault is null) seen.Add((message.Tenant, message.App));
            }
            try
            {
                await learner.LearnAsync(messages, cancellation);
            }
            catch (Exception e) when (!cancellation.IsCancellationRequested)
            {
                // Whatever it is, the other groups' feedback can do nothing for it: failing the batch would take them to the dead letters with this one.
                log.LogError(e is StoreException ? null : e, "feedback of group {Group} comes again: {Error}", group.Key, e.Message);
                failed.AddRange(group.Select(record => record.MessageId));
            }
        }
        using (var budget = new CancellationTokenSource(Budget, time))
        {
            foreach (var (tenant, app) in seen) await TryPassAsync(tenant, app, budget.Token);
        }
        // Batches come one at a time, so what was spent meanwhile is this one's.
        var spent = state.SpentUsd - before;
        log.LogInformation("{Learnt} of {Messages} messages learnt; the state cost {Usd:0.00E0} USD, {Each:0.00E0} a message", records.Count - failed.Count, records.Count, spent, spent / Math.Max(1, records.Count));
        return failed;
    }

    /// <summary>What fails here, or is not done in time, is done by a later batch, or when the schedule wakes this: the batch is learnt, and does not fail with it.</summary>
    private async Task TryPassAsync(string tenant, string name, CancellationToken budget)
    {
        if (budget.IsCancellationRequested) return;
        if (_passed.TryGetValue((tenant, name), out var last) && time.GetElapsedTime(last) < Pause) return;
        try
        {
            var app = await apps.GetAsync(tenant, name, budget);
            // A ranking app's events are settled by the next message of their shard.
            if (app.Document.Rank is not null || !DueWork.Waits(app)) return;
            _passed[(tenant, name)] = time.GetTimestamp();
            await due.PassAsync(app, budget);
        }
        catch (Exception e)
        {
            log.LogWarning(e is StoreException or RequestException or ArgumentException or OperationCanceledException ? null : e, "what is due of app {App} of tenant {Tenant} waits: {Error}", name, tenant, e.Message);
        }
    }
}
