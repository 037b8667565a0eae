using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;

namespace Skiff.Support;

/// <summary>Models and apps in a store of their own, run in this process without a server.</summary>
public sealed class LocalApps : IDisposable
{
    private readonly ScratchFolder _folder = new();

    /// <param name="around">What stands before the files, such as something that holds them up.</param>
    public LocalApps(Func<IObjectStore, IObjectStore>? around = null, TimeProvider? time = null)
    {
        Time = time ?? TimeProvider.System;
        IObjectStore objects = new FileObjectStore(_folder["models"]);
        Store = new ModelStore(objects, Time);
        Behind = around is null ? Store : new ModelStore(around(objects), Time);
        Models = new ModelHost(Behind, new ModelHostOptions { AliasInterval = TimeSpan.FromDays(1), RetryFailedAfter = TimeSpan.Zero }, Time, NullLogger<ModelHost>.Instance);
    }

    public TimeProvider Time { get; }

    /// <summary>For publishing: the files as they are.</summary>
    public ModelStore Store { get; }

    public ModelHost Models { get; }

    private ModelStore Behind { get; }

    public Task PushAsync(string name, byte[] content, string tenant = "default") => new Publisher(Store, ModelLimits.Default).PushAsync(tenant, content, name, ModelStore.Live, CancellationToken.None);

    public async Task<App> PushAppAsync(string json, string tenant = "default")
    {
        var (manifest, _) = await new Publisher(Store, ModelLimits.Default).PushAppAsync(tenant, Encoding.UTF8.GetBytes(json), CancellationToken.None);
        return await App.LoadAsync(tenant, manifest, Store, Models, Time, CancellationToken.None);
    }

    /// <summary>Runs of a model's versions, one after the other.</summary>
    public long Executions(string model, string tenant = "default") =>
        Models.Statistics().Where(entry => entry.Tenant == tenant && entry.Manifest.Name == model).Sum(entry => (long)entry.Statistics.Executions);

    public void Dispose()
    {
        Models.UnloadAll();
        _folder.Dispose();
    }
}
