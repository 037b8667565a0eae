using System.Collections.Concurrent;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Skiff.Lambda;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>The loop between the Runtime API and the application: failures, deadlines, several at once.</summary>
[Collection("Lambda")]
public sealed class InvocationTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task ExceptionOfTheApplication_FailsTheInvocationOnly()
    {
        await using var host = await LambdaHost.StartAsync(http => http.Request.Path == "/my/path" ? throw new NotSupportedException("not like this") : Task.CompletedTask);

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.HttpApi()), "NotSupportedException", "not like this");
        Assert.Equal("response", (await host.Api.InvokeAsync(LambdaEvents.HttpApi(json => json["rawPath"] = "/other"))).What);
    }

    [Fact]
    public async Task AbortedAnswer_FailsTheInvocation()
    {
        await using var host = await LambdaHost.StartAsync(async http =>
        {
            await http.Response.WriteAsync("half");
            http.Abort();
            Assert.True(http.RequestAborted.IsCancellationRequested);
        });

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.HttpApi()), "InvalidOperationException", "aborted");
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(0.2)]
    public async Task DeadlineThatPasses_CancelsTheRequestAndFailsTheInvocation(double seconds)
    {
        await using var host = await LambdaHost.StartAsync(http => Task.Delay(Timeout.Infinite, http.RequestAborted));

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.HttpApi(), TimeSpan.FromSeconds(seconds)), "DeadlineExceeded", "deadline");
    }

    [Fact]
    public async Task DeadlineThatPassesUnsaid_FailsTheInvocationToo()
    {
        // As the engine's gateway does: a request that was given up is not answered.
        await using var host = await LambdaHost.StartAsync(http => Task.Delay(Timeout.Infinite, http.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default));

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.HttpApi(), TimeSpan.Zero), "DeadlineExceeded", "deadline");
    }

    [Fact]
    public async Task AnswerInTime_IsSentThoughTheDeadlineHasPassed()
    {
        await using var host = await LambdaHost.StartAsync(http => http.Response.WriteAsync("quick", CancellationToken.None));

        var report = await host.Api.InvokeAsync(LambdaEvents.HttpApi(), TimeSpan.Zero);

        Assert.Equal("quick"u8, report.Json.GetProperty("body").GetBytesFromBase64());
    }

    [Fact]
    public async Task Concurrency_RunsSoManyInvocationsAtOnce()
    {
        const int concurrency = 4;
        using var all = new CountdownEvent(concurrency);
        var together = new TaskCompletionSource();
        await using var host = await LambdaHost.StartAsync(http =>
        {
            if (all.Signal()) together.SetResult();
            return together.Task;
        }, options => options with { Concurrency = concurrency });

        var reports = await Task.WhenAll(Enumerable.Range(0, concurrency).Select(_ => host.Api.InvokeAsync(LambdaEvents.HttpApi())));

        Assert.All(reports, report => Assert.Equal("response", report.What));
    }

    [Fact]
    public async Task WithoutConcurrency_OneConnectionAndOneAfterTheOther()
    {
        var running = 0;
        await using var host = await LambdaHost.StartAsync(async http =>
        {
            Assert.Equal(1, Interlocked.Increment(ref running));
            await Task.Yield();
            Interlocked.Decrement(ref running);
        });

        var reports = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => host.Api.InvokeAsync(LambdaEvents.HttpApi())));

        Assert.All(reports, report => Assert.Equal("response", report.What));
        Assert.Single(host.Api.Connections);
    }

    [Fact]
    public async Task SlowApi_IsWaitedForBeforeTheNextEvent()
    {
        var release = new TaskCompletionSource();
        await using var host = await LambdaHost.StartAsync(_ => Task.CompletedTask);
        host.Api.Held = release.Task;
        var first = host.Api.Queue(LambdaEvents.HttpApi());
        var second = host.Api.Queue(LambdaEvents.HttpApi());

        release.SetResult();

        await second.ReportAsync();
        Assert.True(first.IsReported);
    }

    [Fact]
    public async Task WhatIsLeftAfterAnAnswer_IsDoneBeforeTheNextEventIsAskedFor()
    {
        var happened = new ConcurrentQueue<string>();
        LambdaInvocation? under = null;
        await using var host = await LambdaHost.StartAsync(app => app.SettleAfterEach(async _ =>
        {
            // The caller has the answer already.
            await under!.ReportAsync();
            await Task.Delay(20, Cancellation);
            happened.Enqueue("settled");
        }).Run(http =>
        {
            happened.Enqueue("handled");
            return Task.CompletedTask;
        }));

        under = host.Api.Queue(LambdaEvents.HttpApi());
        await host.Api.InvokeAsync(LambdaEvents.HttpApi());

        Assert.Equal(["handled", "settled", "handled"], happened.Take(3));
    }

    [Fact]
    public async Task WhatIsLeftAndDoesNotEnd_IsGivenUpAtTheDeadline()
    {
        await using var host = await LambdaHost.StartAsync(app => app.SettleAfterEach(cancellation => Task.Delay(Timeout.Infinite, cancellation)).Run(http => http.Response.WriteAsync("quick", CancellationToken.None)));

        Assert.Equal("response", (await host.Api.InvokeAsync(LambdaEvents.HttpApi(), TimeSpan.FromSeconds(0.3))).What);
        Assert.Equal("response", (await host.Api.InvokeAsync(LambdaEvents.HttpApi(), TimeSpan.FromSeconds(0.3))).What);
        Assert.False(Ended(host).IsCancellationRequested);
    }

    [Theory]
    [InlineData("response", HttpStatusCode.RequestEntityTooLarge)]
    [InlineData("response", HttpStatusCode.Forbidden)]
    [InlineData("response", HttpStatusCode.BadRequest)]
    [InlineData("error", HttpStatusCode.Forbidden)]
    public async Task ApiThatRefusesOneAnswer_IsAskedForTheNextEvent(string what, HttpStatusCode status)
    {
        var failing = what == "error";
        await using var host = await LambdaHost.StartAsync(_ => failing ? throw new NotSupportedException() : Task.CompletedTask);
        host.Api.Refuse(what, status);
        await host.Api.InvokeAsync(LambdaEvents.HttpApi());

        Assert.Equal(what, (await host.Api.InvokeAsync(LambdaEvents.HttpApi())).What);
        Assert.False(Ended(host).IsCancellationRequested);
    }

    [Theory]
    [InlineData("next")]
    [InlineData("response")]
    [InlineData("error")]
    public async Task ApiThatIsBroken_EndsTheProcess(string what)
    {
        await using var host = await LambdaHost.StartAsync(_ => what == "error" ? throw new NotSupportedException() : Task.CompletedTask, options => options with { Concurrency = 2 });
        host.Api.Refuse(what, HttpStatusCode.InternalServerError);

        host.Api.Queue(LambdaEvents.HttpApi());
        host.Api.Queue(LambdaEvents.HttpApi());

        await host.App.WaitForShutdownAsync(Cancellation).WaitAsync(TimeSpan.FromSeconds(30), Cancellation);
        Assert.Equal(1, Environment.ExitCode);
        Environment.ExitCode = 0;
    }

    [Fact]
    public async Task ApiThatIsGone_EndsTheProcess()
    {
        var host = await LambdaHost.StartAsync(_ => Task.CompletedTask);
        await host.Api.InvokeAsync(LambdaEvents.HttpApi());

        await host.Api.DisposeAsync();

        await host.App.WaitForShutdownAsync(Cancellation).WaitAsync(TimeSpan.FromSeconds(30), Cancellation);
        Environment.ExitCode = 0;
        await host.App.DisposeAsync();
    }

    [Fact]
    public async Task StoppedHost_AnswersWhatHasBegun()
    {
        var (begun, release) = (new TaskCompletionSource(), new TaskCompletionSource());
        var host = await LambdaHost.StartAsync(http =>
        {
            begun.SetResult();
            return release.Task;
        });
        var report = host.Api.InvokeAsync(LambdaEvents.HttpApi());
        await begun.Task;

        var stopped = host.App.StopAsync(Cancellation);
        Assert.False(stopped.IsCompleted);
        release.SetResult();

        Assert.Equal("response", (await report).What);
        await stopped;
        await host.DisposeAsync();
    }

    [Fact]
    public async Task StartThatFails_IsAnInitError()
    {
        await using var api = await LambdaRuntimeApi.StartAsync();
        var options = new LambdaOptions { RuntimeApi = api.Address };

        var thrown = await Assert.ThrowsAsync<IOException>(() => LambdaHosting.InitializeAsync<WebApplication>(options, () => throw new IOException("no model store")));

        Assert.Equal("no model store", thrown.Message);
        var report = await api.InitError;
        Assert.Equal("IOException", report.Headers["Lambda-Runtime-Function-Error-Type"]);
        Assert.Equal("""{"errorMessage":"no model store","errorType":"IOException","stackTrace":[]}""", report.Text);
    }

    [Fact]
    public async Task StartThatFailsAndCantBeReported_FailsAsItIs()
    {
        var options = new LambdaOptions { RuntimeApi = $"127.0.0.1:{LoopbackPort.Free()}" };

        var thrown = await Assert.ThrowsAsync<IOException>(() => LambdaHosting.InitializeAsync<WebApplication>(options, () => throw new IOException("no model store")));

        Assert.Equal("no model store", thrown.Message);
    }

    [Fact]
    public async Task StartElsewhere_FailsAsItIs()
    {
        Assert.Equal(7, await LambdaHosting.InitializeAsync(null, () => Task.FromResult(7)));
        await Assert.ThrowsAsync<IOException>(() => LambdaHosting.InitializeAsync<int>(null, () => throw new IOException()));
    }

    [Fact]
    public async Task Elsewhere_KestrelStays()
    {
        await using var app = WebApplication.CreateSlimBuilder().AddLambdaHosting().Build();

        Assert.Contains("Kestrel", app.Services.GetRequiredService<IServer>().GetType().FullName!, StringComparison.Ordinal);
    }

    [Fact]
    public void Environment_IsRead()
    {
        var options = LambdaOptions.Read(new Dictionary<string, string>
        {
            ["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:9001",
            ["AWS_LAMBDA_MAX_CONCURRENCY"] = "4",
            ["AWS_LAMBDA_INITIALIZATION_TYPE"] = "provisioned-concurrency",
            ["SKIFF_RESPONSE_STREAMING"] = "true",
            ["SKIFF_MAX_BODY_BYTES"] = "1024",
        });

        Assert.Equal(new LambdaOptions { RuntimeApi = "127.0.0.1:9001", Concurrency = 4, IsProvisioned = true, ResponseStreaming = true, MaxBodyBytes = 1024 }, options);
        Assert.Equal(new LambdaOptions { RuntimeApi = "a:1" }, LambdaOptions.Read(new Dictionary<string, string> { ["AWS_LAMBDA_RUNTIME_API"] = "a:1", ["AWS_LAMBDA_INITIALIZATION_TYPE"] = "on-demand" }));
        Assert.Null(LambdaOptions.Read(new Dictionary<string, string>()));
    }

    [Theory]
    [InlineData("AWS_LAMBDA_MAX_CONCURRENCY", "0", "from 1 to 1000")]
    [InlineData("SKIFF_RESPONSE_STREAMING", "yes", "true or false")]
    [InlineData("SKIFF_MAX_BODY_BYTES", "6MB", "from 1024")]
    public void EnvironmentThatIsNotUnderstood_IsRefused(string name, string value, string takes)
    {
        var thrown = Assert.Throws<FormatException>(() => LambdaOptions.Read(new Dictionary<string, string> { ["AWS_LAMBDA_RUNTIME_API"] = "a:1", [name] = value }));

        Assert.Contains($"{name} is '{value}'", thrown.Message, StringComparison.Ordinal);
        Assert.Contains(takes, thrown.Message, StringComparison.Ordinal);
    }

    private static CancellationToken Ended(LambdaHost host) => host.App.Lifetime.ApplicationStopping;
}
