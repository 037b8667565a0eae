using System.CommandLine;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Skiff.Benchmarks.Bare;

/// <summary>As much of S3 as a download needs, and fast: whatever the key, a range of one file, from memory. A process of its own, so that its work is not counted as ours.</summary>
internal static class RangeServer
{
    private const string Name = "range-server";
    private const string ReadyPath = "/ready";

    public static Command Command()
    {
        var port = new Option<int>("--port") { Required = true };
        var file = new Option<string>("--file") { Required = true };
        var command = new Command(Name, "Answers ranged requests out of one file.") { port, file };
        command.Hidden = true;
        command.SetAction(parsed => Run(parsed.GetValue(port), File.ReadAllBytes(parsed.GetValue(file)!)));
        return command;
    }

    public static ServerProcess Start(string file) =>
        ServerProcess.Start(Name, Cores.Shared, typeof(RangeServer).Assembly.Location, port => [Name, "--port", $"{port}", "--file", file], ReadyPath);

    private static void Run(int port, byte[] content)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, port));
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        var app = builder.Build();
        app.MapGet(ReadyPath, (HttpContext _) => Task.CompletedTask);
        app.MapGet("/{**key}", async (HttpContext context) =>
        {
            var range = RangeHeaderValue.Parse(context.Request.Headers.Range.ToString()).Ranges.Single();
            var first = (int)range.From!.Value;
            var last = (int)Math.Min(range.To!.Value, content.Length - 1);
            var response = context.Response;
            response.StatusCode = StatusCodes.Status206PartialContent;
            response.ContentType = "application/octet-stream";
            response.ContentLength = last - first + 1;
            response.Headers.ContentRange = string.Create(CultureInfo.InvariantCulture, $"bytes {first}-{last}/{content.Length}");
            response.Headers.ETag = "\"the-only-one\"";
            response.Headers["x-amz-request-id"] = context.TraceIdentifier;
            await response.Body.WriteAsync(content.AsMemory(first, last - first + 1), context.RequestAborted);
        });
        app.Run();
    }
}
