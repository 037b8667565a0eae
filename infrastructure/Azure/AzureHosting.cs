using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Skiff.Azure;

/// <summary>
/// How a program becomes a custom handler of Azure Functions, and stays what it is everywhere else. The Functions host starts the program, waits until <c>GET /</c> gets
/// any answer, and then talks to it over loopback: requests of HTTP functions as they came, at their own path (<c>enableProxyingHttpRequest</c> and an empty
/// <c>routePrefix</c>), everything else as a <c>POST</c> to the function's name.
/// </summary>
public static class AzureHosting
{
    /// <summary>Under a Functions host, listens where it says, on loopback and nowhere else, whatever other settings ask for; elsewhere does nothing.</summary>
    /// <param name="options">Null: read from the environment.</param>
    /// <exception cref="FormatException">A variable has a value that it doesn't take.</exception>
    public static WebApplicationBuilder AddAzureHosting(this WebApplicationBuilder builder, AzureOptions? options = null)
    {
        options ??= AzureOptions.Read(Environment.GetEnvironmentVariables());
        if (options is null) return builder;
        builder.Services.AddSingleton(options);
        builder.WebHost.UseUrls($"http://127.0.0.1:{options.Port}");
        // Without this, endpoints of "Kestrel" in the environment or an appsettings.json would be listened on instead.
        builder.Services.Configure<KestrelServerOptions>(kestrel => kestrel.Configure());
        return builder;
    }

    /// <summary>Under a Functions host, has items of a queue handled; elsewhere none come.</summary>
    /// <param name="function">The function's name: that of its folder, whose <c>function.json</c> has the queue as trigger.</param>
    public static WebApplication MapQueue(this WebApplication app, string function, QueueHandler handler)
    {
        if (app.Services.GetService<AzureOptions>() is null) return app;
        var invocation = new QueueInvocation(function, handler, app.Services.GetRequiredService<ILoggerFactory>().CreateLogger<QueueInvocation>());
        app.MapPost("/" + function, invocation.AnswerAsync);
        return app;
    }
}
