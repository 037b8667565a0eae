using System.Globalization;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Threading.Channels;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Aws;

/// <remarks>
/// Feedback lies by the hash of its id and not by its user, which keeps a commit cheap; so whoever wants all of a user's, or of an app's, reads through the table (a scan, consistent, a
/// read unit for 4 KB each). That is what quarantine, export, erasure, replay and a day of the log cost: about 0.03 USD for a table of 1 GB.
/// </remarks>
public sealed partial class DynamoStateStore
{
    /// <summary>How long an erasure is remembered: longer than any message may still be on its way.</summary>
    private static readonly TimeSpan ErasureHorizon = TimeSpan.FromDays(60);

    public async IAsyncEnumerable<KeptFeedback> ReadFeedbackAsync(FeedbackQuery query, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var found = new List<KeptFeedback>();
        await foreach (var item in FindFeedbackAsync(query, cancellation)) found.Add(DynamoItem.ReadFeedback(item));
        // A scan has no order, so that of commits is made here.
        foreach (var kept in found.OrderBy(kept => kept.Order)) yield return kept;
    }

    public async IAsyncEnumerable<string> ReadUsersAsync(string tenant, string app, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var prefix = DynamoItem.PrefixOf(tenant, app, "user");
        var request = ScanFor(prefix, DynamoItem.Weights);
        request.ProjectionExpression = "pk";
        await foreach (var item in ScanAsync(request, cancellation))
        {
            yield return UserIn(item["pk"].S, prefix);
        }
    }

    /// <summary>The user's name is what follows its length.</summary>
    private static string UserIn(string key, string prefix) => key[(key.IndexOf(':', prefix.Length) + 1)..];

    public async ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation)
    {
        while (!await TryEraseHeadAsync(user, at, cancellation)) cancellation.ThrowIfCancellationRequested();
        // What has begun is carried to its end: the head is gone, and with it nothing of the user may stay.
        cancellation = CancellationToken.None;
        var deletes = new List<Dictionary<string, AttributeValue>[]> { new[] { DynamoItem.Of(DynamoItem.KeyOf(user), DynamoItem.LogKey) } };
        var request = ScanForNamed(user);
        request.FilterExpression = $"({OwnFeedback}) OR ({ShardsFeedback}) OR ({Events})";
        request.ExpressionAttributeValues[":own"] = new() { S = DynamoItem.PrefixOf(user.Tenant, user.App, DynamoItem.Feedback) };
        request.ExpressionAttributeValues[":shards"] = new() { S = DynamoItem.PrefixOf(user.Tenant, UserKey.OfShard("", user.App, 0).App, DynamoItem.Feedback) };
        await foreach (var item in ScanAsync(request, cancellation))
        {
            var key = DynamoItem.Of(item["pk"].S, item["sk"].S);
            // What is from after the erasure stays: feedback of its own, and silence on decisions made while this looks. A ranked event is no feedback yet and reads as from the beginning of time: it goes.
            if (item["sk"].S == DynamoItem.Feedback)
            {
                if (DynamoItem.ReadFeedback(item).Accepted.Message.At <= at) deletes.Add([key]);
            }
            else if (DynamoItem.ReadEvent(item) is var waiting && FeedbackMessage.Read(waiting.Body).Since <= at) deletes.Add([key, DynamoItem.KeyOfDue(item["pk"].S, waiting)]);
        }
        using var turns = new SemaphoreSlim(CallsAtOnce);
        await Task.WhenAll(deletes.Select(async keys =>
        {
            await turns.WaitAsync(cancellation);
            try
            {
                // An event goes together with when it is due: one without the other would be found by nobody.
                if (keys is [var key]) await DeleteAsync(key);
                else await DeleteTogetherAsync(keys);
            }
            finally
            {
                turns.Release();
            }
        }));

        async Task DeleteAsync(Dictionary<string, AttributeValue> key)
        {
            var request = new DeleteItemRequest { TableName = _table, Key = key, ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL };
            var response = await _calls.RunAsync("erase a user's feedback", (client, token) => client.DeleteItemAsync(request, token), cancellation);
            _calls.CountWrite(response.ConsumedCapacity);
        }

        Task DeleteTogetherAsync(Dictionary<string, AttributeValue>[] keys) =>
            TryTransactAsync("erase a user's event", [.. keys.Select(key => new TransactWriteItem { Delete = new Delete { TableName = _table, Key = key } })], CancellationToken.None);
    }

    /// <summary>Nothing to do: items expire.</summary>
    public ValueTask PurgeAsync(string tenant, string app, DateTimeOffset before, CancellationToken cancellation) => ValueTask.CompletedTask;

    public async ValueTask<IReadOnlyDictionary<string, byte[]>> LogKeysAsync(string tenant, string app, IReadOnlyCollection<string>? users, bool create, CancellationToken cancellation)
    {
        var keys = new Dictionary<string, byte[]>();
        if (users is null)
        {
            var prefix = DynamoItem.PrefixOf(tenant, app, "user");
            await foreach (var item in ScanAsync(ScanFor(prefix, DynamoItem.LogKey), cancellation)) keys[UserIn(item["pk"].S, prefix)] = item["key"].B.ToArray();
        }
        var open = (users ?? []).ToHashSet();
        while (open.Count > 0)
        {
            var places = open.ToDictionary(user => DynamoItem.KeyOf(new UserKey(tenant, app, user)));
            foreach (var item in await ReadItemsAsync("read users' log keys", places.Keys.Select(pk => DynamoItem.Of(pk, DynamoItem.LogKey)), null, cancellation))
            {
                var user = places[item["pk"].S];
                keys[user] = item["key"].B.ToArray();
                open.Remove(user);
            }
            if (!create) break;
            // Read again, since another may be faster.
            await Parallel.ForEachAsync(open, new ParallelOptions { MaxDegreeOfParallelism = CallsAtOnce, CancellationToken = cancellation },
                async (user, token) => await TryPutKeyAsync(DynamoItem.Of(DynamoItem.KeyOf(new UserKey(tenant, app, user)), DynamoItem.LogKey), token));
        }
        return keys;
    }

    public async ValueTask<IReadOnlyDictionary<string, DateTimeOffset>> FindErasedAsync(string tenant, string app, IReadOnlyCollection<string> users, CancellationToken cancellation)
    {
        var places = users.Distinct().ToDictionary(user => DynamoItem.KeyOf(new UserKey(tenant, app, user)));
        var erasures = await ReadItemsAsync("look for users who were erased", places.Keys.Select(pk => DynamoItem.Of(pk, DynamoItem.Erased)), null, cancellation);
        return erasures.ToDictionary(item => places[item["pk"].S], item => DynamoItem.ReadErasure(item).At);
    }

    private async Task TryPutKeyAsync(Dictionary<string, AttributeValue> place, CancellationToken cancellation)
    {
        var item = new Dictionary<string, AttributeValue>(place) { ["key"] = new() { B = new MemoryStream(RandomNumberGenerator.GetBytes(32)) } };
        var request = new PutItemRequest { TableName = _table, Item = item, ConditionExpression = "attribute_not_exists(pk)", ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL };
        await _calls.RunAsync("make a user's log key", async (client, token) =>
        {
            try
            {
                _calls.CountWrite((await client.PutItemAsync(request, token)).ConsumedCapacity);
                return true;
            }
            catch (ConditionalCheckFailedException)
            {
                return false; // somebody was faster, or an answer was lost
            }
        }, cancellation);
    }

    /// <summary>The erasure takes the place of the head, at once: whoever has read the head before finds it gone.</summary>
    private async Task<bool> TryEraseHeadAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation)
    {
        var (head, erasure) = await ReadUserAsync(user, cancellation);
        var version = head is null ? erasure?.Version ?? 0 : long.Parse(head.Weights.Tag, CultureInfo.InvariantCulture);
        var key = DynamoItem.KeyOf(user);
        var weights = new Delete { TableName = _table, Key = DynamoItem.Of(key, DynamoItem.Weights), ConditionExpression = "attribute_not_exists(pk)" };
        if (head is not null)
        {
            weights.ConditionExpression = "version = :version";
            weights.ExpressionAttributeValues = new() { [":version"] = DynamoItem.Number(version) };
        }
        return await TryTransactAsync(
            "erase a user's head",
            [
                new() { Put = new Put { TableName = _table, Item = DynamoItem.OfErasure(user, new Erasure(at, version), at + ErasureHorizon) } },
                new() { Delete = weights },
                new() { Delete = new Delete { TableName = _table, Key = DynamoItem.Of(key, DynamoItem.Covariance) } },
                new() { Delete = new Delete { TableName = _table, Key = DynamoItem.Of(key, DynamoItem.Replayed) } },
            ],
            cancellation);
    }

    private IAsyncEnumerable<Dictionary<string, AttributeValue>> FindFeedbackAsync(FeedbackQuery query, CancellationToken cancellation)
    {
        var request = ScanFor([.. query.Apps.Select(app => DynamoItem.PrefixOf(query.Tenant, app, DynamoItem.Feedback))], DynamoItem.Feedback);
        if (query.User is { } user)
        {
            request.FilterExpression += " AND #user = :user";
            request.ExpressionAttributeNames = new() { ["#user"] = "user" };
            request.ExpressionAttributeValues[":user"] = new() { S = user };
        }
        if (query.Naming is { } naming)
        {
            request.FilterExpression += " AND naming = :naming";
            request.ExpressionAttributeValues[":naming"] = new() { S = naming };
        }
        if (query.OnlyQuarantined)
        {
            request.FilterExpression += " AND begins_with(note, :quarantine)";
            request.ExpressionAttributeValues[":quarantine"] = new() { S = AcceptedFeedback.Quarantine };
        }
        if (query.From > DateTimeOffset.UnixEpoch)
        {
            request.FilterExpression += " AND committed >= :from";
            request.ExpressionAttributeValues[":from"] = DynamoItem.Number(query.From.ToUnixTimeMilliseconds());
        }
        if (query.To < DateTimeOffset.MaxValue)
        {
            request.FilterExpression += " AND committed < :to";
            request.ExpressionAttributeValues[":to"] = DynamoItem.Number(query.To.ToUnixTimeMilliseconds());
        }
        return ScanAsync(request, cancellation);
    }

    private const string OwnFeedback = "begins_with(pk, :own) AND #user = :user", ShardsFeedback = "begins_with(pk, :shards) AND naming = :user",
        Events = "(begins_with(pk, :events0) OR begins_with(pk, :events1)) AND begins_with(sk, :event) AND #user = :user";

    /// <summary>With what all looks for a user among others' items take.</summary>
    private ScanRequest ScanForNamed(UserKey user) => new()
    {
        TableName = _table,
        ConsistentRead = true,
        ExpressionAttributeNames = new() { ["#user"] = "user" },
        ExpressionAttributeValues = new()
        {
            [":user"] = new() { S = user.User }, [":event"] = new() { S = DynamoItem.EventPrefix },
            [":events0"] = new() { S = DynamoItem.PrefixOf(user.Tenant, UserKey.EventApps(user.App)[0], "events") }, [":events1"] = new() { S = DynamoItem.PrefixOf(user.Tenant, UserKey.EventApps(user.App)[1], "events") },
        },
        ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
    };

    private ScanRequest ScanFor(string prefix, string sk) => ScanFor([prefix], sk);

    /// <param name="prefixes">One of them is how the key begins.</param>
    private ScanRequest ScanFor(IReadOnlyList<string> prefixes, string sk) => new()
    {
        TableName = _table,
        ConsistentRead = true,
        FilterExpression = $"({string.Join(" OR ", prefixes.Select((_, i) => $"begins_with(pk, :prefix{i})"))}) AND sk = :sk",
        ExpressionAttributeValues = new(prefixes.Select((prefix, i) => KeyValuePair.Create($":prefix{i}", new AttributeValue { S = prefix }))) { [":sk"] = new() { S = sk } },
        ReturnConsumedCapacity = ReturnConsumedCapacity.TOTAL,
    };

    /// <summary>What the scan finds, in no order: the table's segments are looked through side by side, as far ahead as somebody takes what was found.</summary>
    private async IAsyncEnumerable<Dictionary<string, AttributeValue>> ScanAsync(ScanRequest request, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var pages = Channel.CreateBounded<List<Dictionary<string, AttributeValue>>>(CallsAtOnce);
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var scanning = ScanAllAsync();
        try
        {
            await foreach (var page in pages.Reader.ReadAllAsync(ends.Token))
            {
                foreach (var item in page) yield return item;
            }
        }
        finally
        {
            await ends.CancelAsync();
            await scanning;
        }

        async Task ScanAllAsync()
        {
            try
            {
                await Parallel.ForAsync(0, CallsAtOnce, ends.Token, async (segment, token) => await ScanSegmentAsync(segment, token));
                pages.Writer.Complete();
            }
            catch (Exception e)
            {
                pages.Writer.Complete(e); // the reader throws it
            }
        }

        async Task ScanSegmentAsync(int segment, CancellationToken token)
        {
            var part = new ScanRequest
            {
                TableName = request.TableName, ConsistentRead = request.ConsistentRead, FilterExpression = request.FilterExpression, ProjectionExpression = request.ProjectionExpression,
                ExpressionAttributeNames = request.ExpressionAttributeNames, ExpressionAttributeValues = request.ExpressionAttributeValues, ReturnConsumedCapacity = request.ReturnConsumedCapacity,
                Segment = segment, TotalSegments = CallsAtOnce,
            };
            do
            {
                var response = await _calls.RunAsync("look through the table", (client, within) => client.ScanAsync(part, within), token);
                _calls.CountRead(response.ConsumedCapacity);
                if (response.Items is { Count: > 0 } items) await pages.Writer.WriteAsync(items, token);
                part.ExclusiveStartKey = response.LastEvaluatedKey;
            }
            while (part.ExclusiveStartKey is { Count: > 0 });
        }
    }
}
