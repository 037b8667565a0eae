using System.CommandLine;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary><c>skiff serve</c>, which is also what plain <c>skiff</c> does.</summary>
internal static class ServeCommand
{
    public static void Add(RootCommand root, Option<string> data)
    {
        var urls = new Option<string?>("--urls") { Description = "Addresses to listen on, joined by semicolons (http://127.0.0.1:8080)" };
        var noSamples = new Option<bool>("--no-samples") { Description = "Leave an empty store empty" };
        var serve = new Command("serve", "Serve everything in one process (the default)") { urls, noSamples };
        root.Add(urls);
        root.Add(noSamples);
        root.Add(serve);
        foreach (var command in new Command[] { root, serve })
        {
            command.SetAction((arguments, cancellation) =>
                Failures.ReportAsync(() => RunAsync(arguments.GetRequiredValue(data), arguments.GetValue(urls), arguments.GetValue(noSamples) ? null : Samples.Folder, cancellation)));
        }
    }

    private static async Task<int> RunAsync(string data, string? urls, string? samples, CancellationToken cancellation)
    {
        var settings = Settings.Read(data, urls, Environment.GetEnvironmentVariables());
        await using var server = await Server.StartAsync(settings, samples, cancellation);
        await PrintAsync(server, settings, cancellation);
        using var said = server.Stopping.Register(() => Console.WriteLine("stopping: answering what has begun"));
        await server.WaitForShutdownAsync(cancellation);
        return 0;
    }

    private static async Task PrintAsync(Server server, Settings settings, CancellationToken cancellation)
    {
        var address = server.Addresses[0];
        Console.WriteLine($"skiff {Product.Version} listens on {string.Join(", ", server.Addresses)}; data in {settings.Data}");
        foreach (var (what, place) in new[] { ("models", settings.ModelStore), ("state", settings.State), ("feedback", settings.Queue) })
        {
            if (place.Scheme is not ("file" or "sqlite")) Console.WriteLine($"{what} in {place}");
        }
        foreach (var tenant in settings.Keys.Tenants)
        {
            foreach (var name in await server.Engine.Apps.NamesAsync(tenant, cancellation))
            {
                Console.WriteLine();
                try
                {
                    var app = await server.Engine.Apps.GetAsync(tenant, name, cancellation);
                    Console.WriteLine($"app {name} (version {app.Version}{(tenant == Serving.ApiKeys.DefaultTenant ? "" : $", tenant {tenant}")})");
                    if (Samples.Curl(app, address, !settings.Keys.IsEmpty) is { } curl) Console.WriteLine($"  {curl}");
                }
                catch (Exception e) when (e is RequestException or StoreException)
                {
                    Console.WriteLine($"app {name} is not ready: {e.Message}");
                }
            }
        }
        Console.WriteLine();
        Console.WriteLine("Ctrl-C stops.");
    }
}
