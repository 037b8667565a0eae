using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>What commands on the state need, beside a running server or without one: the stores and the learner.</summary>
internal sealed class LearningHost : IAsyncDisposable
{
    private readonly Stores _stores;

    private LearningHost(Settings settings, Stores stores)
    {
        _stores = stores;
        var time = TimeProvider.System;
        var options = AwsStores.ModelOptions(settings.ModelStore, settings.ModelMemoryBytes);
        Store = new ModelStore(stores.Objects, time);
        Models = new ModelHost(Store, options, time, NullLogger<ModelHost>.Instance);
        Apps = new AppHost(Store, Models, options.AliasInterval, time, NullLogger<AppHost>.Instance);
        Learner = new FeedbackLearner(Apps, State, new FeedbackStatistics(), NullLogger<FeedbackLearner>.Instance);
    }

    public IObjectStore Objects => _stores.Objects;
    public IStateStore State => _stores.State;
    public ModelStore Store { get; }
    public ModelHost Models { get; }
    public AppHost Apps { get; }
    public FeedbackLearner Learner { get; }

    /// <exception cref="StoreException">A store can't be opened.</exception>
    public static async Task<LearningHost> OpenAsync(string data)
    {
        var settings = Settings.Read(data, null, Environment.GetEnvironmentVariables(), listens: false);
        return new LearningHost(settings, await Stores.OpenAsync(settings));
    }

    public ValueTask DisposeAsync()
    {
        Models.UnloadAll();
        return _stores.DisposeAsync();
    }
}
