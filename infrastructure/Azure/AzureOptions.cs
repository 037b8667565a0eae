using System.Collections;
using System.Globalization;

namespace Skiff.Azure;

/// <summary>What the environment says about the host, checked once at the start.</summary>
public sealed record AzureOptions
{
    public const string PortSetting = "FUNCTIONS_CUSTOMHANDLER_PORT";

    /// <summary>Where the Functions host expects its custom handler, on 127.0.0.1.</summary>
    public required int Port { get; init; }

    /// <summary>Reads <c>FUNCTIONS_CUSTOMHANDLER_PORT</c>, which the Functions host sets.</summary>
    /// <returns>Null where the process doesn't run under a Functions host.</returns>
    /// <exception cref="FormatException">It has a value that it doesn't take.</exception>
    public static AzureOptions? Read(IDictionary environment)
    {
        if (environment[PortSetting] is not string { Length: > 0 } value) return null;
        return int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port is >= 1 and <= 65535
            ? new AzureOptions { Port = port }
            : throw new FormatException($"{PortSetting} is '{value}': it takes a port, a whole number from 1 to 65535");
    }
}
