using Skiff.Apps;
using Skiff.Feedback.Log;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Ranking;

/// <param name="Reproduced">Shards that learning the kept feedback again gives.</param>
/// <param name="Worst">The largest relative difference of a live shard to its replay.</param>
/// <param name="Feedback">Messages replayed.</param>
/// <param name="Rebuilt">Shards that were put in the place of others.</param>
public sealed record RankReplayReport(int Shards, int Reproduced, double Worst, int Feedback, int Rebuilt);

/// <summary>Learns again all that an app has learnt that ranks, shard by shard: to see that the state is what the log makes, or to have it be that, without what erased users have taught.</summary>
public sealed class RankReplay(App app, IStateStore state, FeedbackLog log)
{
    public const double Tolerance = 1e-6;
    private const int MostAttempts = 20;

    /// <param name="rebuild">Put what the log makes in the place of what is there.</param>
    /// <exception cref="StoreException">Somebody learnt all the while: try again.</exception>
    public async Task<RankReplayReport> RunAsync(bool rebuild, CancellationToken cancellation)
    {
        var document = app.Document.Rank!;
        var open = Enumerable.Range(0, document.Shards).Select(shard => UserKey.OfShard(app.Tenant, app.Name, shard)).ToList();
        var report = new RankReplayReport(open.Count, 0, 0, 0, 0);
        for (var attempt = 1; open.Count > 0; attempt++)
        {
            if (attempt > MostAttempts) throw new StoreException($"{open.Count} shards of app '{app.Name}' learnt {MostAttempts} times while their feedback was read: try again");
            var before = new List<HeadWeights?>();
            foreach (var shard in open) before.Add((await state.ReadUserAsync(shard, cancellation)).Head?.Weights);
            var history = (await log.ReadWithStateAsync(app.Tenant, app.Name, open[0].App, cancellation)).ToLookup(kept => kept.Accepted.Message.Owner);
            var late = new List<UserKey>();
            foreach (var (shard, weights) in open.Zip(before))
            {
                // By time, and within one commit by place: some stores give commits that teach nothing the order of the one before.
                var messages = history[shard].OrderBy(kept => kept.Committed).ThenBy(kept => kept.Order).Select(kept => kept.Accepted.Message).ToList();
                var made = EventLearning.Replay(app, messages);
                // What was learnt while the feedback was read is not compared: again, then.
                if ((await state.ReadWeightsAsync(shard, cancellation)).Weights?.Tag != weights?.Tag || (rebuild && !await TryPutAsync(shard, weights, made, cancellation)))
                {
                    late.Add(shard);
                    continue;
                }
                var difference = RankModel.ReadOrStart(weights?.Policy, app.Space!, document.PriorStrength).Difference(made);
                report = report with
                {
                    Reproduced = report.Reproduced + (difference <= Tolerance ? 1 : 0), Worst = Math.Max(report.Worst, difference), Feedback = report.Feedback + messages.Count, Rebuilt = report.Rebuilt + (rebuild ? 1 : 0),
                };
            }
            open = late;
        }
        return report;
    }

    private async Task<bool> TryPutAsync(UserKey shard, HeadWeights? before, RankModel made, CancellationToken cancellation)
    {
        if (before is null && made.Updates == 0) return true;
        return (await state.CommitAsync([new UserCommit { User = shard, ExpectedTag = before?.Tag, Head = EventLearning.StateOf(made), Accepted = [] }], cancellation))[0];
    }
}
