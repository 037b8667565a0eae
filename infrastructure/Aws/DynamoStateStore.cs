using System.Collections.Concurrent;
using System.Globalization;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>
/// Heads and accepted feedback in one DynamoDB table (<see cref="DynamoItem"/> draws it). A user's commit is one transaction: the new weights on condition of the version that was
/// read, the covariance, and every feedback on condition that its id is new. So nothing is ever half written, and a commit whose answer was lost may be repeated: within ten minutes
/// the service knows it by its token and says yes again, later its conditions refuse it and the learner finds its feedback accepted.
/// </summary>
/// <remarks>
/// Predictions read the weights eventually consistently, at half the price: an answer may be a moment behind. Whatever is learnt from is read consistently.
/// </remarks>
public sealed partial class DynamoStateStore : IStateStore
{
    // A transaction's limits, and what of it the head takes, with a look at whether its user was erased.
    private const int MostItems = 100, HeadItems = 3, MostTransactionBytes = 4 * 1024 * 1024;
    private const int MostKeysARead = 100;

    // Each has a connection of its own; a hundred users in a batch shall not open a hundred.
    private const int CallsAtOnce = 8;

    private readonly string _table;
    private readonly DynamoOptions _options;
    private readonly TimeProvider _time;
    private readonly DynamoCalls _calls;

    /// <param name="client">From <see cref="DynamoClient"/>; the caller's to dispose of.</param>
    public DynamoStateStore(IAmazonDynamoDB client, string table, DynamoOptions options, TimeProvider time, Random random)
    {
        _table = table;
        _options = options.Validated();
        _time = time;
        _calls = new DynamoCalls(client, table, _options, time, random);
    }

    public int MostPerCommit => MostItems - HeadItems;

    /// <summary>The capacity that all calls so far have used.</summary>
    public CapacityUnits Consumed => _calls.Consumed;

    /// <summary>What the <see cref="Consumed"/> units cost.</summary>
    public double SpentUsd => AwsPrices.Table(Consumed);

    public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation) => ReadWeightsAsync(user, _options.ConsistentPredictions, cancellation);

    public ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation) => ReadWeightsAsync(user, knownTag, _options.ConsistentPredictions, cancellation);

    public ValueTask<WeightsRead> ReadLatestWeightsAsync(UserKey user, string? knownTag, CancellationToken cancellation) =>
        knownTag is null ? ReadWeightsAsync(user, isConsistent: true, cancellation) : ReadWeightsAsync(user, knownTag, isConsistent: true, cancellation);

    private async ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, bool isConsistent, CancellationToken cancellation)
    {
        var request = new GetItemRequest
        {
            TableName = _table,
            Key = DynamoItem.Of(DynamoItem.KeyOf(user), DynamoItem.Weights),
            ConsistentRead = isConsistent,
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        var response = await _calls.RunAsync("read a user's weights", (client, token) => client.GetItemAsync(request, token), cancellation);
        var consumed = _calls.CountRead(response.ConsumedCapacity);
        return new WeightsRead(response.Item is { Count: > 0 } item ? DynamoItem.ReadWeights(item) : null, AwsPrices.Table(consumed));
    }

    /// <summary>A query of one key costs what a read of it does, and its filter keeps weights that are known from being sent.</summary>
    private async ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, bool isConsistent, CancellationToken cancellation)
    {
        var request = new QueryRequest
        {
            TableName = _table,
            KeyConditionExpression = "pk = :user AND sk = :weights",
            FilterExpression = "version <> :known",
            ExpressionAttributeValues = new() { [":user"] = new() { S = DynamoItem.KeyOf(user) }, [":weights"] = new() { S = DynamoItem.Weights }, [":known"] = new() { N = knownTag } },
            ConsistentRead = isConsistent,
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        var response = await _calls.RunAsync("read a user's weights", (client, token) => client.QueryAsync(request, token), cancellation);
        var usd = AwsPrices.Table(_calls.CountRead(response.ConsumedCapacity));
        return response.Items is [var item, ..] ? new WeightsRead(DynamoItem.ReadWeights(item), usd) : new WeightsRead(null, usd, IsUnchanged: response.ScannedCount > 0);
    }

    public async ValueTask<UserRead> ReadUserAsync(UserKey user, CancellationToken cancellation)
    {
        // Both items by one query, which costs less than half of a transaction that reads them. It may see a commit in one and not yet in the other: they say whether they belong together.
        var request = new QueryRequest
        {
            TableName = _table,
            KeyConditionExpression = "pk = :user",
            ExpressionAttributeValues = new() { [":user"] = new() { S = DynamoItem.KeyOf(user) } },
            ConsistentRead = true,
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        for (var attempt = 1; ; attempt++)
        {
            var response = await _calls.RunAsync("read a user's head", (client, token) => client.QueryAsync(request, token), cancellation);
            _calls.CountRead(response.ConsumedCapacity);
            var items = (response.Items ?? []).ToDictionary(item => item["sk"].S);
            var erasure = items.TryGetValue(DynamoItem.Erased, out var erased) ? DynamoItem.ReadErasure(erased) : null;
            if (!items.TryGetValue(DynamoItem.Weights, out var weights)) return new UserRead(null, erasure);
            if (!weights.ContainsKey(DynamoItem.Weights)) return new UserRead(new HeadState(DynamoItem.ReadWeights(weights), []), erasure);
            var covariance = items.GetValueOrDefault(DynamoItem.Covariance);
            if (covariance?["version"].N == weights["version"].N)
            {
                return new UserRead(new HeadState(DynamoItem.ReadWeights(weights), DynamoItem.ReadFloats(covariance[DynamoItem.Covariance])) { Memory = DynamoItem.ReadMemory(covariance) }, erasure)
                {
                    Replayed = items.TryGetValue(DynamoItem.Replayed, out var replayed) ? long.Parse(replayed["version"].N, CultureInfo.InvariantCulture) : 0,
                };
            }
            if (attempt == _options.MostAttempts)
            {
                throw new StoreException($"the DynamoDB table '{_table}' is damaged: weights of version {weights["version"].N} stand beside "
                    + (covariance is null ? "no covariance" : $"a covariance of version {covariance["version"].N}") + ". Restore the table to a point before it was written by hand.");
            }
            await _calls.PauseAsync(attempt, cancellation);
        }
    }

    public async ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation)
    {
        var idOf = feedbackIds.Distinct().ToDictionary(id => DynamoItem.KeyOf(tenant, app, id));
        var found = await ReadItemsAsync("look for accepted feedback", idOf.Keys.Select(pk => DynamoItem.Of(pk, DynamoItem.Feedback)), "pk", cancellation);
        return found.Select(item => idOf[item["pk"].S]).ToHashSet();
    }

    /// <summary>The items that there are under the keys, in any order.</summary>
    /// <param name="attributes">That are wanted of each; null for all.</param>
    private async Task<IReadOnlyList<Dictionary<string, AttributeValue>>> ReadItemsAsync(string what, IEnumerable<Dictionary<string, AttributeValue>> keys, string? attributes, CancellationToken cancellation)
    {
        var found = new ConcurrentBag<Dictionary<string, AttributeValue>>();
        await Parallel.ForEachAsync(keys.Chunk(MostKeysARead), new ParallelOptions { MaxDegreeOfParallelism = CallsAtOnce, CancellationToken = cancellation }, async (chunk, token) =>
        {
            var open = chunk.ToList();
            for (var attempt = 1; open.Count > 0; attempt++)
            {
                if (attempt > _options.MostAttempts) throw new StoreException($"the DynamoDB table '{_table}' left {open.Count} keys unread {_options.MostAttempts} times in a row: it is overloaded. Raise its limits, or try again later.");
                if (attempt > 1) await _calls.PauseAsync(attempt - 1, token);
                var request = new BatchGetItemRequest
                {
                    // Consistent, or whoever lost a race would not see what he lost to.
                    RequestItems = new() { [_table] = new KeysAndAttributes { Keys = open, ConsistentRead = true, ProjectionExpression = attributes } },
                    ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
                };
                var response = await _calls.RunAsync(what, (client, within) => client.BatchGetItemAsync(request, within), token);
                _calls.CountRead(response.ConsumedCapacity);
                foreach (var item in response.Responses?.GetValueOrDefault(_table) ?? []) found.Add(item);
                open = response.UnprocessedKeys?.GetValueOrDefault(_table)?.Keys ?? [];
            }
        });
        return [.. found];
    }

    /// <summary>Every commit is tried, whatever happens to the others; then the first failure is thrown. Those that were made stand, and are found accepted when tried again.</summary>
    public async ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation)
    {
        // The same feedback id twice: the first commit that has it is the faster one.
        var taken = new HashSet<string>();
        var isFirst = commits.Select(commit => TryTake(commit, taken)).ToArray();
        using var turns = new SemaphoreSlim(CallsAtOnce);
        return await Task.WhenAll(commits.Select(async (commit, i) =>
        {
            if (!isFirst[i]) return false;
            await turns.WaitAsync(cancellation);
            try
            {
                return await CommitAsync(commit, cancellation);
            }
            finally
            {
                turns.Release();
            }
        }));
    }

    /// <summary>Nothing to do: what is committed is durable.</summary>
    public ValueTask FlushAsync(CancellationToken cancellation) => ValueTask.CompletedTask;

    /// <summary>Makes the table (paid per request, feedback expiring) unless it is there. A deployment has made it already; this is for first steps and tests.</summary>
    public async Task EnsureTableAsync(CancellationToken cancellation) => await new DynamoTable(_table, _calls, _time).EnsureAsync(cancellation);

    private static bool TryTake(UserCommit commit, HashSet<string> taken)
    {
        var mine = commit.Accepted.Select(accepted => DynamoItem.KeyOf(commit.User.Tenant, commit.User.App, accepted.Message.FeedbackId)).ToHashSet();
        if (mine.Count < commit.Accepted.Count || taken.Overlaps(mine)) return false;
        taken.UnionWith(mine);
        return true;
    }

    private async Task<bool> CommitAsync(UserCommit commit, CancellationToken cancellation)
    {
        var writes = PutsOf(commit).Select(put => new TransactWriteItem { Put = put }).Concat(commit.Events.SelectMany(change => WritesOf(commit.User, change))).ToList();
        if (writes.Count == 0) return true;
        Check(commit, [.. writes.Select(write => write.Put).OfType<Put>()]);
        return await TryTransactAsync("commit a user's feedback", [.. writes, .. CheckErasure(commit)], cancellation);
    }

    /// <returns>False when a condition does not hold, and nothing was written.</returns>
    private async Task<bool> TryTransactAsync(string what, List<TransactWriteItem> items, CancellationToken cancellation)
    {
        var request = new TransactWriteItemsRequest
        {
            TransactItems = items,
            // By this the service knows a repetition.
            ClientRequestToken = Guid.NewGuid().ToString(),
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        return await _calls.RunAsync(what, async (client, token) =>
        {
            try
            {
                var response = await client.TransactWriteItemsAsync(request, token);
                _calls.CountWrite(response.ConsumedCapacity);
                return true;
            }
            catch (TransactionCanceledException e) when (e.CancellationReasons.Any(reason => reason.Code == "ConditionalCheckFailed"))
            {
                return false;
            }
        }, cancellation);
    }

    private IEnumerable<Put> PutsOf(UserCommit commit)
    {
        var expected = commit.ExpectedTag is { } tag ? long.Parse(tag, CultureInfo.InvariantCulture) : commit.Erasure?.Version ?? 0;
        var version = commit.Head is null ? expected : expected + 1;
        if (commit.Head is { } head)
        {
            var weights = new Put { TableName = _table, Item = DynamoItem.OfWeights(commit.User, head.Weights, version) };
            if (commit.ExpectedTag is null) weights.ConditionExpression = "attribute_not_exists(pk)";
            else
            {
                weights.ConditionExpression = "version = :expected";
                weights.ExpressionAttributeValues = new() { [":expected"] = DynamoItem.Number(expected) };
            }
            yield return weights;
            if (head.Covariance.Length > 0) yield return new Put { TableName = _table, Item = DynamoItem.OfCovariance(commit.User, head, version) };
        }
        if (commit.Replayed is { } upto) yield return new Put { TableName = _table, Item = new(DynamoItem.Of(DynamoItem.KeyOf(commit.User), DynamoItem.Replayed)) { ["version"] = DynamoItem.Number(upto) } };
        var now = _time.GetUtcNow();
        for (var place = 0; place < commit.Accepted.Count; place++)
        {
            yield return new Put
            {
                TableName = _table,
                Item = DynamoItem.OfFeedback(commit.User, commit.Accepted[place], version, place, now, now + _options.FeedbackHorizon),
                ConditionExpression = commit.IsRelease ? "learnt = :not" : "attribute_not_exists(pk)",
                ExpressionAttributeValues = commit.IsRelease ? new() { [":not"] = new() { BOOL = false } } : null,
            };
        }
    }

    /// <summary>A head's version tells whether its user was erased since it was read; where there is none, or it stays, somebody must look.</summary>
    private IEnumerable<TransactWriteItem> CheckErasure(UserCommit commit)
    {
        if (commit.User.User.Length == 0 || (commit.Head is not null && commit.ExpectedTag is not null)) yield break;
        var check = new ConditionCheck { TableName = _table, Key = DynamoItem.Of(DynamoItem.KeyOf(commit.User), DynamoItem.Erased), ConditionExpression = "attribute_not_exists(pk)" };
        if (commit.Erasure is { } erasure)
        {
            check.ConditionExpression = "#at = :at";
            check.ExpressionAttributeNames = new() { ["#at"] = "at" };
            check.ExpressionAttributeValues = new() { [":at"] = DynamoItem.Number(erasure.At.ToUnixTimeMilliseconds()) };
        }
        yield return new TransactWriteItem { ConditionCheck = check };
    }

    /// <summary>Says before anything is sent what the service would refuse, and would refuse again.</summary>
    private void Check(UserCommit commit, List<Put> puts)
    {
        if (commit.Accepted.Count > MostPerCommit) throw new ArgumentException($"a commit of {commit.Accepted.Count} feedback messages: {nameof(MostPerCommit)} is {MostPerCommit}");
        var total = 0;
        foreach (var put in puts)
        {
            var size = DynamoItem.SizeOf(put.Item);
            total += size;
            if (size <= DynamoItem.MostBytes) continue;
            throw new StoreException($"the {put.Item["sk"].S} of a user of app '{commit.User.App}' takes {size} bytes and an item of DynamoDB {DynamoItem.MostBytes} at most (400 KB): "
                + "give the head a feature model with fewer outputs (a covariance of 450 fits), or keep the state elsewhere.") { IsPermanent = true };
        }
        if (total > MostTransactionBytes)
        {
            throw new StoreException($"a commit of {commit.Accepted.Count} feedback messages for app '{commit.User.App}' takes {total} bytes and a transaction of DynamoDB {MostTransactionBytes} at most (4 MB): "
                + "send smaller batches, or give the head a smaller feature model.") { IsPermanent = true };
        }
    }
}
