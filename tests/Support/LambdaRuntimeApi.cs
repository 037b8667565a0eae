using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.IO.Pipelines;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Skiff.Support;

/// <summary>Lambda's side of the Runtime API, on a loopback port: hands out the events that a test queues, and keeps what the function sends back.</summary>
public sealed class LambdaRuntimeApi : IAsyncDisposable
{
    private readonly WebApplication _web;
    private readonly Channel<LambdaInvocation> _events = Channel.CreateUnbounded<LambdaInvocation>();
    private readonly ConcurrentDictionary<string, LambdaInvocation> _underWay = new();
    private readonly ConcurrentDictionary<string, HttpStatusCode> _refusals = new();
    private readonly TaskCompletionSource<LambdaReport> _initError = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _ids;

    private LambdaRuntimeApi()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0").ConfigureKestrel(kestrel => kestrel.Limits.MaxRequestBodySize = null);
        _web = builder.Build();
        _web.Use((http, next) =>
        {
            Connections.TryAdd(http.Connection.Id, true);
            return next(http);
        });
        var runtime = _web.MapGroup("/2018-06-01/runtime");
        runtime.MapGet("/invocation/next", (RequestDelegate)NextAsync);
        runtime.MapPost("/invocation/{id}/response", (RequestDelegate)(http => ReportAsync(http, "response")));
        runtime.MapPost("/invocation/{id}/error", (RequestDelegate)(http => ReportAsync(http, "error")));
        runtime.MapPost("/init/error", (RequestDelegate)(http => ReportAsync(http, "init")));
    }

    /// <summary>Host and port, as <c>AWS_LAMBDA_RUNTIME_API</c> has them.</summary>
    public string Address => new Uri(_web.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First()).Authority;

    /// <summary>Every connection that was made.</summary>
    public ConcurrentDictionary<string, bool> Connections { get; } = new();

    /// <summary>From handing out an event to its whole answer, of each in turn: what Lambda bills, before it rounds up.</summary>
    public ConcurrentQueue<TimeSpan> Durations { get; } = new();

    /// <summary>What the function says when it can't start.</summary>
    public Task<LambdaReport> InitError => _initError.Task;

    /// <summary>Answers are held back until this is done.</summary>
    public Task Held { get; set; } = Task.CompletedTask;

    public static async Task<LambdaRuntimeApi> StartAsync()
    {
        var api = new LambdaRuntimeApi();
        await api._web.StartAsync();
        return api;
    }

    /// <summary>Queues an event.</summary>
    /// <param name="left">Time until its deadline; a minute unless told otherwise.</param>
    public LambdaInvocation Queue(string json, TimeSpan? left = null, string? trace = null)
    {
        var invocation = new LambdaInvocation($"request-{Interlocked.Increment(ref _ids)}", json, DateTimeOffset.UtcNow + (left ?? TimeSpan.FromMinutes(1)), trace);
        _events.Writer.TryWrite(invocation);
        return invocation;
    }

    /// <summary>Queues an event and waits for what comes of it.</summary>
    public Task<LambdaReport> InvokeAsync(string json, TimeSpan? left = null, string? trace = null) => Queue(json, left, trace).ReportAsync();

    /// <summary>Answers the next <c>next</c>, <c>response</c> or <c>error</c> with this status, once.</summary>
    public void Refuse(string what, HttpStatusCode status) => _refusals[what] = status;

    public async ValueTask DisposeAsync()
    {
        // Whoever polls still would keep the server from stopping.
        _events.Writer.TryComplete();
        await _web.DisposeAsync();
    }

    private async Task NextAsync(HttpContext http)
    {
        LambdaInvocation invocation;
        try
        {
            if (_refusals.TryRemove("next", out var status))
            {
                http.Response.StatusCode = (int)status;
                return;
            }
            invocation = await _events.Reader.ReadAsync(http.RequestAborted);
        }
        catch (Exception e) when (e is ChannelClosedException or OperationCanceledException)
        {
            http.Abort();
            return;
        }
        _underWay[invocation.Id] = invocation;
        invocation.HandedOut = Stopwatch.GetTimestamp();
        var headers = http.Response.Headers;
        headers["Lambda-Runtime-Aws-Request-Id"] = invocation.Id;
        headers["Lambda-Runtime-Deadline-Ms"] = invocation.Deadline.ToUnixTimeMilliseconds().ToString(CultureInfo.InvariantCulture);
        headers["Lambda-Runtime-Invoked-Function-Arn"] = "arn:aws:lambda:us-east-1:123456789012:function:predict";
        if (invocation.Trace is { } trace) headers["Lambda-Runtime-Trace-Id"] = trace;
        http.Response.ContentType = "application/json";
        var body = Encoding.UTF8.GetBytes(invocation.Json);
        http.Response.ContentLength = body.Length;
        await http.Response.Body.WriteAsync(body, http.RequestAborted);
    }

    private async Task ReportAsync(HttpContext http, string what)
    {
        var invocation = http.Request.RouteValues["id"] is string id ? _underWay[id] : null;
        var request = http.Request;
        var pipe = new Pipe(new PipeOptions(pauseWriterThreshold: 0));
        if (request.Headers["Lambda-Runtime-Function-Response-Mode"] == "streaming") invocation!.Stream(pipe.Reader.AsStream());
        using var whole = new MemoryStream();
        while (await request.BodyReader.ReadAsync() is var read)
        {
            foreach (var piece in read.Buffer)
            {
                whole.Write(piece.Span);
                await pipe.Writer.WriteAsync(piece);
            }
            request.BodyReader.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted) break;
        }
        await pipe.Writer.CompleteAsync();
        if (invocation is not null) Durations.Enqueue(Stopwatch.GetElapsedTime(invocation.HandedOut));
        await Held;
        http.Response.StatusCode = _refusals.TryRemove(what, out var status) ? (int)status : 202;

        var report = new LambdaReport(
            what,
            whole.ToArray(),
            request.Headers.ToDictionary(header => header.Key, header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase),
            http.Features.GetRequiredFeature<IHttpRequestTrailersFeature>().Trailers.ToDictionary(header => header.Key, header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase));
        if (invocation is null) _initError.TrySetResult(report);
        else invocation.Complete(report);
    }
}

/// <summary>An event, and what comes of it.</summary>
public sealed class LambdaInvocation(string id, string json, DateTimeOffset deadline, string? trace)
{
    private readonly TaskCompletionSource<LambdaReport> _report = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<Stream> _stream = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public string Id => id;
    public string Json => json;
    public DateTimeOffset Deadline => deadline;
    public string? Trace => trace;

    internal long HandedOut { get; set; }

    public bool IsReported => _report.Task.IsCompleted;

    public Task<LambdaReport> ReportAsync() => _report.Task.WaitAsync(TimeSpan.FromSeconds(30));

    /// <summary>The body of a streamed answer, as it comes.</summary>
    public Task<Stream> StreamAsync() => _stream.Task.WaitAsync(TimeSpan.FromSeconds(30));

    internal void Complete(LambdaReport report) => _report.TrySetResult(report);

    internal void Stream(Stream body) => _stream.TrySetResult(body);
}

/// <param name="What"><c>response</c>, <c>error</c> or <c>init</c>.</param>
public sealed record LambdaReport(string What, byte[] Body, IReadOnlyDictionary<string, string> Headers, IReadOnlyDictionary<string, string> Trailers)
{
    public string Text => Encoding.UTF8.GetString(Body);

    public JsonElement Json => JsonDocument.Parse(Body).RootElement;
}
