using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Aws;
using Skiff.Embedded;
using Skiff.Feedback;
using Skiff.Monitoring;
using Skiff.Personalization;
using Skiff.Support;

namespace Skiff.Stores;

/// <summary>The learner on stores that differ in how much a commit may carry.</summary>
public sealed class FeedbackLearnerTests(DynamoDatabase database)
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task MoreFeedbackThanACommitHolds_MakesTheSameHead()
    {
        await using var server = await SkiffServer.StartAsync(samples: true);
        using var folder = new ScratchFolder();
        using var sqlite = new SqliteStateStore(folder["state.db"]);
        using var client = database.Connect(DynamoOptions.Default);
        var dynamo = database.Store(client);
        var user = new UserKey("default", "digits", Guid.NewGuid().ToString("N"));
        var head = (await server.Server.Engine.Apps.GetAsync(user.Tenant, user.App, Cancellation)).Head!;
        var messages = Messages(user, head.Dimensions, count: 2 * dynamo.MostPerCommit + 5);

        await LearnAsync(sqlite, messages);
        var statistics = await LearnAsync(dynamo, [.. messages, .. messages[..3]]);

        var expected = (await sqlite.ReadHeadAsync(user, Cancellation))!;
        var learnt = (await dynamo.ReadHeadAsync(user, Cancellation))!;
        Assert.Equal(("1", "3"), (expected.Weights.Tag, learnt.Weights.Tag)); // one commit, three commits
        Assert.Equal(expected.Weights.Weights, learnt.Weights.Weights);
        Assert.Equal(expected.Covariance, learnt.Covariance);
        Assert.Equal((messages.Length, 3), (statistics.Learnt, statistics.Duplicates));

        async Task<FeedbackCounts> LearnAsync(IStateStore store, FeedbackMessage[] feedback)
        {
            var counts = new FeedbackStatistics();
            await new FeedbackLearner(server.Server.Engine.Apps, store, counts, NullLogger<FeedbackLearner>.Instance).LearnAsync(feedback, Cancellation);
            return counts.Of(user.Tenant);
        }
    }

    private static FeedbackMessage[] Messages(UserKey user, int dimensions, int count)
    {
        var random = new Random(1);
        return [.. Enumerable.Range(0, count).Select(i =>
        {
            float[] features = [.. Enumerable.Range(0, dimensions).Select(_ => (float)random.NextDouble())];
            return Some.Feedback($"{user.User}-{i}", user.User) with
            {
                Tenant = user.Tenant, App = user.App, Label = random.Next(10), Features = MemoryMarshal.AsBytes<float>(features).ToArray(),
            };
        })];
    }
}
