using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>Answers over function URLs, piece by piece.</summary>
[Collection("Lambda")]
public sealed class StreamingTests
{
    [Fact]
    public async Task Pieces_AreSentAsTheyAreFlushed()
    {
        var firstSeen = new TaskCompletionSource();
        await using var host = await StartAsync(async http =>
        {
            http.Response.StatusCode = 201;
            http.Response.ContentType = "text/event-stream";
            http.Response.Cookies.Append("a", "b");
            await http.Response.WriteAsync("first;");
            await http.Response.Body.FlushAsync();
            await firstSeen.Task;
            await http.Response.WriteAsync("second");
        });
        var invocation = host.Api.Queue(LambdaEvents.FunctionUrl());

        using var stream = await invocation.StreamAsync();
        var seen = "";
        while (!seen.EndsWith("first;", StringComparison.Ordinal)) seen += await ReadAsync(stream);
        firstSeen.SetResult();
        var report = await invocation.ReportAsync();

        Assert.Equal("streaming", report.Headers["Lambda-Runtime-Function-Response-Mode"]);
        Assert.Equal("application/vnd.awslambda.http-integration-response", report.Headers["Content-Type"]);
        Assert.Equal("chunked", report.Headers["Transfer-Encoding"]);
        var (prelude, body) = Split(report);
        Assert.Equal("""{"statusCode":201,"headers":{"Content-Type":"text/event-stream"},"cookies":["a=b; path=/"]}""", prelude);
        Assert.Equal("first;second", body);
        Assert.Empty(report.Trailers);
    }

    [Fact]
    public async Task AnswerWithoutABody_IsAPrelude()
    {
        await using var host = await StartAsync(http =>
        {
            http.Response.StatusCode = 204;
            return Task.CompletedTask;
        });

        Assert.Equal(("""{"statusCode":204,"headers":{}}""", ""), Split(await host.Api.InvokeAsync(LambdaEvents.FunctionUrl())));
    }

    [Fact]
    public async Task BytesOfManySizes_ArriveWhole()
    {
        var bytes = new byte[3_000_000];
        new Random(1).NextBytes(bytes);
        await using var host = await StartAsync(async http =>
        {
            var sent = 0;
            for (var size = 1; sent < bytes.Length; size *= 3)
            {
                var piece = bytes.AsMemory(sent, Math.Min(size, bytes.Length - sent));
                await http.Response.Body.WriteAsync(piece);
                sent += piece.Length;
            }
        });

        var report = await host.Api.InvokeAsync(LambdaEvents.FunctionUrl());

        Assert.Equal(bytes, report.Body[^bytes.Length..]);
    }

    [Fact]
    public async Task ExceptionMidway_IsInTheTrailers()
    {
        await using var host = await StartAsync(async http =>
        {
            await http.Response.WriteAsync("half");
            throw new NotSupportedException("no further");
        });

        var report = await host.Api.InvokeAsync(LambdaEvents.FunctionUrl());

        Assert.Equal("half", Split(report).Body);
        Assert.Equal("NotSupportedException", report.Trailers["Lambda-Runtime-Function-Error-Type"]);
        var error = JsonDocument.Parse(Convert.FromBase64String(report.Trailers["Lambda-Runtime-Function-Error-Body"])).RootElement;
        Assert.Equal("no further", error.GetProperty("errorMessage").GetString());
    }

    [Fact]
    public async Task ExceptionBeforeTheStart_FailsTheInvocation()
    {
        await using var host = await StartAsync(_ => throw new NotSupportedException("not at all"));

        HttpEventTests.AssertFailed(await host.Api.InvokeAsync(LambdaEvents.FunctionUrl()), "NotSupportedException", "not at all");
    }

    [Fact]
    public async Task DeadlineMidway_IsInTheTrailers()
    {
        await using var host = await StartAsync(async http =>
        {
            await http.Response.WriteAsync("half", CancellationToken.None);
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        });

        var report = await host.Api.InvokeAsync(LambdaEvents.FunctionUrl(), TimeSpan.FromSeconds(0.5));

        Assert.Equal("half", Split(report).Body);
        Assert.Equal("DeadlineExceeded", report.Trailers["Lambda-Runtime-Function-Error-Type"]);
    }

    [Fact]
    public async Task AnswerThatIsRefused_LeavesTheNextOnes()
    {
        await using var host = await StartAsync(http => http.Response.WriteAsync("body"));
        host.Api.Refuse("response", HttpStatusCode.RequestEntityTooLarge);
        await host.Api.InvokeAsync(LambdaEvents.FunctionUrl());

        Assert.Equal("body", Split(await host.Api.InvokeAsync(LambdaEvents.FunctionUrl())).Body);
    }

    [Fact]
    public async Task HttpApi_GetsTheWholeAnswer()
    {
        await using var host = await StartAsync(http => http.Response.WriteAsync("body"));

        var report = await host.Api.InvokeAsync(LambdaEvents.HttpApi());

        Assert.False(report.Headers.ContainsKey("Lambda-Runtime-Function-Response-Mode"));
        Assert.Equal(200, report.Json.GetProperty("statusCode").GetInt32());
    }

    private static Task<LambdaHost> StartAsync(RequestDelegate handler) => LambdaHost.StartAsync(handler, options => options with { ResponseStreaming = true });

    private static async Task<string> ReadAsync(Stream stream)
    {
        var buffer = new byte[1024];
        var read = await stream.ReadAsync(buffer);
        Assert.NotEqual(0, read);
        return Encoding.UTF8.GetString(buffer, 0, read);
    }

    private static (string Prelude, string Body) Split(LambdaReport report)
    {
        var parts = report.Text.Split("\0\0\0\0\0\0\0\0");
        Assert.Equal(2, parts.Length);
        return (parts[0], parts[1]);
    }
}
