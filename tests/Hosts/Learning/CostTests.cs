using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Hosts.Lambda;
using Skiff.Personalization;
using Skiff.Planning;
using Skiff.Serving;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>What a store says that it costs stands in answers and metrics.</summary>
public sealed class CostTests
{
    private const double ReadUsd = 0.25, CommitUsd = 3;

    [Fact]
    public async Task StateThatIsPaid_CountsInAPersonalAnswerAndInTheMetrics()
    {
        var (key, entry) = ApiKeys.Create(ApiKeys.DefaultTenant, Scopes.All);
        using var folder = new ScratchFolder();
        await using (await SkiffServer.StartAsync(folder.Path, samples: true))
        {
            // The samples are published; the engine below has the store to itself.
        }
        using var embedded = new SqliteStateStore(folder["paid.db"]);
        await using var queue = new SqliteFeedbackQueue(folder["paid-queue.db"]);
        var engine = new Engine(new EngineParts
        {
            Objects = new FileObjectStore(folder["models"]),
            State = new PaidState(embedded),
            Queue = queue,
            Keys = ApiKeys.Parse(entry),
            Secrets = ["a secret of this test"],
            Logging = NullLoggerFactory.Instance,
        });
        await using var host = await LambdaHost.StartAsync(engine.Map);
        using var client = LambdaFrontEnd.ClientOf(host.Api);
        client.DefaultRequestHeaders.Authorization = new("Bearer", key);

        var personal = (await HttpAnswer.PostAsync(client, "/apps/films/predict", """{"user":"ann","input":[42]}""")).AssertOk().Json.GetProperty("cost_usd").GetDouble();
        var nobodys = (await HttpAnswer.PostAsync(client, "/apps/films/predict", """{"input":[42]}""")).AssertOk().Json.GetProperty("cost_usd").GetDouble();
        var again = (await HttpAnswer.PostAsync(client, "/apps/films/predict", """{"user":"ann","input":[42]}""")).AssertOk().Json.GetProperty("cost_usd").GetDouble();
        var rows = (await HttpAnswer.PostAsync(client, "/apps/films/predict", """{"user":"ben","inputs":[[42],[43]]}""")).AssertOk().Json.GetProperty("predictions")[0].GetProperty("cost_usd").GetDouble();
        await engine.Learner.LearnAsync([new FeedbackMessage { Tenant = "default", App = "films", User = "ann", FeedbackId = "f1", Value = 8, At = DateTimeOffset.UnixEpoch }], TestContext.Current.CancellationToken);
        var metrics = (await HttpAnswer.GetAsync(client, "/metrics")).AssertOk().Text;

        Assert.InRange(personal, ReadUsd + Prices.FunctionRequest, ReadUsd + 0.01);
        Assert.InRange(nobodys, Prices.FunctionRequest, 0.01);
        Assert.InRange(again, Prices.FunctionRequest, 0.01); // what is kept is not paid twice
        Assert.InRange(rows, ReadUsd / 2, ReadUsd / 2 + 0.01);
        Assert.Contains($"\nskiff_state_cost_usd_total {2 * ReadUsd + CommitUsd}\n", metrics, StringComparison.Ordinal);
    }

    /// <summary>The embedded store with a bill.</summary>
    private sealed class PaidState(IStateStore store) : IStateStore
    {
        public int MostPerCommit => store.MostPerCommit;

        public double SpentUsd { get; private set; }

        public async ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, CancellationToken cancellation)
        {
            SpentUsd += ReadUsd;
            return await store.ReadWeightsAsync(user, cancellation) with { CostUsd = ReadUsd };
        }

        public async ValueTask<WeightsRead> ReadWeightsAsync(UserKey user, string knownTag, CancellationToken cancellation)
        {
            SpentUsd += ReadUsd;
            return await store.ReadWeightsAsync(user, knownTag, cancellation) with { CostUsd = ReadUsd };
        }

        public ValueTask<UserRead> ReadUserAsync(UserKey user, CancellationToken cancellation) => store.ReadUserAsync(user, cancellation);

        public IAsyncEnumerable<KeptFeedback> ReadFeedbackAsync(FeedbackQuery query, CancellationToken cancellation) => store.ReadFeedbackAsync(query, cancellation);

        public IAsyncEnumerable<string> ReadUsersAsync(string tenant, string app, CancellationToken cancellation) => store.ReadUsersAsync(tenant, app, cancellation);

        public ValueTask EraseAsync(UserKey user, DateTimeOffset at, CancellationToken cancellation) => store.EraseAsync(user, at, cancellation);

        public ValueTask<IReadOnlyDictionary<string, DateTimeOffset>> FindErasedAsync(string tenant, string app, IReadOnlyCollection<string> users, CancellationToken cancellation) =>
            store.FindErasedAsync(tenant, app, users, cancellation);

        public ValueTask PurgeAsync(string tenant, string app, DateTimeOffset before, CancellationToken cancellation) => store.PurgeAsync(tenant, app, before, cancellation);

        public ValueTask<IReadOnlyDictionary<string, byte[]>> LogKeysAsync(string tenant, string app, IReadOnlyCollection<string>? users, bool create, CancellationToken cancellation) =>
            store.LogKeysAsync(tenant, app, users, create, cancellation);

        public ValueTask<IReadOnlySet<string>> FindAcceptedAsync(string tenant, string app, IReadOnlyCollection<string> feedbackIds, CancellationToken cancellation) =>
            store.FindAcceptedAsync(tenant, app, feedbackIds, cancellation);

        public ValueTask<IReadOnlyList<bool>> CommitAsync(IReadOnlyList<UserCommit> commits, CancellationToken cancellation)
        {
            SpentUsd += CommitUsd;
            return store.CommitAsync(commits, cancellation);
        }

        public ValueTask FlushAsync(CancellationToken cancellation) => store.FlushAsync(cancellation);
    }
}
