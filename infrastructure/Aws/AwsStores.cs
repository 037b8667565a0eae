using Skiff.Caching;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Serving;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>The stores of a function, from its settings. A function has no disk to keep anything on, so what is embedded elsewhere is refused.</summary>
public static class AwsStores
{
    /// <summary>What only functions have: megabytes of the local disk for models.</summary>
    public const string CacheSetting = "SKIFF_MODEL_CACHE_MB";

    /// <exception cref="SettingException">The variable is missing or has another form.</exception>
    public static IObjectStore Objects(SettingsReader settings)
    {
        var (scheme, address) = settings.Address("SKIFF_MODEL_STORE", "s3://BUCKET/PREFIX", "file:///PATH");
        if (scheme == "file") return new FileObjectStore(settings.Path("SKIFF_MODEL_STORE", "file", ""));
        var cache = Path.Combine(Path.GetTempPath(), "skiff-models");
        return new CachedObjectStore(Take("SKIFF_MODEL_STORE", () => new S3ObjectStore(address)), cache, settings.Number(CacheSetting, 256, 0, 10_240) << 20);
    }

    /// <exception cref="SettingException">The variable is missing or has another form.</exception>
    public static IStateStore State(SettingsReader settings, TimeProvider time)
    {
        var (_, address) = settings.Address("SKIFF_STATE", "dynamodb://TABLE");
        return new DynamoStateStore(DynamoClient.Connect(DynamoOptions.Default), address["dynamodb://".Length..], DynamoOptions.Default, time, new Random());
    }

    /// <exception cref="SettingException">The variable is missing or has another form.</exception>
    public static IFeedbackQueue Queue(SettingsReader settings)
    {
        var (_, address) = settings.Address("SKIFF_QUEUE", "sqs://ACCOUNT/NAME.fifo");
        return Take("SKIFF_QUEUE", () => new SqsFeedbackQueue(address));
    }

    private static T Take<T>(string name, Func<T> make)
    {
        try
        {
            return make();
        }
        catch (FormatException e)
        {
            throw new SettingException($"{name}: {e.Message}");
        }
    }
}
