using System.CommandLine;
using System.Globalization;
using System.Runtime.CompilerServices;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary><c>skiff prior refresh</c>: what the next user starts from, made of what users have taught since.</summary>
internal static class PriorCommand
{
    public static void Add(RootCommand root, Option<string> data, Option<string> tenant)
    {
        var app = new Argument<string>("APP");
        var cap = new Option<double>("--cap") { Description = "The most that one user's evidence may weigh, as a part of the old prior's", HelpName = "SHARE", DefaultValueFactory = _ => 0.1 };
        var least = new Option<int>("--least") { Description = "Users without whom nothing is published: a prior made of few says much of each", HelpName = "N", DefaultValueFactory = _ => 5 };
        var dryRun = new Option<bool>("--dry-run") { Description = "Publish nothing" };
        var refresh = new Command("refresh", "Make a new version of an app's prior from its users' heads, and make it live; heads that exist keep the version they began from") { app, cap, least, dryRun };
        refresh.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            if (arguments.GetValue(cap) <= 0) throw new ArgumentException("--cap takes a number above 0");
            await using var learning = await LearningHost.OpenAsync(arguments.GetRequiredValue(data));
            try
            {
                var found = await learning.Apps.GetAsync(arguments.GetRequiredValue(tenant), arguments.GetRequiredValue(app), cancellation);
                return await RefreshAsync(learning, found, arguments.GetValue(cap), arguments.GetValue(least), arguments.GetValue(dryRun), cancellation);
            }
            catch (Exception e) when (e is RequestException or ModelFailedException)
            {
                throw new FormatException(e.Message, e);
            }
        }));
        root.Add(new Command("prior", "What new users start from") { refresh });
    }

    private static async Task<int> RefreshAsync(LearningHost learning, App app, double cap, int least, bool dryRun, CancellationToken cancellation)
    {
        if (app.Head is not { Document.Prior: { } name } head) throw new FormatException($"app '{app.Name}' has no head with a prior: there is nothing to refresh");
        if (head.Form != HeadForm.Full) throw new FormatException($"the heads of app '{app.Name}' are of the diagonal form, which doesn't tell what its evidence was: there is nothing to refresh from");
        var manifest = (await learning.Store.ManifestAsync(app.Tenant, ArtifactKind.Prior, name, head.PriorVersion, cancellation))!;
        var prior = Prior.Parse(await learning.Store.ContentAsync(app.Tenant, manifest, cancellation));
        var features = (await learning.Store.LiveAsync(app.Tenant, ArtifactKind.Model, head.Document.Features, cancellation))!.Version;

        var seen = 0;
        var (refreshed, used) = PriorRefresh.Refresh(head, prior, features, HeadsAsync(cancellation).ToBlockingEnumerable(cancellation), cap);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{used} of {seen} heads began from version {head.PriorVersion} of {name} and tell what they have learnt since; the weights move by {Moved(prior, refreshed):p1}"));
        if (used < Math.Max(1, least)) throw new FormatException($"{used} heads are too few to make a prior of (--least is {least}): nothing was published");
        if (dryRun) return 0;
        var (published, _) = await new Publisher(learning.Store, ModelLimits.Default).PushAsync(app.Tenant, refreshed.ToJson(), name, ModelStore.Live, cancellation);
        Console.WriteLine($"{name}: live moved from version {head.PriorVersion} to {published.Version}; 'skiff alias {name} {head.PriorVersion} --kind prior' moves it back");
        return 0;

        async IAsyncEnumerable<HeadState> HeadsAsync([EnumeratorCancellation] CancellationToken token)
        {
            seen = 0; // they are gone through more than once
            await foreach (var user in learning.State.ReadUsersAsync(app.Tenant, app.Name, token))
            {
                if (await learning.State.ReadHeadAsync(new UserKey(app.Tenant, app.Name, user), token) is not { } state) continue;
                seen++;
                yield return state;
            }
        }
    }

    /// <summary>‖W' − W‖ / ‖W‖.</summary>
    private static double Moved(Prior before, Prior after) => Math.Sqrt(before.Weights.Zip(after.Weights, (a, b) => Math.Pow(b - a, 2)).Sum() / before.Weights.Sum(weight => Math.Pow(weight, 2)));
}
