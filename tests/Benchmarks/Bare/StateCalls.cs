using System.Globalization;
using System.Runtime.InteropServices;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Personalization;

namespace Skiff.Benchmarks.Bare;

/// <summary>What both sides write: a head of the sample app "digits", that is 65 features and 10 classes, and a piece of feedback for every update.</summary>
internal sealed class StateSample
{
    public const string Tenant = "default", App = "digits";
    private const int Features = 65, Classes = 10;

    private readonly Random random = new(65);

    public StateSample() => Head = new HeadState(
        new HeadWeights { FeaturesVersion = 1, PriorVersion = 1, Updates = 1000, Offset = 0.25, Weights = Floats(Features * Classes), Tag = "" },
        Floats(RidgeHead.PackedLength(Features)));

    public HeadState Head { get; }

    /// <summary>Feedback that nobody has sent before.</summary>
    public AcceptedFeedback Feedback(string user, int number) => new(
        new FeedbackMessage
        {
            Tenant = Tenant,
            App = App,
            User = user,
            FeedbackId = $"{user}-{number:d8}",
            Label = number % Classes,
            FeaturesVersion = 1,
            PriorVersion = 1,
            Features = MemoryMarshal.AsBytes<float>(Floats(Features)).ToArray(),
            Base = MemoryMarshal.AsBytes<float>(Floats(Classes)).ToArray(),
            At = DateTimeOffset.UnixEpoch,
        },
        true,
        null);

    private float[] Floats(int count) => [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() - 0.5f)];
}

/// <summary>The requests of predictions and updates as a good engineer writes them by hand, all made before the clock runs; answers are waited for and not looked into.</summary>
internal sealed class StateCalls(AmazonDynamoDBClient client, string table, UserKey user, StateSample sample)
{
    private readonly GetItemRequest weights = new()
    {
        TableName = table,
        Key = DynamoItem.Of(DynamoItem.KeyOf(user), DynamoItem.Weights),
        ConsistentRead = false,
        ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
    };

    private readonly QueryRequest head = new()
    {
        TableName = table,
        KeyConditionExpression = "pk = :user",
        ExpressionAttributeValues = new() { [":user"] = new() { S = DynamoItem.KeyOf(user) } },
        ConsistentRead = true,
        ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
    };

    private readonly Queue<(BatchGetItemRequest Find, TransactWriteItemsRequest Commit)> updates = new();
    private long version;

    /// <summary>What the service says was consumed.</summary>
    public CapacityUnits Consumed { get; private set; }

    public void PrepareUpdates(int count)
    {
        while (updates.Count < count) updates.Enqueue(NextUpdate());
    }

    public async Task PredictAsync() => CountRead((await client.GetItemAsync(weights)).ConsumedCapacity);

    public async Task UpdateAsync()
    {
        var (find, commit) = updates.Dequeue();
        CountRead((await client.BatchGetItemAsync(find)).ConsumedCapacity[0]);
        CountRead((await client.QueryAsync(head)).ConsumedCapacity);
        foreach (var consumed in (await client.TransactWriteItemsAsync(commit)).ConsumedCapacity) Consumed = Consumed with { Write = Consumed.Write + (consumed.CapacityUnits ?? 0) };
    }

    private void CountRead(ConsumedCapacity consumed) => Consumed = Consumed with { Read = Consumed.Read + (consumed.CapacityUnits ?? 0) };

    private (BatchGetItemRequest Find, TransactWriteItemsRequest Commit) NextUpdate()
    {
        var expected = version++;
        var feedback = sample.Feedback(user.User, (int)version);
        var find = new BatchGetItemRequest
        {
            RequestItems = new()
            {
                [table] = new KeysAndAttributes
                {
                    Keys = [DynamoItem.Of(DynamoItem.KeyOf(user.Tenant, user.App, feedback.Message.FeedbackId), DynamoItem.Feedback)],
                    ConsistentRead = true,
                    ProjectionExpression = "pk",
                },
            },
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        var put = new Put { TableName = table, Item = DynamoItem.OfWeights(user, sample.Head.Weights, version) };
        if (expected == 0) put.ConditionExpression = "attribute_not_exists(pk)";
        else
        {
            put.ConditionExpression = "version = :expected";
            put.ExpressionAttributeValues = new() { [":expected"] = new() { N = expected.ToString(CultureInfo.InvariantCulture) } };
        }
        var commit = new TransactWriteItemsRequest
        {
            TransactItems =
            [
                new() { Put = put },
                new() { Put = new Put { TableName = table, Item = DynamoItem.OfCovariance(user, sample.Head, version) } },
                new()
                {
                    Put = new Put
                    {
                        TableName = table,
                        Item = DynamoItem.OfFeedback(user, feedback, version, 0, DateTimeOffset.UtcNow, DateTimeOffset.UtcNow.AddDays(30)),
                        ConditionExpression = "attribute_not_exists(pk)",
                    },
                },
            ],
            ClientRequestToken = Guid.NewGuid().ToString(),
            ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
        };
        return (find, commit);
    }
}
