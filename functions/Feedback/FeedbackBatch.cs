using System.Text;
using Microsoft.Extensions.Logging;
using Skiff.Feedback;
using Skiff.Lambda;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.FeedbackFunction;

/// <summary>
/// Learns a batch of the queue. The learner commits each user for itself and drops what was accepted before, so a batch that fails in part is simply handed back:
/// the users who were done lose nothing when their messages come again.
/// </summary>
internal sealed class FeedbackBatch(FeedbackLearner learner, IStateStore state, ILogger<FeedbackBatch> log)
{
    /// <returns>The messages that should come again, and in the end go to the dead-letter queue.</returns>
    public async Task<IReadOnlyCollection<string>> HandleAsync(IReadOnlyList<SqsRecord> records, CancellationToken cancellation)
    {
        var failed = new List<string>();
        var before = state.SpentUsd;
        foreach (var group in records.GroupBy(record => record.GroupId ?? record.MessageId))
        {
            var messages = new List<FeedbackMessage>();
            foreach (var record in group)
            {
                var message = FeedbackMessage.Read(Encoding.UTF8.GetBytes(record.Body));
                // Predict writes no such message: somebody else did, or it was damaged.
                if (message.Fault is { } fault) log.LogError("message {Message} is {Fault}: it is in quarantine", record.MessageId, fault);
                messages.Add(message);
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
        // Batches come one at a time, so what was spent meanwhile is this one's.
        var spent = state.SpentUsd - before;
        log.LogInformation("{Learnt} of {Messages} messages learnt; the state cost {Usd:0.00E0} USD, {Each:0.00E0} a message", records.Count - failed.Count, records.Count, spent, spent / Math.Max(1, records.Count));
        return failed;
    }
}
