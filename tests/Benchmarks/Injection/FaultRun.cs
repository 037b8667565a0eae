using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Skiff.Aws;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Store;

namespace Skiff.Benchmarks.Injection;

/// <summary>
/// Carries out operations, several workers at once, as the product's callers do: what failed clearly is asked for again, because it is not known whether it was done, until it is
/// done. What must not be: an answer that is not so, a word that is lost or there twice, an exception that is none of ours, a call that outlasts its deadline.
/// </summary>
internal sealed class FaultRun(FaultyServices services, Operations operations, Tally tally)
{
    private const string Tenant = "default", App = "app";
    private const int MostRepetitions = 100;

    // A receiver waits for what may be hidden; then it does something else. Longer than the queue's own wait, so that it is seldom in the middle of an answer.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly S3ObjectStore objects = services.Objects(faulty: true);
    private readonly DynamoStateStore states = services.States(faulty: true);
    private readonly SqsFeedbackQueue[] queues = services.QueuesOf(faulty: true);

    // Ids of the messages that came, and when their completion was acknowledged: null until then.
    private readonly ConcurrentDictionary<string, long?> received = new();
    private int repeated, again;

    /// <summary>Operations that ended only because the caller asked again.</summary>
    public int Repeated => repeated;

    /// <summary>Messages that came once more after their completion was acknowledged.</summary>
    public int Again => again;

    public TimeSpan Took { get; private set; }

    /// <summary>Carries out everything.</summary>
    /// <returns>What is in the stores then, read without faults.</returns>
    public async Task<SortedDictionary<string, string>> RunAsync()
    {
        var clean = services.Objects(faulty: false);
        for (var shared = 0; shared < Operations.SharedObjects; shared++) await clean.TryCreateAsync(SharedKey(shared), ReadOnlyMemory<byte>.Empty, CancellationToken.None);
        var started = Stopwatch.GetTimestamp();
        await Task.WhenAll(operations.ByWorker.Select(mine => Task.Run(async () =>
        {
            foreach (var operation in mine) await DoAsync(operation);
        })));
        Took = Stopwatch.GetElapsedTime(started);
        await DrainAsync();
        return await ReadAsync(clean, services.States(faulty: false));
    }

    public static FeedbackMessage Message(string id, string user) => new()
    {
        Tenant = Tenant,
        App = App,
        User = user,
        FeedbackId = id,
        Label = 1,
        Features = new byte[65 * sizeof(float)],
        At = DateTimeOffset.UnixEpoch,
    };

    private async Task DoAsync(Operation operation)
    {
        var unsure = false;
        for (var turn = 1; !await TryAsync(operation, unsure); turn++)
        {
            if (turn == 1) Interlocked.Increment(ref repeated);
            if (turn == MostRepetitions) throw new BenchmarkException($"{operation} failed {turn} times in a row.");
            unsure = true;
        }
    }

    /// <param name="unsure">Whether it was tried before, and may have been done.</param>
    /// <returns>Whether it is done, false after a failure.</returns>
    private Task<bool> TryAsync(Operation operation, bool unsure) => operation.Kind switch
    {
        Kind.Create => CreateAsync(operation, unsure),
        Kind.Replace => ReplaceAsync(operation, unsure),
        Kind.Read => ReadAsync(operation),
        Kind.Learn => LearnAsync(operation, unsure),
        Kind.Send => SendAsync(operation),
        Kind.Receive => ReceiveAsync(queues[operation.Target], Patience),
        _ => throw new ArgumentOutOfRangeException(nameof(operation), operation, null),
    };

    // S3

    private async Task<bool> CreateAsync(Operation operation, bool unsure)
    {
        var (ended, made) = await tally.CallAsync(
            "create an object", FaultyServices.S3Deadline, token => objects.TryCreateAsync(ObjectKey(operation.Number), Encoding.UTF8.GetBytes(operation.Name), token));
        if (ended && !made && !unsure) tally.CountWrong($"object {operation.Name} was new and reported as taken");
        return ended;
    }

    private async Task<bool> ReplaceAsync(Operation operation, bool unsure)
    {
        while (true)
        {
            var (read, stored) = await tally.CallAsync("read a shared object", FaultyServices.S3Deadline, token => objects.GetAsync(SharedKey(operation.Target), token));
            if (!read) return false;
            var words = Encoding.UTF8.GetString(stored?.Content ?? []);
            if (words.Contains($"[{operation.Name}]", StringComparison.Ordinal))
            {
                // Only after a failure may it be there without our having heard of it.
                if (!unsure) tally.CountWrong($"{operation.Name} was written and reported as lost");
                return true;
            }
            if (stored is null)
            {
                tally.CountWrong($"shared object {operation.Target} is there and was reported as missing");
                return false;
            }
            var replaced = Encoding.UTF8.GetBytes($"{words}[{operation.Name}]");
            var (written, won) = await tally.CallAsync(
                "replace a shared object", FaultyServices.S3Deadline, token => objects.TryReplaceAsync(SharedKey(operation.Target), replaced, stored.Tag, token));
            if (!written) return false;
            if (won) return true;
        }
    }

    private async Task<bool> ReadAsync(Operation operation)
    {
        var (ended, stored) = await tally.CallAsync("read an object", FaultyServices.S3Deadline, token => objects.GetAsync(ObjectKey(operation.Target), token));
        if (ended && Encoding.UTF8.GetString(stored?.Content ?? []) != $"{operation.Target:d6}") tally.CountWrong($"object {operation.Target:d6} was read as something else");
        return ended;
    }

    // DynamoDB

    private async Task<bool> LearnAsync(Operation operation, bool unsure)
    {
        var user = User(operation.Target);
        while (true)
        {
            var (looked, accepted) = await tally.CallAsync("look for feedback", FaultyServices.DynamoDeadline, token => states.FindAcceptedAsync(Tenant, App, [operation.Name], token));
            if (!looked) return false;
            if (accepted!.Count > 0)
            {
                if (!unsure) tally.CountWrong($"feedback {operation.Name} was committed and reported as refused");
                return true;
            }
            var (read, head) = await tally.CallAsync("read a head", FaultyServices.DynamoDeadline, token => states.ReadHeadAsync(user, token));
            if (!read) return false;
            var commit = new UserCommit
            {
                User = user,
                ExpectedTag = head?.Weights.Tag,
                Head = new HeadState(
                    new HeadWeights
                    {
                        FeaturesVersion = 1,
                        PriorVersion = 1,
                        Updates = (head?.Weights.Updates ?? 0) + 1,
                        Offset = 0,
                        Weights = [(head?.Weights.Weights[0] ?? 0) + operation.Weight],
                        Tag = "",
                    },
                    [(head?.Covariance[0] ?? 0) + operation.Weight]),
                Accepted = [new AcceptedFeedback(Message(operation.Name, user.User), true, null)],
            };
            var (written, made) = await tally.CallAsync("commit a head", FaultyServices.DynamoDeadline, token => states.CommitAsync([commit], token));
            if (!written) return false;
            if (made![0]) return true;
        }
    }

    // SQS

    private async Task<bool> SendAsync(Operation operation)
    {
        // Users of their own: what waits for a hidden message is only that message.
        var messages = Enumerable.Range(0, Operation.MessagesPerSend).Select(i => Message(operation.Message(i), operation.Message(i))).ToArray();
        return (await tally.CallAsync("send messages", FaultyServices.SendDeadline, async token =>
        {
            await queues[operation.Target].SendAsync(messages, token);
            return true;
        })).Ended;
    }

    private async Task<bool> ReceiveAsync(SqsFeedbackQueue queue, TimeSpan patience)
    {
        var started = Stopwatch.GetTimestamp();
        var (ended, messages) = await tally.CallAsync("receive messages", FaultyServices.SqsDeadline, token => queue.ReceiveAsync(Operation.MessagesPerSend, token), patience);
        if (!ended) return false;
        if (messages is null) return true;
        foreach (var id in messages.Select(message => message.Message.FeedbackId))
        {
            if (received.GetOrAdd(id, (long?)null) is { } completed && completed < started) Interlocked.Increment(ref again);
        }
        var (done, _) = await tally.CallAsync("complete messages", FaultyServices.SqsDeadline, async token =>
        {
            await queue.CompleteAsync(messages, token);
            return true;
        });
        if (done)
        {
            foreach (var message in messages) received.TryUpdate(message.Message.FeedbackId, Stopwatch.GetTimestamp(), null);
        }
        return done;
    }

    /// <summary>
    /// Without faults: what is hidden comes again and is completed. It ends when every message that was sent has been completed, or when nothing has come for longer than it can be
    /// hidden: a completion whose answer was lost may have been made. A last look is for what should not be there.
    /// </summary>
    private async Task DrainAsync()
    {
        var mostHidden = FaultyServices.HastySqs.Visibility + Patience;
        var clean = services.QueuesOf(faulty: false);
        await Task.WhenAll(clean.Select(async (queue, i) =>
        {
            var open = operations.Of(Kind.Send).Where(one => one.Target == i).SelectMany(one => Enumerable.Range(0, Operation.MessagesPerSend).Select(one.Message)).ToHashSet();
            for (var last = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(last) < mostHidden;)
            {
                if (open.RemoveWhere(id => received.GetValueOrDefault(id) is not null) > 0) last = Stopwatch.GetTimestamp();
                if (open.Count == 0) break;
                await ReceiveAsync(queue, Patience);
            }
            await ReceiveAsync(queue, Patience);
        }));
    }

    // The end

    private async Task<SortedDictionary<string, string>> ReadAsync(S3ObjectStore clean, DynamoStateStore cleanStates)
    {
        var state = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var name in await clean.ListAsync("own", CancellationToken.None)) state[$"object {name}"] = await TextAsync($"own/{name}");
        foreach (var name in await clean.ListAsync("shared", CancellationToken.None))
        {
            state[$"shared object {name}"] = State.Words((await TextAsync($"shared/{name}")).Split(['[', ']'], StringSplitOptions.RemoveEmptyEntries));
        }
        for (var user = 0; user < Operations.Users; user++)
        {
            if (await cleanStates.ReadHeadAsync(User(user), CancellationToken.None) is not { } head) continue;
            state[State.User(user)] = State.Head(head.Weights.Updates, head.Weights.Weights[0], head.Covariance[0]);
        }
        var ids = operations.Of(Kind.Learn).Select(one => one.Name).ToArray();
        foreach (var id in await cleanStates.FindAcceptedAsync(Tenant, App, ids, CancellationToken.None)) state[State.Accepted(id)] = "yes";
        foreach (var id in received.Keys) state[State.Message(id)] = "received";
        return state;

        async Task<string> TextAsync(string key) => Encoding.UTF8.GetString((await clean.GetAsync(key, CancellationToken.None))!.Content);
    }

    private static string ObjectKey(int number) => $"own/{number:d6}";

    private static string SharedKey(int shared) => $"shared/{shared}";

    private static UserKey User(int user) => new(Tenant, App, $"u{user}");
}
