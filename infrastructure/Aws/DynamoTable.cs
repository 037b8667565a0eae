using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>Makes the state table.</summary>
internal sealed class DynamoTable(string table, DynamoCalls calls, TimeProvider time)
{
    private const int MostLooks = 60;
    private static readonly TimeSpan BetweenLooks = TimeSpan.FromSeconds(1);

    public async Task EnsureAsync(CancellationToken cancellation)
    {
        await CreateAsync(cancellation);
        await AwaitActiveAsync(cancellation);
        await ExpireAsync(cancellation);
    }

    private Task<bool> CreateAsync(CancellationToken cancellation)
    {
        var request = new CreateTableRequest
        {
            TableName = table,
            BillingMode = BillingMode.PAY_PER_REQUEST,
            AttributeDefinitions = [new("pk", ScalarAttributeType.S), new("sk", ScalarAttributeType.S)],
            KeySchema = [new("pk", KeyType.HASH), new("sk", KeyType.RANGE)],
        };
        return calls.RunAsync("create the table", async (client, token) =>
        {
            try
            {
                await client.CreateTableAsync(request, token);
                return true;
            }
            catch (ResourceInUseException)
            {
                return false; // it is there, or somebody is making it
            }
        }, cancellation);
    }

    private async Task AwaitActiveAsync(CancellationToken cancellation)
    {
        for (var look = 1; look <= MostLooks; look++)
        {
            var response = await calls.RunAsync("read the table's status", (client, token) => client.DescribeTableAsync(table, token), cancellation);
            if (response.Table.TableStatus == TableStatus.ACTIVE) return;
            await Task.Delay(BetweenLooks, time, cancellation);
        }
        throw new StoreException($"the DynamoDB table '{table}' is still not active after {MostLooks} looks: see its status, then try again");
    }

    private async Task ExpireAsync(CancellationToken cancellation)
    {
        var now = await calls.RunAsync("read the table's TTL", (client, token) => client.DescribeTimeToLiveAsync(table, token), cancellation);
        if (now.TimeToLiveDescription?.TimeToLiveStatus is { } status && (status == TimeToLiveStatus.ENABLED || status == TimeToLiveStatus.ENABLING)) return;
        var request = new UpdateTimeToLiveRequest { TableName = table, TimeToLiveSpecification = new() { AttributeName = DynamoItem.Expires, Enabled = true } };
        await calls.RunAsync("set the table's TTL", async (client, token) =>
        {
            try
            {
                await client.UpdateTimeToLiveAsync(request, token);
                return true;
            }
            catch (AmazonDynamoDBException e) when (e.ErrorCode == "ValidationException" && e.Message.Contains("already enabled", StringComparison.Ordinal))
            {
                return false; // somebody was faster
            }
        }, cancellation);
    }
}
