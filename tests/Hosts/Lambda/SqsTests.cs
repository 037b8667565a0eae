using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Lambda;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>Messages of a queue: what is handed over, and which come again.</summary>
[Collection("Lambda")]
public sealed class SqsTests
{
    [Fact]
    public async Task Messages_AreHandedOverInOrder()
    {
        IReadOnlyList<SqsRecord>? seen = null;
        var answer = await HandleAsync((records, _) =>
        {
            seen = records;
            return Nothing;
        }, ("1", "a", "{\"x\":\"ü\"}"), ("2", "b", ""), ("3", null, "text"));

        Assert.Equal("""{"batchItemFailures":[]}""", answer);
        Assert.Equal(
        [
            new() { MessageId = "1", GroupId = "a", Body = "{\"x\":\"ü\"}", ReceiveCount = 2 },
            new() { MessageId = "2", GroupId = "b", Body = "", ReceiveCount = 2 },
            new() { MessageId = "3", GroupId = null, Body = "text", ReceiveCount = 2 },
        ], seen!);
    }

    [Theory]
    [InlineData("a1", "a1 a2 a3")]
    [InlineData("a2", "a2 a3")]
    [InlineData("b2", "b2")]
    [InlineData("b1 a3", "b1 b2 a3")]
    [InlineData("a1 a1 b2", "a1 a2 b2 a3")]
    public async Task FailedMessage_ComesAgainWithTheRestOfItsGroup(string failed, string again)
    {
        var answer = await HandleAsync((_, _) => Failed(failed.Split(' ')), ("a1", "a", "1"), ("b1", "b", "2"), ("a2", "a", "3"), ("b2", "b", "4"), ("a3", "a", "5"));

        Assert.Equal(Failures(again), answer);
    }

    [Fact]
    public async Task FailedMessageOfAStandardQueue_ComesAgainAlone()
    {
        var answer = await HandleAsync((_, _) => Failed("1"), ("1", null, ""), ("2", null, ""));

        Assert.Equal(Failures("1"), answer);
    }

    [Fact]
    public async Task Exception_FailsTheBatch()
    {
        await using var host = await StartAsync((_, _) => throw new IOException("the state can't be reached"));

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.Sqs(("1", "a", ""))), "IOException", "the state can't be reached");
    }

    [Fact]
    public async Task FailedMessageThatIsNotInTheBatch_FailsTheBatch()
    {
        await using var host = await StartAsync((_, _) => Failed("2"));

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.Sqs(("1", "a", ""))), "InvalidOperationException", "'2'");
    }

    [Fact]
    public async Task DeadlineThatPasses_FailsTheBatch()
    {
        await using var host = await StartAsync(async (_, cancellation) =>
        {
            await Task.Delay(Timeout.Infinite, cancellation);
            return [];
        });

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.Sqs(("1", "a", "")), TimeSpan.Zero), "DeadlineExceeded", "deadline");
    }

    [Fact]
    public async Task MessageWithoutItsParts_FailsTheBatch()
    {
        await using var host = await StartAsync((_, _) => Nothing);

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync("""{"Records":[{"eventSource":"aws:sqs","messageId":"1"}]}"""), "InvalidEventException", "no 'body'");
    }

    [Fact]
    public async Task OneHost_HandlesMessagesAndRequests()
    {
        await using var host = await StartAsync((_, _) => Nothing);

        Assert.Equal(202, (await host.Api.InvokeAsync(LambdaEvents.HttpApi())).Json.GetProperty("statusCode").GetInt32());
        Assert.Equal(Failures(""), (await host.Api.InvokeAsync(LambdaEvents.Sqs(("1", "a", "")))).Text);
    }

    [Fact]
    public async Task FunctionOfMessagesOnly_NeedsNoAspNet()
    {
        await using var api = await LambdaRuntimeApi.StartAsync();
        using var stopping = new CancellationTokenSource();
        var running = LambdaHosting.RunSqsAsync(new LambdaOptions { RuntimeApi = api.Address }, (_, _) => Failed("1"), NullLoggerFactory.Instance, stopping.Token);

        Assert.Equal(Failures("1 2"), (await api.InvokeAsync(LambdaEvents.Sqs(("1", "a", ""), ("2", "a", "")))).Text);
        HttpEventTests.AssertFailed(await api.InvokeAsync(LambdaEvents.HttpApi()), "InvalidEventException", "does not take");

        await stopping.CancelAsync();
        await running;
    }

    private static Task<IReadOnlyCollection<string>> Nothing => Failed();

    private static Task<IReadOnlyCollection<string>> Failed(params string[] ids) => Task.FromResult<IReadOnlyCollection<string>>(ids);

    private static string Failures(string ids) =>
        $$"""{"batchItemFailures":[{{string.Join(',', ids.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(id => $$"""{"itemIdentifier":"{{id}}"}"""))}}]}""";

    private static async Task<string> HandleAsync(SqsHandler handler, params (string Id, string? Group, string Body)[] messages)
    {
        await using var host = await StartAsync(handler);
        var report = await host.Api.InvokeAsync(LambdaEvents.Sqs(messages));
        Assert.True(report.What == "response", report.Text);
        return report.Text;
    }

    private static Task<LambdaHost> StartAsync(SqsHandler handler) => LambdaHost.StartAsync(app => app.MapSqs(handler).Run(http =>
    {
        http.Response.StatusCode = 202;
        return Task.CompletedTask;
    }));
}
