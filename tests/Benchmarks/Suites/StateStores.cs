using System.Globalization;
using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Skiff.Aws;
using Skiff.Benchmarks.Bare;
using Skiff.Personalization;

namespace Skiff.Benchmarks.Suites;

/// <summary>The DynamoDB store beside the calls that it makes, written by hand.</summary>
internal static class StateStores
{
    private const string Bare = "bare SDK calls", Ours = "DynamoStateStore";

    public static async Task MeasureAsync(Report report, Uri service, int rounds, int operations, TimeSpan warmUp)
    {
        const string table = "skiff-benchmarks";
        var credentials = new BasicAWSCredentials("test", "test");
        using var client = DynamoClient.Connect(DynamoOptions.Default, config =>
        {
            config.ServiceURL = service.AbsoluteUri;
            config.DefaultAWSCredentials = credentials;
        });
        using var bareClient = new AmazonDynamoDBClient(credentials, new AmazonDynamoDBConfig { ServiceURL = service.AbsoluteUri });
        var store = new DynamoStateStore(client, table, DynamoOptions.Default, TimeProvider.System, new Random(1));
        await store.EnsureTableAsync(CancellationToken.None);

        var sample = new StateSample();
        var (ourUser, bareUser) = (User("ours"), User("bare"));
        var ours = new StateUser(store, ourUser, sample);
        var bare = new StateCalls(bareClient, table, bareUser, sample);

        report.Text("- state: a head of 65 features and 10 classes; an update is a look for its feedback id, a read of the whole head and a transaction of three conditional writes");
        report.Text($"- {rounds} rounds of {operations} operations one after the other, by turns; the bare calls' requests are made beforehand and their answers not looked into");
        report.Heading("State in DynamoDB (dynoxide)");
        Suite.Progress("state: updates");
        var updates = await Turns.MeasureAsync([new BareUpdates(bare), new OurUpdates(ours)], rounds, operations, warmUp);
        Suite.Progress("state: predictions");
        var predictions = await Turns.MeasureAsync([new BarePredictions(bare), new OurPredictions(ours)], rounds, operations, warmUp);
        await CheckAsync(store, ourUser, bareUser, sample);

        var medians = new[] { ("update", updates), ("prediction's read", predictions) }
            .SelectMany(kind => new[] { Bare, Ours }.Select(way => (Kind: kind.Item1, Way: way, Effort: Effort.Median(kind.Item2[way])))).ToArray();
        report.Table(2, ["operation", "by", "ms", "CPU µs", "allocated B"], medians.Select(row => new[]
        {
            row.Kind,
            row.Way,
            Report.Number(row.Effort.Milliseconds, "0.000"),
            Report.Number(row.Effort.CpuMicroseconds, "0"),
            Report.Number(row.Effort.AllocatedBytes, "0"),
        }));

        report.Heading("Ours ÷ bare");
        var pairs = medians.Chunk(2).Select(pair => (pair[0].Kind, Bare: pair[0].Effort, Ours: pair[1].Effort)).ToArray();
        report.Table(1, ["operation", "time", "CPU", "allocated"], pairs.Select(pair => new[]
        {
            pair.Kind,
            Report.Number(pair.Ours.Milliseconds / pair.Bare.Milliseconds, "0.000"),
            Report.Number(pair.Ours.CpuMicroseconds / pair.Bare.CpuMicroseconds, "0.000"),
            Report.Number(pair.Ours.AllocatedBytes / pair.Bare.AllocatedBytes, "0.000"),
        }));
        foreach (var (kind, bareCost, ourCost) in pairs)
        {
            var key = kind == "update" ? "update" : "prediction";
            report.Add($"stores/state/{key}/time", ourCost.Milliseconds / bareCost.Milliseconds, "ratio", Goal.AtMost(1.15));
            report.Add($"stores/state/{key}/cpu", ourCost.CpuMicroseconds / bareCost.CpuMicroseconds, "ratio");
            report.Add($"stores/state/{key}/allocated", ourCost.AllocatedBytes / bareCost.AllocatedBytes, "ratio");
            report.Add($"stores/state/{key}/ours", ourCost.Milliseconds, "ms");
            report.Add($"stores/state/{key}/bare", bareCost.Milliseconds, "ms");
        }
        await UnitsAsync(report, store, ours, bare);
    }

    /// <summary>What the service counted, for one operation of each.</summary>
    private static async Task UnitsAsync(Report report, DynamoStateStore store, StateUser ours, StateCalls bare)
    {
        ours.Prepare(1);
        bare.PrepareUpdates(1);
        (string Kind, string Way, CapacityUnits Units)[] units =
        [
            ("update", Bare, await UnitsOfAsync(() => bare.Consumed, bare.UpdateAsync)),
            ("update", Ours, await UnitsOfAsync(() => store.Consumed, ours.UpdateAsync)),
            ("prediction's read", Bare, await UnitsOfAsync(() => bare.Consumed, bare.PredictAsync)),
            ("prediction's read", Ours, await UnitsOfAsync(() => store.Consumed, ours.PredictAsync)),
        ];
        report.Heading("Capacity units of one operation");
        report.Table(2, ["operation", "by", "read", "write"], units.Select(row => new[] { row.Kind, row.Way, Report.Number(row.Units.Read, "0.0"), Report.Number(row.Units.Write, "0.0") }));
        foreach (var pair in units.Chunk(2))
        {
            if (pair[0].Units != pair[1].Units) throw new BenchmarkException($"the two sides don't do the same: of {pair[0].Kind} the bare calls used {pair[0].Units}, ours {pair[1].Units}.");
        }
        report.Add("stores/state/update/read-units", units[1].Units.Read, "units");
        report.Add("stores/state/update/write-units", units[1].Units.Write, "units");
        report.Add("stores/state/prediction/read-units", units[3].Units.Read, "units");
    }

    private static async Task<CapacityUnits> UnitsOfAsync(Func<CapacityUnits> consumed, Func<Task> operation)
    {
        var before = consumed();
        await operation();
        return consumed() - before;
    }

    /// <summary>Both users' heads are whole and have as many commits as were made.</summary>
    private static async Task CheckAsync(DynamoStateStore store, UserKey ours, UserKey bare, StateSample sample)
    {
        foreach (var user in new[] { ours, bare })
        {
            var head = await store.ReadHeadAsync(user, CancellationToken.None) ?? throw new BenchmarkException($"user '{user.User}' has no head.");
            var last = sample.Feedback(user.User, int.Parse(head.Weights.Tag, CultureInfo.InvariantCulture)).Message.FeedbackId;
            if (!head.Weights.Weights.AsSpan().SequenceEqual(sample.Head.Weights.Weights) || !head.Covariance.AsSpan().SequenceEqual(sample.Head.Covariance))
                throw new BenchmarkException($"the head of user '{user.User}' is not what was written.");
            if ((await store.FindAcceptedAsync(user.Tenant, user.App, [last], CancellationToken.None)).Count != 1) throw new BenchmarkException($"feedback '{last}' was not kept.");
        }
    }

    private static UserKey User(string name) => new(StateSample.Tenant, StateSample.App, name);

    /// <summary>A user whose updates go through the store, as the learner makes them.</summary>
    private sealed class StateUser(DynamoStateStore store, UserKey user, StateSample sample)
    {
        private readonly Queue<AcceptedFeedback> feedback = new();
        private int number;

        public void Prepare(int count)
        {
            while (feedback.Count < count) feedback.Enqueue(sample.Feedback(user.User, ++number));
        }

        public async Task PredictAsync() => await store.ReadWeightsAsync(user, CancellationToken.None);

        public async Task UpdateAsync()
        {
            var accepted = feedback.Dequeue();
            var seen = await store.FindAcceptedAsync(user.Tenant, user.App, [accepted.Message.FeedbackId], CancellationToken.None);
            var head = await store.ReadHeadAsync(user, CancellationToken.None);
            var made = await store.CommitAsync([new UserCommit { User = user, ExpectedTag = head?.Weights.Tag, Head = sample.Head, Accepted = [accepted] }], CancellationToken.None);
            if (seen.Count > 0 || !made[0]) throw new BenchmarkException("an update that nobody raced with was refused.");
        }
    }

    private sealed class BareUpdates(StateCalls calls) : Contender(Bare)
    {
        public override void Prepare(int operations) => calls.PrepareUpdates(operations);

        public override Task RunAsync() => calls.UpdateAsync();
    }

    private sealed class OurUpdates(StateUser user) : Contender(Ours)
    {
        public override void Prepare(int operations) => user.Prepare(operations);

        public override Task RunAsync() => user.UpdateAsync();
    }

    private sealed class BarePredictions(StateCalls calls) : Contender(Bare)
    {
        public override Task RunAsync() => calls.PredictAsync();
    }

    private sealed class OurPredictions(StateUser user) : Contender(Ours)
    {
        public override Task RunAsync() => user.PredictAsync();
    }
}
