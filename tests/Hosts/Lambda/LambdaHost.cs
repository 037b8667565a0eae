using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Skiff.Lambda;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>An application on the Lambda host, in this process, beside a Runtime API of its own.</summary>
internal sealed class LambdaHost : IAsyncDisposable
{
    private LambdaHost(LambdaRuntimeApi api, WebApplication app) => (Api, App) = (api, app);

    public LambdaRuntimeApi Api { get; }
    public WebApplication App { get; }

    public static async Task<LambdaHost> StartAsync(Action<WebApplication> map, Func<LambdaOptions, LambdaOptions>? configure = null)
    {
        var api = await LambdaRuntimeApi.StartAsync();
        var options = new LambdaOptions { RuntimeApi = api.Address };
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.AddLambdaHosting(configure?.Invoke(options) ?? options);
        var app = builder.Build();
        map(app);
        await app.StartAsync();
        return new LambdaHost(api, app);
    }

    /// <summary>With one handler for every request.</summary>
    public static Task<LambdaHost> StartAsync(RequestDelegate handler, Func<LambdaOptions, LambdaOptions>? configure = null) => StartAsync(app => app.Run(handler), configure);

    public async ValueTask DisposeAsync()
    {
        await App.StopAsync();
        await App.DisposeAsync();
        await Api.DisposeAsync();
    }
}
