using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Routing;

namespace Skiff.Aws;

/// <summary>Replicas of the heavy tier, side by side under one key: a query reads all of them.</summary>
public sealed partial class DynamoStateStore : IReplicaRegistry
{
    public async ValueTask RegisterAsync(Registration replica, CancellationToken cancellation)
    {
        var request = new PutItemRequest { TableName = _table, Item = DynamoItem.OfReplica(replica), ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL };
        var response = await _calls.RunAsync("register a replica", (client, token) => client.PutItemAsync(request, token), cancellation);
        _calls.CountWrite(response.ConsumedCapacity);
    }

    public async ValueTask UnregisterAsync(Uri address, CancellationToken cancellation)
    {
        var request = new DeleteItemRequest { TableName = _table, Key = DynamoItem.KeyOfReplica(address), ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL };
        var response = await _calls.RunAsync("unregister a replica", (client, token) => client.DeleteItemAsync(request, token), cancellation);
        _calls.CountWrite(response.ConsumedCapacity);
    }

    public async ValueTask<IReadOnlyList<Registration>> ReadReplicasAsync(CancellationToken cancellation)
    {
        var replicas = new List<Registration>();
        var request = new QueryRequest
        {
            TableName = _table,
            KeyConditionExpression = "pk = :replicas",
            ExpressionAttributeValues = new() { [":replicas"] = new() { S = DynamoItem.Replicas } },
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        do
        {
            var response = await _calls.RunAsync("find replicas", (client, token) => client.QueryAsync(request, token), cancellation);
            _calls.CountRead(response.ConsumedCapacity);
            replicas.AddRange((response.Items ?? []).Select(DynamoItem.ReadReplica));
            request.ExclusiveStartKey = response.LastEvaluatedKey;
        }
        while (request.ExclusiveStartKey is { Count: > 0 });
        return replicas;
    }
}
