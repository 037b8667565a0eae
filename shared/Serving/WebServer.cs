using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Logging;

namespace Skiff.Serving;

/// <summary>What all servers of ours that listen by themselves have in common.</summary>
public static class WebServer
{
    /// <param name="urls">Where it listens, checked by the caller; joined by semicolons.</param>
    /// <param name="maxBodyBytes">The largest request body.</param>
    public static WebApplicationBuilder CreateBuilder(string urls, long maxBodyBytes)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls(urls);
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            // Where we listen was checked: endpoints of "Kestrel" in the environment or an appsettings.json would go past that.
            kestrel.Configure();
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = maxBodyBytes;
        });
        builder.Logging.ClearProviders();
        builder.Logging.AddConsoleLog().AddFilter("Skiff", LogLevel.Information);
        // A port in use is reported once, in one line, by whoever started us.
        builder.Logging.AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None);
        return builder;
    }
}
