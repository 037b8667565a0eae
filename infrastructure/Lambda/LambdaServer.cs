using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Skiff.Lambda;

/// <summary>Lambda in the place of Kestrel: each event of the Runtime API becomes a request of the application.</summary>
internal sealed class LambdaServer : IServer
{
    private readonly LambdaOptions _options;
    private readonly RuntimeApi _api;
    private readonly InvocationLoop _loop;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly ILogger _log;
    private readonly CancellationTokenSource _stopping = new();
    private Task _running = Task.CompletedTask;

    public LambdaServer(LambdaOptions options, IHostApplicationLifetime lifetime, ILoggerFactory logging)
    {
        (_options, _lifetime, _log) = (options, lifetime, logging.CreateLogger<LambdaServer>());
        _api = new RuntimeApi(options.RuntimeApi);
        _loop = new InvocationLoop(_api, options, logging.CreateLogger<InvocationLoop>());
    }

    public IFeatureCollection Features { get; } = new FeatureCollection();

    /// <summary>Who handles messages of a queue; null where nobody does.</summary>
    public SqsHandler? Sqs { get; set; }

    /// <summary>What is left to do between an answer and the next event; null for nothing.</summary>
    public Func<CancellationToken, Task>? Settle { get; set; }

    public Task StartAsync<TContext>(IHttpApplication<TContext> application, CancellationToken cancellationToken)
        where TContext : notnull
    {
        _running = RunAsync((invocation, cancellation) => HandleAsync(application, invocation, cancellation));
        return Task.CompletedTask;
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        await _stopping.CancelAsync();
        await _running.WaitAsync(cancellationToken);
    }

    public void Dispose()
    {
        _stopping.Cancel();
        _api.Dispose();
    }

    private async Task RunAsync(InvocationHandler handler)
    {
        try
        {
            await _loop.RunAsync(handler, _stopping.Token, Settle);
        }
        catch (Exception e)
        {
            // No event will come any more: end, and not as if all were well.
            _log.LogCritical("{Error}", e.Message);
            Environment.ExitCode = 1;
            _lifetime.StopApplication();
        }
    }

    private async Task<ReadOnlyMemory<byte>?> HandleAsync<TContext>(IHttpApplication<TContext> application, Invocation invocation, CancellationToken cancellation)
        where TContext : notnull
    {
        using var json = EventJson.Parse(invocation.Event);
        if (HttpEvent.Is(json.RootElement)) return await AnswerAsync(application, HttpEvent.Read(json.RootElement, _options.MaxBodyBytes), invocation, cancellation);
        if (SqsEvent.Is(json.RootElement) && Sqs is { } handler) return await SqsEvent.HandleAsync(json.RootElement, handler, cancellation);
        throw EventJson.UnknownKind(json.RootElement);
    }

    private async Task<ReadOnlyMemory<byte>?> AnswerAsync<TContext>(IHttpApplication<TContext> application, HttpEvent http, Invocation invocation, CancellationToken cancellation)
        where TContext : notnull
    {
        var isStreamed = _options.ResponseStreaming && http.IsFunctionUrl;
        using var request = new LambdaRequest(http, invocation, _options.MaxBodyBytes, cancellation);
        await using var response = new LambdaResponse(isStreamed ? opening => _api.StreamAsync(invocation.Id, opening) : null);
        var context = application.CreateContext(FeaturesOf(request, response));
        Exception? failure = null;
        try
        {
            await application.ProcessRequestAsync(context);
            if (!response.HasStarted) cancellation.ThrowIfCancellationRequested();
            if (request.IsAborted) throw new InvalidOperationException("the application aborted the response");
            return await response.EndAsync(request.Method != "HEAD", cancellation);
        }
        catch (Exception e)
        {
            failure = e;
            // The status has gone out already: what is left to say goes into the trailers.
            if (response.Streamed is not { IsOpen: true } streamed) throw;
            _log.LogError(e, "invocation {Id} failed midway", invocation.Id);
            await streamed.FailAsync(RuntimeError.Of(e, cancellation), CancellationToken.None);
            return null;
        }
        finally
        {
            await response.CompletedAsync();
            application.DisposeContext(context, failure);
        }
    }

    private static FeatureCollection FeaturesOf(LambdaRequest request, LambdaResponse response)
    {
        var features = new FeatureCollection(16);
        features.Set<IHttpRequestFeature>(request);
        features.Set<IRequestBodyPipeFeature>(request);
        features.Set<IHttpRequestBodyDetectionFeature>(request);
        features.Set<IHttpMaxRequestBodySizeFeature>(request);
        features.Set<IHttpRequestIdentifierFeature>(request);
        features.Set<IHttpRequestLifetimeFeature>(request);
        features.Set<IHttpConnectionFeature>(request);
        features.Set<IHttpResponseFeature>(response);
        features.Set<IHttpResponseBodyFeature>(response);
        return features;
    }
}
