using System.Net.Http.Headers;
using System.Text;

namespace Skiff.Support;

/// <summary>
/// What Azure's Functions host does with a custom handler: starts it with a port, asks for <c>/</c> until there is any answer, forwards the requests of clients as its proxy
/// does, and invokes every other function by a POST to its name.
/// </summary>
public sealed class AzureFunctionsHost : IAsyncDisposable
{
    private readonly FunctionProcess _process;

    private AzureFunctionsHost(FunctionProcess process, Uri address)
    {
        _process = process;
        Client = new HttpClient(new Proxy()) { BaseAddress = address, Timeout = TimeSpan.FromSeconds(60) };
        Direct = new HttpClient { BaseAddress = address, Timeout = TimeSpan.FromSeconds(60) };
    }

    /// <summary>A client of the HTTP function, somewhere in the world.</summary>
    public HttpClient Client { get; }

    /// <summary>The host itself.</summary>
    public HttpClient Direct { get; }

    public string Output => _process.Output;

    /// <param name="name">The program's folder in <c>functions/</c>.</param>
    public static async Task<AzureFunctionsHost> StartAsync(string name, params (string Name, string Value)[] environment)
    {
        // A free port can be taken by another before it is used: then the program ends, and the next one is tried.
        for (var attempt = 1; ; attempt++)
        {
            var port = LoopbackPort.Free();
            var host = new AzureFunctionsHost(new FunctionProcess(name, [("FUNCTIONS_CUSTOMHANDLER_PORT", $"{port}"), .. environment]), new Uri($"http://127.0.0.1:{port}"));
            try
            {
                await Eventually.HoldsAsync("the custom handler answers or has ended", async () => host._process.HasExited || await host.AnswersAsync(), seconds: 60);
                if (!host._process.HasExited) return host;
                if (attempt == 5 || !host.Output.Contains("address already in use", StringComparison.Ordinal)) throw new InvalidOperationException($"the custom handler has ended: {host.Output}");
            }
            catch
            {
                await host.DisposeAsync();
                throw;
            }
            await host.DisposeAsync();
        }
    }

    /// <summary>Invokes a function.</summary>
    /// <param name="headers">What an invocation has no business to have.</param>
    public static async Task<(int Status, string Text)> InvokeAsync(HttpClient host, string function, string json, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/" + function) { Content = new StringContent(json, Encoding.UTF8, "application/json") };
        request.Headers.Add("X-Azure-Functions-HostVersion", "4.1045.200.1");
        request.Headers.Add("X-Azure-Functions-InvocationId", $"{Guid.NewGuid()}");
        request.Headers.UserAgent.Add(new ProductInfoHeaderValue("Azure-Functions-Host", "4.1045.200.1"));
        foreach (var (name, value) in headers) request.Headers.Add(name, value);
        using var response = await host.SendAsync(request);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync());
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        Direct.Dispose();
        await _process.DisposeAsync();
    }

    private async Task<bool> AnswersAsync()
    {
        try
        {
            using var response = await Direct.GetAsync("/");
            return true;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    /// <summary>Puts on a request what the host's proxy does.</summary>
    private sealed class Proxy() : DelegatingHandler(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false })
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            foreach (var (name, value) in new[] { ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Host", "skiff.azurewebsites.net"), ("X-Forwarded-Proto", "https"), ("x-ms-invocation-id", $"{Guid.NewGuid()}") })
            {
                request.Headers.Remove(name);
                request.Headers.Add(name, value);
            }
            return base.SendAsync(request, cancellationToken);
        }
    }
}
