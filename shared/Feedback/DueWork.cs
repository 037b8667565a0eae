using Microsoft.Extensions.Logging;
using Skiff.Apps;
using Skiff.Feedback.Log;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Store;

namespace Skiff.Feedback;

/// <summary>What learning has to do though nobody asks: events that nobody rewarded, decisions on which nobody said anything, days that belong into the log. A process that lives does it by itself, a function when it is woken.</summary>
public sealed class DueWork(AppHost apps, IStateStore state, IFeedbackQueue queue, FeedbackLog feedbackLog, TimeProvider time, ILogger<DueWork> log)
{
    /// <summary>Apps: where there are many, what takes time is the store's answers.</summary>
    private const int AtOnce = 8;

    /// <summary>Whether anything of an app ever is due, other than its log.</summary>
    public static bool Waits(App app) => app.Document.Rank is not null || app.Document.Feedback?.Implicit is not null;

    /// <summary>Has the queue told of what is due of an app.</summary>
    /// <exception cref="StoreException">It can't be: nothing is lost, try again.</exception>
    public async Task PassAsync(App app, CancellationToken cancellation)
    {
        if (app.Document.Rank is null) await ImplicitFeedback.PassAsync(app.Tenant, app.Name, state, queue, time, cancellation);
        else if (state is IEventStore events) await Ranker.PassAsync(app, events, queue, time, cancellation);
    }

    /// <summary>And of several; what one can't be told waits for the next look.</summary>
    public async Task PassAsync(IEnumerable<App> several, CancellationToken cancellation)
    {
        foreach (var app in several)
        {
            await TryAsync("what is due", app.Tenant, app.Name, async () =>
            {
                await PassAsync(app, cancellation);
                return app;
            }, cancellation);
        }
    }

    /// <summary>And of all apps, which are known from then on. Of those too that have given up their rule: decisions were made under it.</summary>
    public Task PassAllAsync(IEnumerable<string> tenants, CancellationToken cancellation) => ForEachAsync(tenants, "what is due", async (tenant, name) =>
    {
        try
        {
            await PassAsync(await apps.GetAsync(tenant, name, cancellation), cancellation);
        }
        catch (RequestException e)
        {
            log.LogError("what is due of app {App} of tenant {Tenant} waits: {Error}", name, tenant, e.Message);
        }
    }, cancellation);

    /// <summary>Compacts what was accepted on days that are over into the log. Several may do so at once: a segment is written by one of them.</summary>
    public Task CompactAllAsync(IEnumerable<string> tenants, CancellationToken cancellation) => ForEachAsync(tenants, "feedback for the log", async (tenant, name) =>
    {
        foreach (var day in await feedbackLog.CompactAsync(tenant, name, cancellation)) log.LogInformation("feedback of app {App} of tenant {Tenant} on {Day} is in the log", name, tenant, day);
    }, cancellation);

    /// <summary>What one app's trouble keeps from being done is done at the next look; the others' is done now.</summary>
    private async Task ForEachAsync(IEnumerable<string> tenants, string what, Func<string, string, Task> act, CancellationToken cancellation)
    {
        foreach (var tenant in tenants)
        {
            var names = await TryAsync(what, tenant, "", async () => await apps.NamesAsync(tenant, cancellation), cancellation) ?? [];
            await Parallel.ForEachAsync(names, new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = cancellation }, async (name, _) => await TryAsync(what, tenant, name, async () =>
            {
                await act(tenant, name);
                return name;
            }, cancellation));
        }
    }

    /// <summary>Whatever it is that fails, a day of the log that is none or a row that can't be read: one app's trouble must neither end the loop that looks nor keep the others from what is due.</summary>
    private async Task<T?> TryAsync<T>(string what, string tenant, string name, Func<Task<T>> action, CancellationToken cancellation)
        where T : class
    {
        try
        {
            return await action();
        }
        catch (Exception e) when (e is not OperationCanceledException || !cancellation.IsCancellationRequested)
        {
            log.LogError(e is StoreException ? null : e, "{What} of app {App} of tenant {Tenant} waits: {Error}", what, name, tenant, e.Message);
            return null;
        }
    }
}
