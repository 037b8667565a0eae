using System.CommandLine;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Skiff.Benchmarks.Baseline;

/// <summary>The servers that Skiff is compared with, as a mode of this program, so that each is measured in a process of its own.</summary>
internal static class ChildServer
{
    public const string ReadyPath = "/ready";

    public static string[] Arguments(string name, int port, string modelFile) => ["child", name, "--port", $"{port}", "--model", modelFile];

    public static Command Command()
    {
        var name = new Argument<string>("name").AcceptOnlyFromAmong(Servers.Constant, Servers.Baseline);
        var port = new Option<int>("--port") { Required = true };
        var model = new Option<string>("--model") { Required = true };
        var command = new Command("child", "Runs one of the servers that Skiff is compared with.") { name, port, model };
        command.Hidden = true;
        command.SetAction(parsed => Run(parsed.GetValue(name)!, parsed.GetValue(port), parsed.GetValue(model)!));
        return command;
    }

    private static void Run(string name, int port, string modelFile)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, port));
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        if (name == Servers.Baseline) BaselineEndpoint.AddJson(builder.Services);

        var app = builder.Build();
        app.MapGet(ReadyPath, (HttpContext _) => Task.CompletedTask);
        app.MapGet("/metrics", (HttpContext context) => context.Response.WriteAsync($"dotnet_gc_allocated_bytes_total {GC.GetTotalAllocatedBytes(precise: false)}\n"));
        if (name == Servers.Baseline) BaselineEndpoint.Map(app, Samples.ModelName, File.ReadAllBytes(modelFile));
        else ConstantEndpoint.Map(app);
        app.Run();
    }
}
