using Microsoft.Extensions.Logging;

namespace Skiff.Serving;

/// <summary>How every host logs: to the console, a line an event, warnings and worse.</summary>
public static class ConsoleLog
{
    public static ILoggingBuilder AddConsoleLog(this ILoggingBuilder logging) => logging
        .AddSimpleConsole(console => console.SingleLine = true)
        .SetMinimumLevel(LogLevel.Warning)
        // While somebody may hear this category, every request gets an activity with its ids and a log scope: half of what a small one allocates. What it would say, the gateway says.
        .AddFilter("Microsoft.AspNetCore.Hosting.Diagnostics", LogLevel.None);
}
