using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Skiff.Lambda;

/// <summary>How a program becomes a Lambda function, and stays what it is everywhere else.</summary>
public static class LambdaHosting
{
    /// <summary>
    /// On Lambda, puts the Runtime API in the place of Kestrel; elsewhere does nothing. Amazon's package does the same with
    /// <c>builder.Services.AddAWSLambdaHosting(LambdaEventSource.HttpApi)</c>.
    /// </summary>
    /// <param name="options">Null: read from the environment.</param>
    /// <exception cref="FormatException">A variable has a value that it doesn't take.</exception>
    public static WebApplicationBuilder AddLambdaHosting(this WebApplicationBuilder builder, LambdaOptions? options = null)
    {
        options ??= LambdaOptions.Read(Environment.GetEnvironmentVariables());
        if (options is null) return builder;
        builder.Services.Replace(ServiceDescriptor.Singleton<IServer>(services => new LambdaServer(
            options, services.GetRequiredService<IHostApplicationLifetime>(), services.GetRequiredService<ILoggerFactory>())));
        return builder;
    }

    /// <summary>On Lambda, has messages of a queue handled, beside the requests; elsewhere none come.</summary>
    public static WebApplication MapSqs(this WebApplication app, SqsHandler handler)
    {
        if (app.Services.GetRequiredService<IServer>() is LambdaServer server) server.Sqs = handler;
        return app;
    }

    /// <summary>On Lambda, which freezes a process between two events, has work that goes on in the background waited for after each answer; elsewhere it needn't be.</summary>
    public static WebApplication SettleAfterEach(this WebApplication app, Func<CancellationToken, Task> settle)
    {
        if (app.Services.GetRequiredService<IServer>() is LambdaServer server) server.Settle = settle;
        return app;
    }

    /// <summary>Handles messages of a queue, and schedules' events, without ASP.NET, until stopped: a function that serves no requests starts faster so.</summary>
    /// <param name="settle">What is left to do after each answer; null for nothing.</param>
    /// <exception cref="RuntimeApiException">The process should end.</exception>
    /// <param name="scheduled">What a schedule wakes; null where none does.</param>
    public static async Task RunSqsAsync(LambdaOptions options, SqsHandler handler, ILoggerFactory logging, CancellationToken stopping, Func<CancellationToken, Task>? settle = null, ScheduleHandler? scheduled = null)
    {
        using var api = new RuntimeApi(options.RuntimeApi);
        var loop = new InvocationLoop(api, options, logging.CreateLogger<InvocationLoop>());
        await loop.RunAsync(HandleAsync, stopping, settle);

        async Task<ReadOnlyMemory<byte>?> HandleAsync(Invocation invocation, CancellationToken cancellation)
        {
            using var json = EventJson.Parse(invocation.Event);
            if (scheduled is not null && ScheduledEvent.Is(json.RootElement)) return await ScheduledEvent.HandleAsync(json.RootElement, scheduled, cancellation);
            return SqsEvent.Is(json.RootElement) ? await SqsEvent.HandleAsync(json.RootElement, handler, cancellation) : throw EventJson.UnknownKind(json.RootElement);
        }
    }

    /// <summary>Runs what comes before the first event. Where that fails, Lambda is told why, and the exception goes on to end the process.</summary>
    /// <param name="options">Null where the process doesn't run on Lambda.</param>
    public static async Task<T> InitializeAsync<T>(LambdaOptions? options, Func<Task<T>> start)
    {
        try
        {
            return await start();
        }
        catch (Exception e) when (options is not null)
        {
            using var api = new RuntimeApi(options.RuntimeApi);
            try
            {
                api.FailInit(RuntimeError.Of(e), CancellationToken.None);
            }
            catch (RuntimeApiException)
            {
                // Then the log alone has the reason, which must not be this.
            }
            throw;
        }
    }
}
