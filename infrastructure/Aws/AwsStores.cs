using Skiff.Caching;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Serving;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>
/// The stores on AWS, from settings. A function takes no others, apart from models in a folder: it has no disk to keep anything on. A host that lives long takes them
/// beside those that it embeds.
/// </summary>
public static class AwsStores
{
    /// <summary>Megabytes of the local disk for models from a bucket.</summary>
    public const string CacheSetting = "SKIFF_MODEL_CACHE_MB";

    public const string StateForm = "dynamodb://TABLE";
    public const string QueueForm = "sqs://ACCOUNT/NAME.fifo";
    private static readonly TimeSpan BucketAliasInterval = TimeSpan.FromSeconds(10);
    private const string BucketForm = "s3://BUCKET/PREFIX";
    private const string FolderForm = "file:///PATH";

    /// <param name="otherwise">What a missing variable means; null where it is required.</param>
    /// <exception cref="SettingException">The variable is missing or has another form.</exception>
    public static StoreAddress ObjectsAddress(SettingsReader settings, StoreAddress? otherwise = null) => settings.Address("SKIFF_MODEL_STORE", otherwise, BucketForm, FolderForm);

    /// <summary>A function's models.</summary>
    /// <exception cref="SettingException">A variable is missing or has another form.</exception>
    public static IObjectStore Objects(SettingsReader settings) =>
        Objects(ObjectsAddress(settings), Path.Combine(Path.GetTempPath(), "skiff-models"), settings.Number(CacheSetting, 256, 0, 10_240) << 20);

    /// <param name="cache">Folder that keeps what was read from a bucket; needless for models that lie in a folder themselves.</param>
    /// <exception cref="SettingException">It is no bucket.</exception>
    public static IObjectStore Objects(StoreAddress address, string cache, long cacheBytes) =>
        address.Scheme == "file" ? new FileObjectStore(address.Place) : new CachedObjectStore(address.Open(location => new S3ObjectStore(location)), cache, cacheBytes);

    /// <summary>How a function keeps its models.</summary>
    /// <exception cref="SettingException">A variable is missing or has another form.</exception>
    public static ModelHostOptions ModelOptions(SettingsReader settings) => ModelOptions(ObjectsAddress(settings), settings.ModelMemoryBytes);

    /// <summary>Every look at an alias in a bucket is paid: a dozen of them each second would be some ten dollars a month.</summary>
    public static ModelHostOptions ModelOptions(StoreAddress address, long memoryBytes)
    {
        var options = new ModelHostOptions { MemoryBytes = memoryBytes };
        return address.Scheme == "file" ? options : options with { AliasInterval = BucketAliasInterval };
    }

    /// <summary>A function's state.</summary>
    /// <exception cref="SettingException">The variable is missing or has another form.</exception>
    public static IStateStore State(SettingsReader settings, TimeProvider time) => State(settings.Address("SKIFF_STATE", null, StateForm), time);

    public static IStateStore State(StoreAddress address, TimeProvider time) =>
        new DynamoStateStore(DynamoClient.Connect(DynamoOptions.Default), address.Place, DynamoOptions.Default, time, new Random());

    /// <summary>A function's queue.</summary>
    /// <exception cref="SettingException">The variable is missing or has another form.</exception>
    public static IFeedbackQueue Queue(SettingsReader settings) => Queue(settings.Address("SKIFF_QUEUE", null, QueueForm));

    /// <exception cref="SettingException">It is no queue.</exception>
    public static IFeedbackQueue Queue(StoreAddress address) => address.Open(location => new SqsFeedbackQueue(location));
}
