using System.Runtime.CompilerServices;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>
/// Events that wait for their reward, two items each under a key of their shard's own: the event by its id's hash, and, without anything else in it, when it is due, so that a query finds those whose time is over.
/// Both are written in the transaction of the shard's commit.
/// </summary>
public sealed partial class DynamoStateStore : IEventStore
{
    public async ValueTask<IReadOnlyList<WaitingEvent>> ReadEventsAsync(UserKey shard, IReadOnlyCollection<string> ids, CancellationToken cancellation) =>
        await ReadEventItemsAsync(ids.Distinct().Select(id => DynamoItem.KeyOfEvent(shard, id)), cancellation);

    public async ValueTask<IReadOnlyList<WaitingEvent>> FindDueAsync(UserKey shard, DateTimeOffset at, int most, CancellationToken cancellation)
    {
        var request = new QueryRequest
        {
            TableName = _table,
            KeyConditionExpression = "pk = :shard AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues = new()
            {
                [":shard"] = new() { S = DynamoItem.KeyOfEvents(shard) },
                [":first"] = new() { S = DynamoItem.Due },
                [":last"] = new() { S = DynamoItem.DueUntil(at) },
            },
            ConsistentRead = true,
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        var found = new List<WaitingEvent>();
        do
        {
            request.Limit = most - found.Count;
            var response = await _calls.RunAsync("look for events that are due", (client, token) => client.QueryAsync(request, token), cancellation);
            _calls.CountRead(response.ConsumedCapacity);
            var due = (response.Items ?? []).ToDictionary(item => DynamoItem.EventOfDue(item)["sk"].S);
            foreach (var waiting in await ReadEventItemsAsync([.. due.Values.Select(DynamoItem.EventOfDue)], cancellation))
            {
                found.Add(waiting);
                due.Remove(DynamoItem.KeyOfEvent(shard, waiting.Id)["sk"].S);
            }
            // Those without their event would stand before all others for ever.
            foreach (var orphan in due.Values) await ForgetDueAsync(orphan, cancellation);
            request.ExclusiveStartKey = response.LastEvaluatedKey;
        }
        while (found.Count < most && request.ExclusiveStartKey is { Count: > 0 });
        return [.. found.OrderBy(waiting => waiting.Due)];
    }

    /// <summary>Unless its event has begun again meanwhile.</summary>
    private Task ForgetDueAsync(Dictionary<string, AttributeValue> due, CancellationToken cancellation) => TryTransactAsync(
        "forget when an event that is gone was due",
        [
            new() { ConditionCheck = new ConditionCheck { TableName = _table, Key = DynamoItem.EventOfDue(due), ConditionExpression = "attribute_not_exists(pk)" } },
            new() { Delete = new Delete { TableName = _table, Key = DynamoItem.Of(due["pk"].S, due["sk"].S) } },
        ],
        cancellation);

    public async IAsyncEnumerable<WaitingEvent> ReadEventsAsync(UserKey user, [EnumeratorCancellation] CancellationToken cancellation)
    {
        if (user.User.Length == 0) yield break;
        var request = ScanForNamed(user);
        request.FilterExpression = Events;
        await foreach (var item in ScanAsync(request, cancellation)) yield return DynamoItem.ReadEvent(item);
    }

    private async Task<IReadOnlyList<WaitingEvent>> ReadEventItemsAsync(IEnumerable<Dictionary<string, AttributeValue>> keys, CancellationToken cancellation) =>
        [.. (await ReadItemsAsync("read events", keys, null, cancellation)).Select(DynamoItem.ReadEvent)];

    private IEnumerable<TransactWriteItem> WritesOf(UserKey shard, EventChange change)
    {
        var condition = change.Before is { } before
            ? ("version = :before", new Dictionary<string, AttributeValue> { [":before"] = DynamoItem.Number(before.Version) })
            : ("attribute_not_exists(pk)", null);
        if (change.After is { } after)
        {
            yield return new() { Put = new Put { TableName = _table, Item = DynamoItem.OfEvent(shard, after), ConditionExpression = condition.Item1, ExpressionAttributeValues = condition.Item2 } };
            if (change.Before is null) yield return new() { Put = new Put { TableName = _table, Item = DynamoItem.KeyOfDue(shard, after) } };
            yield break;
        }
        yield return new() { Delete = new Delete { TableName = _table, Key = DynamoItem.KeyOfEvent(shard, change.Id), ConditionExpression = condition.Item1, ExpressionAttributeValues = condition.Item2 } };
        yield return new() { Delete = new Delete { TableName = _table, Key = DynamoItem.KeyOfDue(shard, change.Before!) } };
    }
}
