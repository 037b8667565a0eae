using System.Collections.Concurrent;
using System.Net;
using System.Text.RegularExpressions;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Skiff.Aws;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Store;

namespace Skiff.Stores;

public sealed partial class DynamoStateStoreTests(DynamoDatabase database) : StateStoreTests, IDisposable
{
    private static readonly DynamoOptions Options = DynamoOptions.Default with { ConsistentPredictions = true };

    private readonly ConcurrentBag<AmazonDynamoDBClient> _clients = [];
    private readonly HurriedTime _time = new(Options.LongestDelay);

    public void Dispose()
    {
        foreach (var client in _clients) client.Dispose();
    }

    [Theory]
    [InlineData("ProvisionedThroughputExceededException")]
    [InlineData("ThrottlingException")]
    [InlineData("RequestLimitExceeded")]
    [InlineData("InternalServerError", 500)]
    [InlineData("ServiceUnavailable", 503)]
    public async Task PassingRefusals_AreWaitedOut(string error, int status = 400)
    {
        var store = Faulty(call => call.Number <= 3 ? FaultyTransport.Refuse(error, status: (HttpStatusCode)status) : null);

        Assert.True(await CommitAsync(User, null, Some.Head(), ["f1"], store));
        Assert.Equal(Some.Head().Weights.Weights, (await store.ReadWeightsAsync(User, Cancellation)).Weights!.Weights);

        // Full jitter: each wait is drawn from zero to twice as far as the one before.
        var random = new Random(1);
        Assert.Equal(new[] { 25, 50, 100, 25, 50, 100 }.Select(longest => TimeSpan.FromMilliseconds((int)(random.NextDouble() * longest))), _time.Waits);
    }

    [Fact]
    public async Task RefusalWithoutEnd_IsAnErrorThatSaysWhatToDo()
    {
        var store = Faulty(_ => FaultyTransport.Refuse("ProvisionedThroughputExceededException"));

        var error = await Assert.ThrowsAsync<StoreException>(() => CommitAsync(User, null, Some.Head(), ["f1"], store));

        Assert.Contains($"(DynamoDB table '{database.Table}', attempt 8 of 8)", error.Message);
        Assert.Contains("raise the table's limits", error.Message);
        Assert.False(error.IsPermanent);
        Assert.Equal(7, _time.Waits.Count);
        Assert.All(_time.Waits, wait => Assert.InRange(wait, TimeSpan.Zero, Options.LongestDelay));
    }

    [Fact]
    public async Task TransactionStillUnderWay_IsAskedForAgain()
    {
        var store = Faulty(call => call.Number == 1 ? FaultyTransport.Refuse("TransactionInProgressException") : null);

        Assert.True(await CommitAsync(User, null, Some.Head(), ["f1"], store));
    }

    [Theory]
    [InlineData("TransactionConflict")]
    [InlineData("ThrottlingError")]
    [InlineData("ProvisionedThroughputExceeded")]
    public async Task TransactionCancelledByOthers_IsRepeated(string reason)
    {
        var store = Faulty(call => call.Number <= 2 ? Cancelled("None", reason, "None") : null);

        Assert.True(await CommitAsync(User, null, Some.Head(), ["f1"], store));

        Assert.Equal(2, _time.Waits.Count);
    }

    [Fact]
    public async Task TransactionCancelledByItsCondition_IsARaceLost()
    {
        // A conflict beside it changes nothing: the head has moved on.
        var store = Faulty(_ => Cancelled("ConditionalCheckFailed", "TransactionConflict", "None"));

        Assert.False(await CommitAsync(User, null, Some.Head(), ["f1"], store));

        Assert.Empty(_time.Waits);
    }

    [Fact]
    public async Task TransactionCancelledForGood_IsAnErrorAtOnce()
    {
        var store = Faulty(_ => Cancelled("None", "ValidationError", "None"));

        var error = await Assert.ThrowsAsync<StoreException>(() => CommitAsync(User, null, Some.Head(), ["f1"], store));

        Assert.Contains("ValidationError", error.Message);
        Assert.Contains("attempt 1 of 8", error.Message);
    }

    [Theory]
    [InlineData(Loss.Reset)]
    [InlineData(Loss.Truncated)]
    [InlineData(Loss.Silence)]
    [InlineData(Loss.StalledBody)]
    public async Task AnswerLostAfterTheCommit_NeitherDoublesNorLoses(Loss loss)
    {
        var transport = new FaultyTransport(call => call is { Operation: "TransactWriteItems", Number: 1 } ? LoseAsync(loss, call) : null);
        var store = Through(transport, Options with { AttemptTimeout = TimeSpan.FromSeconds(1.5) });

        Assert.True(await CommitAsync(User, null, Some.Head(), ["f1"], store));

        Assert.Equal(2, transport.CountOf("TransactWriteItems"));
        Assert.Equal("1", (await store.ReadHeadAsync(User, Cancellation))!.Weights.Tag);
        Assert.Equal(["f1"], await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task AnswerLostAndTokenForgotten_IsFoundAccepted()
    {
        // What comes ten minutes later, or from another process: the same commit under another token.
        var store = Faulty(call => call is { Operation: "TransactWriteItems", Number: 1 } ? LoseAsync(Loss.Reset, call) : null, Options with { MostAttempts = 1 });
        await Assert.ThrowsAsync<StoreException>(() => CommitAsync(User, null, Some.Head(), ["f1"], store));

        Assert.False(await CommitAsync(User, null, Some.Head(), "f1"));

        Assert.Equal(["f1"], await AcceptedAsync("f1"));
        Assert.Equal("1", (await Store.ReadHeadAsync(User, Cancellation))!.Weights.Tag);
    }

    [Fact]
    public async Task SkewedClock_IsCorrected()
    {
        var store = Faulty(call => call.Number > 1 ? null : WithDateAsync(
            FaultyTransport.Refuse("InvalidSignatureException").ContinueWith(answer => answer.Result, TaskScheduler.Default), DateTimeOffset.UtcNow.AddHours(1)));

        Assert.Null((await store.ReadWeightsAsync(User, Cancellation)).Weights);

        static async Task<HttpResponseMessage> WithDateAsync(Task<HttpResponseMessage> answer, DateTimeOffset date)
        {
            var response = await answer;
            response.Headers.Date = date;
            return response;
        }
    }

    [Theory]
    [InlineData("AccessDeniedException", "Allow the role dynamodb:GetItem")]
    [InlineData("UnrecognizedClientException", "Check the AWS credentials")]
    [InlineData("ResourceNotFoundException", "Create the table")]
    public async Task LastingRefusal_IsAnErrorAtOnceThatSaysWhatToDo(string refusal, string advice)
    {
        var transport = new FaultyTransport(_ => FaultyTransport.Refuse(refusal));

        var error = await Assert.ThrowsAsync<StoreException>(async () => await Through(transport).ReadWeightsAsync(User, Cancellation));

        Assert.Contains(database.Table, error.Message);
        Assert.Contains(advice, error.Message);
        Assert.Equal(1, transport.CountOf("GetItem"));
    }

    [Fact]
    public async Task Cancellation_IsNotAFailureOfTheStore()
    {
        using var cancel = new CancellationTokenSource();
        var store = Faulty(async call =>
        {
            await cancel.CancelAsync();
            await Task.Delay(Timeout.Infinite, Cancellation);
            return await call.SendAsync();
        });

        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await store.ReadWeightsAsync(User, cancel.Token));
    }

    [Fact]
    public async Task HeadOver400Kilobytes_IsRefusedBeforeItIsSent_AndHoldsUpNobody()
    {
        var transport = new FaultyTransport(_ => null);
        var store = Through(transport);
        var large = new HeadState(Some.Head().Weights, new float[401 * 1024 / sizeof(float)]);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.CommitAsync(
            [Commit(User, null, Some.Head(), "f1"), Commit(OtherUser, null, large, "f2"), Commit(User with { User = "u3" }, null, Some.Head(), "f3")], Cancellation));

        Assert.True(error.IsPermanent);
        Assert.Matches(@"the covariance of a user of app 'app' takes 410\d\d\d bytes and an item of DynamoDB 409600 at most \(400 KB\): give the head a feature model with fewer outputs", error.Message);
        Assert.DoesNotContain("u2", error.Message);
        Assert.Equal(2, transport.CountOf("TransactWriteItems"));
        Assert.Equal(["f1", "f3"], await AcceptedAsync("f1", "f2", "f3"));
    }

    [Fact]
    public async Task LargestHead_IsKept()
    {
        var covariance = new float[RidgeHead.PackedLength(450)];
        new Random(1).NextBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(covariance.AsSpan()));

        Assert.True(await CommitAsync(User, null, new HeadState(Some.Head().Weights, covariance), "f1"));

        Assert.Equal(covariance.Select(BitConverter.SingleToInt32Bits), (await Store.ReadHeadAsync(User, Cancellation))!.Covariance.Select(BitConverter.SingleToInt32Bits));
    }

    [Fact]
    public async Task CommitOfTheMostFeedback_IsOneTransaction_AndOneMoreIsRefused()
    {
        string[] ids = [.. Enumerable.Range(0, Store.MostPerCommit + 1).Select(i => $"f{i:00}")];

        var error = await Assert.ThrowsAsync<ArgumentException>(() => CommitAsync(User, null, Some.Head(), ids));
        Assert.Contains("98", error.Message);
        Assert.Empty(await AcceptedAsync(ids));

        Assert.True(await CommitAsync(User, null, Some.Head(), ids[1..]));
        Assert.Equal(ids[1..], await AcceptedAsync(ids));
    }

    [Fact]
    public async Task CommitOverFourMegabytes_IsRefusedBeforeItIsSent()
    {
        var accepted = Enumerable.Range(0, 90).Select(i => Some.Accepted($"f{i}") with { Message = Some.Feedback($"f{i}") with { Features = new byte[36 * 1024] } }).ToList();
        var transport = new FaultyTransport(_ => null);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await Through(transport).CommitAsync(
            [new UserCommit { User = User, ExpectedTag = null, Head = null, Accepted = accepted }], Cancellation));

        Assert.True(error.IsPermanent);
        Assert.Contains("4194304 at most (4 MB)", error.Message);
        Assert.Equal(0, transport.CountOf("TransactWriteItems"));
    }

    [Fact]
    public async Task KeysLeftUnread_AreReadAgain()
    {
        await CommitAsync(User, null, null, "f1", "f2", "f3");
        // Overloaded, the service answers one key and gives the others back.
        var store = Faulty(call => call is { Operation: "BatchGetItem", Number: <= 2 } ? AnswerOneAsync(call) : null);

        Assert.Equal(["f1", "f2", "f3"], (await store.FindAcceptedAsync(User.Tenant, User.App, ["f1", "f2", "f3", "f4"], Cancellation)).Order());

        Assert.Equal(2, _time.Waits.Count);

        static async Task<HttpResponseMessage> AnswerOneAsync(FaultyCall call)
        {
            var body = await call.Request.Content!.ReadAsStringAsync();
            var keys = KeyPattern().Matches(body).Select(match => match.Value).ToArray();
            var one = body.Replace(string.Join(',', keys), keys[0], StringComparison.Ordinal);
            call.Request.Content = new StringContent(one, System.Text.Encoding.UTF8, "application/x-amz-json-1.0");
            var answer = await (await call.SendAsync()).Content.ReadAsStringAsync();
            var left = RequestItemsPattern().Match(body.Replace(keys[0] + ",", "", StringComparison.Ordinal)).Groups[1].Value;
            return await FaultyTransport.Answer(HttpStatusCode.OK, answer.Replace("\"UnprocessedKeys\":{}", $"\"UnprocessedKeys\":{left}", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task HeadReadAcrossACommit_IsReadAgain()
    {
        await CommitAsync(User, null, Some.Head(1), "f1");
        // The query's first answer has the covariance of before the commit and the weights of after it.
        var store = Faulty(call => call is { Operation: "Query", Number: 1 } ? TearAsync(call) : null);

        Assert.Equal(Some.Head(1).Covariance, (await store.ReadHeadAsync(User, Cancellation))!.Covariance);

        Assert.Single(_time.Waits);

        static async Task<HttpResponseMessage> TearAsync(FaultyCall call)
        {
            var answer = await (await call.SendAsync()).Content.ReadAsStringAsync();
            return await FaultyTransport.Answer(HttpStatusCode.OK, new Regex("\"version\":\\{\"N\":\"1\"\\}").Replace(answer, "\"version\":{\"N\":\"7\"}", 1));
        }
    }

    [Fact]
    public async Task HeadWithoutItsCovariance_IsAnError()
    {
        await CommitAsync(User, null, Some.Head(), "f1");
        var item = Assert.Single(await ItemsAsync(), item => item["sk"].S == "covariance");
        await Client().DeleteItemAsync(database.Table, new() { ["pk"] = item["pk"], ["sk"] = item["sk"] }, Cancellation);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await Faulty(_ => null).ReadHeadAsync(User, Cancellation));

        Assert.Contains("damaged: weights of version 1 stand beside no covariance", error.Message);
    }

    [Fact]
    public async Task Feedback_ExpiresAfterItsHorizon_AndHeadsDoNot()
    {
        var before = DateTimeOffset.UtcNow;
        await CommitAsync(User, null, Some.Head(), "f1");

        var ttl = await Client().DescribeTimeToLiveAsync(database.Table, Cancellation);
        var items = await ItemsAsync();

        Assert.Equal("expires", ttl.TimeToLiveDescription.AttributeName);
        Assert.Equal(["covariance", "feedback", "weights"], items.Select(item => item["sk"].S).Order());
        var expiring = Assert.Single(items, item => item.ContainsKey("expires"));
        Assert.Equal("feedback", expiring["sk"].S);
        Assert.InRange(long.Parse(expiring["expires"].N), before.AddDays(30).ToUnixTimeSeconds(), DateTimeOffset.UtcNow.AddDays(30).ToUnixTimeSeconds());
    }

    [Fact]
    public async Task TableThatIsThere_IsLeftAsItIs()
    {
        await CommitAsync(User, null, Some.Head(), "f1");

        await ((DynamoStateStore)Store).EnsureTableAsync(Cancellation);

        Assert.Equal(["f1"], await AcceptedAsync("f1"));
    }

    [Fact]
    public async Task MissingTable_IsAnErrorThatNamesIt()
    {
        var store = new DynamoStateStore(Client(), "no-such-table", Options, _time, new Random(1));

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.ReadWeightsAsync(User, Cancellation));

        Assert.Contains("'no-such-table'", error.Message);
        Assert.Contains("Create the table", error.Message);
    }

    [Fact]
    public async Task UnreachableService_IsAnErrorThatSaysWhereToLook()
    {
        var store = Faulty(_ => throw new HttpRequestException("Connection refused"));

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.ReadWeightsAsync(User, Cancellation));

        Assert.Contains("Connection refused", error.Message);
        Assert.Contains("AWS_ENDPOINT_URL", error.Message);
    }

    [Fact]
    public void SettingOutOfRange_IsAnErrorThatNamesIt()
    {
        var error = Assert.Throws<ArgumentException>(() => new DynamoStateStore(Client(), "table", Options with { MostAttempts = 0 }, _time, new Random(1)));

        Assert.Equal("MostAttempts is 0: it takes at least 1", error.Message);
    }

    [Fact]
    public async Task UnitsPerUpdateAndPrediction_AreWhatTheItemsSizesImply()
    {
        var store = Faulty(_ => null, DynamoOptions.Default);
        await CommitAsync(User, null, Some.Head(1), ["f1"], store);

        var (seen, find) = await MeasureAsync(async () => await store.FindAcceptedAsync(User.Tenant, User.App, ["f2"], Cancellation));
        var (head, read) = await MeasureAsync(async () => (await store.ReadHeadAsync(User, Cancellation))!);
        var feedback = Some.Accepted("f2") with { Message = Some.Feedback("f2") with { Features = new byte[65 * sizeof(float)], Base = new byte[10 * sizeof(float)] } };
        var (made, commit) = await MeasureAsync(async () => Assert.Single(await store.CommitAsync(
            [new UserCommit { User = User, ExpectedTag = head.Weights.Tag, Head = Some.Head(2), Accepted = [feedback] }], Cancellation)));
        var (weights, predict) = await MeasureAsync(async () => await store.ReadWeightsAsync(User, Cancellation));

        Assert.Empty(seen);
        Assert.True(made);
        Assert.Equal(AwsPrices.Table(predict), weights.CostUsd, 1e-12);
        var (_, latest) = await MeasureAsync(async () => await store.ReadLatestWeightsAsync(User, null, Cancellation));
        var (known, check) = await MeasureAsync(async () => await store.ReadLatestWeightsAsync(User, weights.Weights!.Tag, Cancellation));
        Assert.True(known.IsUnchanged);
        Assert.Equal((2 * predict.Read, 2 * predict.Read), (latest.Read, check.Read)); // never behind
        Assert.Equal(AwsPrices.Table(store.Consumed), store.SpentUsd, 1e-12);
        var sizes = (await ItemsAsync()).Where(item => item["version"].N == "2").ToDictionary(item => item["sk"].S, SizeOf);
        TestContext.Current.TestOutputHelper!.WriteLine($"update: {find.Read} + {read.Read} read units, {commit.Write} write units; prediction: {predict.Read} read units; items: "
            + string.Join(", ", sizes.Select(pair => $"{pair.Key} {pair.Value} B")));
        Assert.Equal(new CapacityUnits(1, 0), find); // of nothing: 1 a key
        Assert.Equal(new CapacityUnits(Math.Ceiling((sizes["weights"] + sizes["covariance"]) / 4096.0), 0), read); // a query adds up, then rounds
        Assert.Equal(new CapacityUnits(0, sizes.Values.Sum(size => 2 * Math.Ceiling(size / 1024.0))), commit); // a transaction rounds each item and costs double
        Assert.Equal(new CapacityUnits(Math.Ceiling(sizes["weights"] / 4096.0) / 2, 0), predict); // half, for it may be a moment behind
        Assert.Equal((4, 26, 0.5), (find.Read + read.Read, commit.Write, predict.Read)); // the shape of the sample app "digits"

        async Task<(T Result, CapacityUnits Units)> MeasureAsync<T>(Func<Task<T>> call)
        {
            var before = store.Consumed;
            var result = await call();
            return (result, store.Consumed - before);
        }
    }

    [Fact]
    public async Task DueItemWithoutItsEvent_HoldsUpNoneBehindIt()
    {
        var store = (DynamoStateStore)Store;
        var at = new DateTimeOffset(2026, 1, 2, 12, 0, 0, TimeSpan.Zero);
        await store.CommitAsync([Commit(User, null, null) with { Events = [.. Enumerable.Range(1, 4).Select(n => new EventChange(null, new WaitingEvent($"e{n}", at.AddMinutes(n), 1, [1])))] }], Cancellation);
        var events = (await ItemsAsync()).Where(item => item["sk"].S.StartsWith("event:", StringComparison.Ordinal)).ToDictionary(item => item["id"].S);
        foreach (var id in new[] { "e1", "e2" }) await Client().DeleteItemAsync(database.Table, new() { ["pk"] = events[id]["pk"], ["sk"] = events[id]["sk"] }, Cancellation);

        Assert.Equal(["e3"], (await store.FindDueAsync(User, at.AddHours(1), 1, Cancellation)).Select(waiting => waiting.Id));
        Assert.Equal(["e3", "e4"], (await store.FindDueAsync(User, at.AddHours(1), 24, Cancellation)).Select(waiting => waiting.Id));

        Assert.Equal(2, (await ItemsAsync()).Count(item => item["sk"].S.StartsWith("due:", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task LookThroughTheTable_ThatFailsInOnePart_Fails_AndEndsWithWhoeverStopsReading()
    {
        for (var i = 0; i < 40; i++) await CommitAsync(User with { User = $"u{i}" }, null, Some.Head(), $"f{i}");
        var store = Faulty(call => call is { Operation: "Scan", Number: 5 } ? FaultyTransport.Refuse("AccessDeniedException") : null);

        var error = await Assert.ThrowsAsync<StoreException>(async () => await store.ReadUsersAsync(User.Tenant, User.App, Cancellation).CountAsync(Cancellation));
        Assert.Contains("look through the table", error.Message);
        Assert.NotEmpty(await Store.ReadUsersAsync(User.Tenant, User.App, Cancellation).FirstAsync(Cancellation));
    }

    [Fact]
    public async Task ErasureWhoseCallerHasGone_IsCarriedToItsEnd()
    {
        var (shard, at) = (UserKey.OfSilence(User.Tenant, User.App, 0), new DateTimeOffset(2026, 1, 2, 12, 0, 0, TimeSpan.Zero));
        await CommitAsync(User, null, Some.Head(), "f1");
        await Store.CommitAsync([Commit(shard, null, null) with { Events = [new EventChange(null, new WaitingEvent("e1", at, 1, [1]) { User = User.User })] }], Cancellation);
        using var gone = new CancellationTokenSource();
        var store = Faulty(call =>
        {
            if (call.Operation == "Scan") gone.Cancel();
            return null;
        });

        await store.EraseAsync(User, DateTimeOffset.UtcNow, gone.Token);

        Assert.Equal(["erased"], (await ItemsAsync()).Select(item => item["sk"].S));
    }

    [Fact]
    public async Task SilenceOnDecisionsFromAfterAnErasure_StillWaits()
    {
        var (shard, at) = (UserKey.OfSilence(User.Tenant, User.App, 0), new DateTimeOffset(2026, 1, 2, 12, 0, 0, TimeSpan.Zero));
        await Store.CommitAsync([Commit(shard, null, null) with { Events = [Made("before", at), Made("after", at.AddSeconds(1))] }], Cancellation);

        await Store.EraseAsync(User, at, Cancellation);

        Assert.Equal(["after"], (await ((IEventStore)Store).FindDueAsync(shard, at.AddHours(1), 10, Cancellation)).Select(waiting => waiting.Id));

        EventChange Made(string id, DateTimeOffset at) => new(null, new WaitingEvent(id, at, 1, (Some.Feedback(id) with { At = at, Decided = at }).Serialize()) { User = User.User });
    }

    protected override IStateStore Open() => database.Store(Client(), Options);

    private DynamoStateStore Through(FaultyTransport transport, DynamoOptions? options = null) => database.Store(Client(transport), options ?? Options, _time);

    private DynamoStateStore Faulty(Func<FaultyCall, Task<HttpResponseMessage>?> fault, DynamoOptions? options = null) => Through(new FaultyTransport(fault), options);

    private AmazonDynamoDBClient Client(FaultyTransport? transport = null)
    {
        var client = database.Connect(Options, transport);
        _clients.Add(client);
        return client;
    }

    /// <summary>All items of this test's tenant.</summary>
    private async Task<List<Dictionary<string, AttributeValue>>> ItemsAsync()
    {
        var items = new List<Dictionary<string, AttributeValue>>();
        await foreach (var page in Client().Paginators.Scan(new ScanRequest
        {
            TableName = database.Table,
            ConsistentRead = true,
            FilterExpression = "begins_with(pk, :tenant)",
            ExpressionAttributeValues = new() { [":tenant"] = new() { S = $"{User.Tenant.Length}:{User.Tenant}" } },
        }).Responses.WithCancellation(Cancellation)) items.AddRange(page.Items ?? []);
        return items;
    }

    /// <summary>As the service counts: names and values; a number takes a byte for two digits and one more.</summary>
    private static int SizeOf(Dictionary<string, AttributeValue> item) => item.Sum(pair => pair.Key.Length + pair.Value switch
    {
        { S: { } text } => text.Length,
        { N: { } number } => (number.Length + 1) / 2 + 1,
        { B: { } bytes } => (int)bytes.Length,
        _ => 1,
    });

    private static Task<HttpResponseMessage> Cancelled(params string[] reasons) => FaultyTransport.Refuse("TransactionCanceledException",
        $$""","Message":"Transaction cancelled, please refer cancellation reasons for specific reasons [{{string.Join(", ", reasons)}}]","CancellationReasons":[{{string.Join(',', reasons.Select(code => $$"""{"Code":"{{code}}"}"""))}}]""");

    public enum Loss { Reset, Truncated, Silence, StalledBody }

    /// <summary>Has the service carry a call out and spoils its answer.</summary>
    private static async Task<HttpResponseMessage> LoseAsync(Loss loss, FaultyCall call)
    {
        var response = await call.SendAsync();
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        var body = await response.Content.ReadAsByteArrayAsync();
        switch (loss)
        {
            case Loss.Reset:
                throw new HttpRequestException("Connection reset by peer", new IOException("Connection reset by peer"));
            case Loss.Truncated:
                response.Content = new ByteArrayContent(body[..^2]);
                return response;
            case Loss.Silence:
                await Task.Delay(Timeout.Infinite, Cancellation);
                return response;
            case Loss.StalledBody:
                response.Content = new StreamContent(new StalledStream());
                return response;
            default:
                throw new ArgumentOutOfRangeException(nameof(loss), loss, null);
        }
    }

    [GeneratedRegex("""\{"pk":.*?\},"sk":\{.*?\}\}""")]
    private static partial Regex KeyPattern();

    [GeneratedRegex("\"RequestItems\":(\\{.*\\}\\})")]
    private static partial Regex RequestItemsPattern();

    /// <summary>A body that never comes.</summary>
    private sealed class StalledStream : MemoryStream
    {
        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            await Task.Delay(Timeout.Infinite, cancellationToken);
            return 0;
        }

        public override async Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => await ReadAsync(buffer.AsMemory(offset, count), cancellationToken);
    }
}
