using System.CommandLine;
using System.Net.Sockets;
using Skiff;
using Skiff.Heavy;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Store;

// A replica of the heavy tier: models in the Open Inference Protocol, for functions and servers that name it in SKIFF_HEAVY.
var urls = new Option<string?>("--urls") { Description = "Addresses to listen on, joined by semicolons (http://127.0.0.1:8090)" };
var provider = new Option<ExecutionProvider>("--provider") { Description = "What runs the models: cpu, or cuda, which is never replaced by the other", DefaultValueFactory = _ => ExecutionProvider.Cpu };
var instances = new Option<int?>("--instances") { Description = "Runs of a model that are under way at once; as many as are measured to do most, if none is said; on CUDA a session each, 2 if none is said" };
var rows = new Option<int>("--batch-rows") { Description = "Rows of a run at most; each power of two up to them is run once before a model is used", DefaultValueFactory = _ => 64 };
HeavySettings.RequireRange(instances, 1, 256);
HeavySettings.RequireRange(rows, 1, 4096);

var root = new RootCommand("A replica of Skiff's heavy tier.") { urls, provider, instances, rows };
root.SetAction(async (arguments, cancellation) =>
{
    try
    {
        var settings = HeavySettings.Read(arguments.GetValue(urls), Environment.GetEnvironmentVariables()) with
        {
            Provider = arguments.GetValue(provider), Instances = arguments.GetValue(instances), BatchRows = arguments.GetValue(rows),
        };
        if (ExecutionProviders.WhyNot(settings.Provider, AppContext.BaseDirectory) is { } why) throw new SettingException($"can't run models with {settings.Provider.ToString().ToLowerInvariant()}: {why}");
        await using var server = await HeavyServer.StartAsync(settings, cancellation);
        Console.WriteLine($"skiff-heavy {Product.Version} listens on {string.Join(", ", server.Addresses)}; {settings.Describe()}");
        await server.RunAsync(cancellation);
        return 0;
    }
    catch (Exception e) when (e is SettingException or StoreException or IOException or UnauthorizedAccessException or SocketException)
    {
        Console.Error.WriteLine($"skiff-heavy: {e.Message}");
        return 1;
    }
    catch (OperationCanceledException)
    {
        return 130;
    }
});
// SIGTERM is the server's own: it leaves in order.
return await root.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
