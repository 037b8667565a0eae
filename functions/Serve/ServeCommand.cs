using System.CommandLine;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary><c>skiff serve</c>, which is also what plain <c>skiff</c> does.</summary>
internal static class ServeCommand
{
    /// <summary>How <c>--replicas</c> starts this program once more; not for people.</summary>
    public const string ReplicaOption = "--as-replica";

    private const int MostReplicas = 64;

    public static void Add(RootCommand root, Option<string> data)
    {
        var urls = new Option<string?>("--urls") { Description = "Addresses to listen on, joined by semicolons (http://127.0.0.1:8080)" };
        var noSamples = new Option<bool>("--no-samples") { Description = "Leave an empty store empty" };
        var replicas = new Option<int>("--replicas") { Description = "Processes that run the models behind this one; 0: this one runs them", HelpName = "N" };
        replicas.Validators.Add(given =>
        {
            if (given.Tokens is [{ Value: var text }] && !(int.TryParse(text, out var count) && count is >= 0 and <= MostReplicas)) given.AddError($"--replicas is '{text}': it takes a number from 0 to {MostReplicas}");
        });
        var asReplica = new Option<bool>(ReplicaOption) { Hidden = true };
        var serve = new Command("serve", "Serve everything in one process, or in several on this machine (the default)") { urls, noSamples, replicas, asReplica };
        root.Add(urls);
        root.Add(noSamples);
        root.Add(replicas);
        root.Add(serve);
        foreach (var command in new Command[] { root, serve })
        {
            command.SetAction((arguments, cancellation) =>
                Failures.ReportAsync(() => RunAsync(
                    Settings.Read(arguments.GetRequiredValue(data), arguments.GetValue(urls), Environment.GetEnvironmentVariables()) with { Replicas = arguments.GetValue(replicas), IsReplica = arguments.GetValue(asReplica) },
                    arguments.GetValue(noSamples) ? null : Samples.Folder, cancellation)));
        }
    }

    private static async Task<int> RunAsync(Settings settings, string? samples, CancellationToken cancellation)
    {
        await using var server = await Server.StartAsync(settings, samples, cancellation);
        if (settings.IsReplica)
        {
            Console.WriteLine($"skiff {Product.Version} listens on {server.Addresses[0]}");
            await server.WaitForShutdownAsync(cancellation);
            return 0;
        }
        await PrintAsync(server, settings, cancellation);
        using var said = server.Stopping.Register(() => Console.WriteLine("stopping: answering what has begun"));
        await server.WaitForShutdownAsync(cancellation);
        return 0;
    }

    private static async Task PrintAsync(Server server, Settings settings, CancellationToken cancellation)
    {
        var address = server.Addresses[0];
        Console.WriteLine($"skiff {Product.Version} listens on {string.Join(", ", server.Addresses)}; data in {settings.Data}");
        if (server.Replicas.Count > 0) Console.WriteLine($"models run in {server.Replicas.Count} replicas: {string.Join(", ", server.Replicas.Select(replica => replica.Authority))}");
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
