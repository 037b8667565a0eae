using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>The suite in SQS, and what is its own and the network's.</summary>
public sealed class SqsFeedbackQueueTests(MotoServer moto) : FeedbackQueueTests, IAsyncLifetime
{
    // Short waits, or the tests would wait with them.
    private static readonly SqsOptions Hasty = new() { Wait = TimeSpan.FromSeconds(1), Visibility = TimeSpan.FromSeconds(2), AttemptTimeout = TimeSpan.FromSeconds(1) };

    private string _location = "";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipWhen(moto.Sqs is null, MotoServer.Missing);
        _location = await moto.MakeQueueAsync($"skiff-tests-{Guid.NewGuid():n}");
    }

    [Fact]
    public async Task ManyMessages_GoInBatchesThatSqsTakes()
    {
        // By number 3 batches, by bytes 5.
        var messages = Enumerable.Range(0, 25).Select(i => Some.Feedback($"f{i}") with { Features = Some.Bytes(150_000) }).ToArray();

        await Open().SendAsync(messages, Cancellation);

        Assert.Equal(messages.Select(message => message.FeedbackId), await ReceiveIdsAsync(Open(), messages.Length));
    }

    [Fact]
    public async Task MessageLargerThanSqsTakes_IsRefusedAndNothingIsSent()
    {
        var queue = Open();

        var error = await Assert.ThrowsAsync<StoreException>(async () => await queue.SendAsync([Some.Feedback("f1"), Some.Feedback("f2") with { Features = Some.Bytes(1 << 20) }], Cancellation));

        Assert.Contains("SQS takes 1048576", error.Message);
        await queue.SendAsync([Some.Feedback("f3")], Cancellation);
        Assert.Equal(["f3"], await ReceiveIdsAsync(queue, 1));
    }

    [Fact]
    public async Task SameFeedbackTwice_ArrivesOnce()
    {
        var queue = Open();
        await queue.SendAsync([Some.Feedback("f1"), Some.Feedback("f2")], Cancellation);
        await queue.SendAsync([Some.Feedback("f2") with { Label = 1 }, Some.Feedback("f3"), Some.Feedback("f2") with { App = "other" }], Cancellation);

        Assert.Equal(["f1", "f2", "f3", "f2"], await ReceiveIdsAsync(queue, 4));
    }

    [Fact]
    public async Task ReceiverThatIsStoppedDuringAPoll_StillGetsWhatThePollBrings()
    {
        // Dropped, the poll would take the message all the same and hide it from everybody.
        using var queue = new SqsFeedbackQueue(_location, Hasty with { Endpoint = moto.Sqs, Wait = TimeSpan.FromSeconds(20), Visibility = TimeSpan.FromMinutes(1) });
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        var receiving = queue.ReceiveAsync(10, stop.Token).AsTask();
        await stop.CancelAsync();

        await Open().SendAsync([Some.Feedback("f1")], Cancellation);

        Assert.Equal("f1", Assert.Single(await receiving).Message.FeedbackId);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await queue.ReceiveAsync(10, stop.Token));
    }

    [Fact]
    public async Task UserWhoseMessageIsBeingLearnt_HoldsUpOnlyItself()
    {
        var queue = Open();
        await queue.SendAsync([Some.Feedback("f1", "slow")], Cancellation);
        var held = await ReceiveAsync(queue, 1);
        await queue.SendAsync([Some.Feedback("f2", "slow"), Some.Feedback("f3", "other"), Some.Feedback("f4", "")], Cancellation);

        Assert.Equal(["f3", "f4"], (await ReceiveIdsAsync(queue, 2)).Order());
        await queue.CompleteAsync(held, Cancellation);
        Assert.Equal(["f2"], await ReceiveIdsAsync(queue, 1));
    }

    [Fact]
    public async Task MessageCompletedTooLate_ComesAgainAndIsCompletedThen()
    {
        var queue = Open();
        await queue.SendAsync([Some.Feedback("f1")], Cancellation);
        var first = await ReceiveAsync(queue, 1);
        var second = await ReceiveAsync(queue, 1);

        Assert.Equal("f1", second[0].Message.FeedbackId);
        await queue.CompleteAsync(first, Cancellation);
        await queue.CompleteAsync(second, Cancellation);
        await queue.SendAsync([Some.Feedback("f2")], Cancellation);
        Assert.Equal(["f2"], await ReceiveIdsAsync(queue, 1));
    }

    [Theory]
    [MemberData(nameof(Some.Faults), MemberType = typeof(Some))]
    public async Task FirstAttemptFails_EveryMessageArrivesOnce(Fault fault)
    {
        await using var proxy = await FaultProxy.StartAsync(moto.Sqs!);
        var requests = 0;
        proxy.Plan = request => Interlocked.Increment(ref requests) % 2 == 1 && !IsReceive(request) ? fault : Fault.None;
        var queue = Open(proxy);

        await queue.SendAsync([.. Enumerable.Range(0, 15).Select(i => Some.Feedback($"f{i}"))], Cancellation);

        Assert.Equal(Enumerable.Range(0, 15).Select(i => $"f{i}"), await ReceiveIdsAsync(queue, 15));
        Assert.True(proxy.Count(fault) > 0);
    }

    [Theory]
    [InlineData(Fault.ServerError, "AWS failed")]
    [InlineData(Fault.SlowDown, "ThrottlingException")]
    [InlineData(Fault.Reset, "the connection failed")]
    [InlineData(Fault.Stall, "no whole answer")]
    public async Task EveryAttemptFails_IsAnErrorWithinTheLimit(Fault fault, string words)
    {
        await using var proxy = await FaultProxy.StartAsync(moto.Sqs!);
        proxy.Plan = _ => fault;
        var started = Stopwatch.GetTimestamp();
        var queue = Open(proxy);

        var receives = Assert.ThrowsAsync<StoreException>(async () => await queue.ReceiveAsync(10, Cancellation));
        var sending = await Assert.ThrowsAsync<StoreException>(async () => await queue.SendAsync([Some.Feedback("f1")], Cancellation));
        var receiving = await receives;

        // Three attempts and their pauses; and .NET waits two seconds for the rest of an answer that nobody wants any more.
        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0, 11 + 2 + 2);
        Assert.Contains(words, sending.Message);
        Assert.StartsWith($"can't send to {_location}: ", sending.Message);
        Assert.StartsWith($"can't receive from {_location}: ", receiving.Message);
    }

    [Fact]
    public async Task RefusedPartOfABatch_IsSentAgain()
    {
        await using var proxy = await FaultProxy.StartAsync(moto.Sqs!);
        var left = 1;
        proxy.Plan = request => Interlocked.Decrement(ref left) == 0 ? Fault.Partial : Fault.None;

        await Open(proxy).SendAsync([Some.Feedback("f1"), Some.Feedback("f2"), Some.Feedback("f3")], Cancellation);

        Assert.Equal(1, proxy.Count(Fault.Partial));
        Assert.Equal(["f1", "f2", "f3"], await ReceiveIdsAsync(Open(), 3));
    }

    [Fact]
    public async Task PartThatIsAlwaysRefused_IsAnErrorAndSendingAgainCountsOnce()
    {
        await using var proxy = await FaultProxy.StartAsync(moto.Sqs!);
        FeedbackMessage[] messages = [.. Enumerable.Range(0, 6).Select(i => Some.Feedback($"f{i}"))];
        // The first send loses one of its batch, each repetition fails as a whole.
        var sends = 0;
        proxy.Plan = _ => sends++ == 0 ? Fault.Partial : Fault.ServerError;
        await Assert.ThrowsAsync<StoreException>(async () => await Open(proxy).SendAsync(messages, Cancellation));

        await Open().SendAsync(messages, Cancellation);

        Assert.Equal(messages.Select(message => message.FeedbackId), await ReceiveIdsAsync(Open(), 6));
    }

    [Fact]
    public async Task MissingQueue_IsAnErrorThatSaysWhatToDo()
    {
        using var queue = new SqsFeedbackQueue("sqs://123456789012/nowhere.fifo", Hasty with { Endpoint = moto.Sqs });

        var error = await Assert.ThrowsAsync<StoreException>(async () => await queue.SendAsync([Some.Feedback("f1")], Cancellation));

        Assert.Equal("can't send to sqs://123456789012/nowhere.fifo: there is no such queue; create it, or correct the setting, AWS_REGION or the account", error.Message);
    }

    [Theory]
    [InlineData("sqs://queue.fifo")]
    [InlineData("sqs://123456789012/queue")]
    [InlineData("sqs://12345/queue.fifo")]
    [InlineData("sqs://123456789012/a/queue.fifo")]
    [InlineData("sqs://123456789012/.fifo")]
    [InlineData("https://sqs.us-east-1.amazonaws.com/123456789012/queue.fifo")]
    public void LocationThatIsNone_IsRefused(string location) =>
        Assert.StartsWith($"'{location}' is no queue: it takes sqs://ACCOUNT/NAME.fifo", Assert.Throws<FormatException>(() => new SqsFeedbackQueue(location)).Message);

    protected override IFeedbackQueue OpenQueue() => new SqsFeedbackQueue(_location, Hasty with { Endpoint = moto.Sqs });

    private SqsFeedbackQueue Open(FaultProxy proxy) => new(_location, Hasty with { Endpoint = proxy.Address });

    private static bool IsReceive(HttpRequest request) => request.Headers["X-Amz-Target"] == "AmazonSQS.ReceiveMessage";
}
