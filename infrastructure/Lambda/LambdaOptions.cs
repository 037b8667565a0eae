using System.Collections;
using System.Globalization;

namespace Skiff.Lambda;

/// <summary>What the environment says about the host, checked once at the start.</summary>
public sealed record LambdaOptions
{
    /// <summary>Host and port of the Runtime API.</summary>
    public required string RuntimeApi { get; init; }

    /// <summary>How many invocations may run at once; more than one only on managed instances.</summary>
    public int Concurrency { get; init; } = 1;

    /// <summary>Whether events of a function URL are answered piece by piece; the URL's invoke mode must then be RESPONSE_STREAM. HTTP APIs always get whole answers.</summary>
    public bool ResponseStreaming { get; init; }

    /// <summary>Whether this instance is started ahead of its first event, for which it then waits frozen.</summary>
    public bool IsProvisioned { get; init; }

    /// <summary>The largest body, decoded. An event has at most 6 MB.</summary>
    public int MaxBodyBytes { get; init; } = 6 << 20;

    /// <summary>How long before Lambda's deadline an invocation is cancelled: the time that reporting it takes.</summary>
    public TimeSpan DeadlineMargin { get; init; } = TimeSpan.FromMilliseconds(100);

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>
    /// Reads <c>AWS_LAMBDA_RUNTIME_API</c>, <c>AWS_LAMBDA_MAX_CONCURRENCY</c> and <c>AWS_LAMBDA_INITIALIZATION_TYPE</c>, which Lambda sets, and <c>SKIFF_RESPONSE_STREAMING</c> (<c>true</c> or <c>false</c>)
    /// and <c>SKIFF_MAX_BODY_BYTES</c>.
    /// </summary>
    /// <returns>Null where the process doesn't run on Lambda.</returns>
    /// <exception cref="FormatException">A variable has a value that it doesn't take.</exception>
    public static LambdaOptions? Read(IDictionary environment)
    {
        if (Value("AWS_LAMBDA_RUNTIME_API") is not { } api) return null;
        var options = new LambdaOptions { RuntimeApi = api };
        return options with
        {
            Concurrency = Number("AWS_LAMBDA_MAX_CONCURRENCY", options.Concurrency, 1, 1000),
            IsProvisioned = Value("AWS_LAMBDA_INITIALIZATION_TYPE") == "provisioned-concurrency",
            MaxBodyBytes = Number("SKIFF_MAX_BODY_BYTES", options.MaxBodyBytes, 1024, 1 << 30),
            ResponseStreaming = Value("SKIFF_RESPONSE_STREAMING") switch
            {
                null or "false" => false,
                "true" => true,
                var other => throw new FormatException($"SKIFF_RESPONSE_STREAMING is '{other}': it takes true or false"),
            },
        };

        string? Value(string name) => environment[name] as string is { Length: > 0 } value ? value : null;

        int Number(string name, int otherwise, int least, int most)
        {
            if (Value(name) is not { } value) return otherwise;
            return int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
                ? number
                : throw new FormatException($"{name} is '{value}': it takes a whole number from {least} to {most}");
        }
    }
}
