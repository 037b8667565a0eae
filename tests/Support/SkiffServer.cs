using System.Net;
using System.Text;
using System.Text.Json;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Serve;
using Skiff.Store;

namespace Skiff.Support;

/// <summary>A real server in this process: Kestrel on a free loopback port, embedded stores in a folder of its own, a client that talks to it over a socket.</summary>
public sealed class SkiffServer : IAsyncDisposable
{
    private readonly bool _ownsData;

    private SkiffServer(Server server, string data, bool ownsData)
    {
        Server = server;
        Data = data;
        _ownsData = ownsData;
        Client = new HttpClient { BaseAddress = new Uri(server.Addresses[0]), Timeout = TimeSpan.FromSeconds(60) };
    }

    public Server Server { get; }

    public HttpClient Client { get; }

    public string Data { get; }

    /// <param name="data">An existing data folder; null for a new one that is deleted at the end.</param>
    /// <param name="samples">Whether the sample apps are published.</param>
    /// <param name="environment">Settings by their environment variables.</param>
    public static async Task<SkiffServer> StartAsync(string? data = null, bool samples = false, params (string Name, string Value)[] environment)
    {
        var folder = data ?? Directory.CreateTempSubdirectory("skiff-").FullName;
        var settings = Settings.Read(folder, "http://127.0.0.1:0", environment.ToDictionary(pair => pair.Name, pair => pair.Value));
        return new SkiffServer(await Server.StartAsync(settings, samples ? Patient.Samples : null, CancellationToken.None), folder, data is null);
    }

    /// <summary>Publishes as <c>skiff push</c> does.</summary>
    public async Task<Manifest> PushAsync(string name, byte[] content, string? alias = "live", string tenant = "default") =>
        (await Publisher().PushAsync(tenant, content, name, alias, CancellationToken.None)).Manifest;

    public async Task<Manifest> PushAppAsync(string json, string tenant = "default") =>
        (await Publisher().PushAppAsync(tenant, Encoding.UTF8.GetBytes(Patient.AppWithout(json)), CancellationToken.None)).Manifest;

    /// <summary>Posts JSON; the answer's status and JSON (default where the body is empty).</summary>
    public async Task<(HttpStatusCode Status, JsonElement Body)> PostAsync(string path, string json, string? key = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(json, Encoding.UTF8, "application/json") };
        if (key is not null) request.Headers.Authorization = new("Bearer", key);
        return await SendAsync(request);
    }

    public async Task<(HttpStatusCode Status, JsonElement Body)> GetAsync(string path, string? key = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (key is not null) request.Headers.Authorization = new("Bearer", key);
        return await SendAsync(request);
    }

    public async Task<(HttpStatusCode Status, JsonElement Body)> SendAsync(HttpRequestMessage request)
    {
        using var response = await Client.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        return (response.StatusCode, text.Length == 0 ? default : JsonDocument.Parse(text).RootElement);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Server.DisposeAsync();
        if (_ownsData) Directory.Delete(Data, recursive: true);
    }

    private Publisher Publisher() => new(Server.Engine.Store, ModelLimits.Default);
}
