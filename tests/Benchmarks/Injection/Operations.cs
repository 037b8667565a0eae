using System.Globalization;

namespace Skiff.Benchmarks.Injection;

internal enum Kind
{
    /// <summary>Writes an object that is not there.</summary>
    Create,

    /// <summary>Reads an object that others write too, and replaces it by itself and one word more.</summary>
    Replace,

    /// <summary>Reads an object that the same worker made.</summary>
    Read,

    /// <summary>Looks for a feedback id, reads a user's head and commits both, as the learner does.</summary>
    Learn,

    /// <summary>Sends some messages.</summary>
    Send,

    /// <summary>Receives what there is and completes it.</summary>
    Receive,
}

/// <summary>One thing to do, the same in every run of a seed.</summary>
/// <param name="Number">Also its name, in whatever it writes.</param>
/// <param name="Target">
/// Which shared object, which earlier object, which user or which queue. Every worker has a queue of its own: moto, unlike SQS, forgets a message's deduplication id when the
/// message is completed, so nobody may complete it before its sender has heard of it.
/// </param>
internal readonly record struct Operation(Kind Kind, int Number, int Target)
{
    public const int MessagesPerSend = 4;

    public string Name => $"{Number:d6}";

    /// <summary>What learning it adds; small, so that float32 holds a user's sum exactly.</summary>
    public int Weight => Number % 1000;

    public string Message(int index) => $"{Name}-{index}";
}

/// <summary>
/// The operations of a run, dealt to its workers, and what they must leave behind, whoever is faster: each writes a word of its own once, or adds its weight to a sum.
/// </summary>
internal sealed class Operations
{
    public const int SharedObjects = 32, Users = 64;

    // Of a hundred; the rest learns.
    private const int Creates = 14, Replaces = 12, Reads = 14, Sends = 12, Receives = 14;

    public Operations(int count, int workers, int seed)
    {
        var random = new Random(seed);
        var created = Enumerable.Range(0, workers).Select(_ => new List<int>()).ToArray();
        ByWorker = [.. Enumerable.Range(0, workers).Select(_ => new List<Operation>())];
        var sent = new int[workers];
        for (var number = 0; number < count; number++)
        {
            var worker = number % workers;
            var mine = created[worker];
            var operation = random.Next(100) switch
            {
                < Creates => new Operation(Kind.Create, number, number),
                < Creates + Replaces => new Operation(Kind.Replace, number, random.Next(SharedObjects)),
                // Who has made nothing yet makes something.
                < Creates + Replaces + Reads => mine.Count == 0 ? new Operation(Kind.Create, number, number) : new Operation(Kind.Read, number, mine[random.Next(mine.Count)]),
                < Creates + Replaces + Reads + Sends => new Operation(Kind.Send, number, worker),
                // Who has sent nothing that is still to come sends something.
                < Creates + Replaces + Reads + Sends + Receives => new Operation(sent[worker] == 0 ? Kind.Send : Kind.Receive, number, worker),
                _ => new Operation(Kind.Learn, number, random.Next(Users)),
            };
            if (operation.Kind == Kind.Create) mine.Add(number);
            if (operation.Kind == Kind.Send) sent[worker]++;
            if (operation.Kind == Kind.Receive) sent[worker]--;
            ByWorker[worker].Add(operation);
        }
    }

    public IReadOnlyList<List<Operation>> ByWorker { get; }

    public IEnumerable<Operation> All => ByWorker.SelectMany(operations => operations);

    public IEnumerable<Operation> Of(Kind kind) => All.Where(operation => operation.Kind == kind);

    /// <summary>What the stores hold at the end, by what it is.</summary>
    public SortedDictionary<string, string> Expected()
    {
        var state = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var one in Of(Kind.Create)) state[State.Object(one.Number)] = one.Name;
        for (var shared = 0; shared < SharedObjects; shared++) state[State.Shared(shared)] = State.Words(Of(Kind.Replace).Where(one => one.Target == shared).Select(one => one.Name));
        foreach (var user in Of(Kind.Learn).GroupBy(one => one.Target)) state[State.User(user.Key)] = State.Head(user.Count(), user.Sum(one => one.Weight), user.Sum(one => one.Weight));
        foreach (var one in Of(Kind.Learn)) state[State.Accepted(one.Name)] = "yes";
        foreach (var one in Of(Kind.Send))
        {
            for (var i = 0; i < Operation.MessagesPerSend; i++) state[State.Message(one.Message(i))] = "received";
        }
        return state;
    }
}

/// <summary>How the end of a run is written down, so that two of them can be compared.</summary>
internal static class State
{
    public static string Object(int number) => $"object {number:d6}";

    public static string Shared(int shared) => $"shared object {shared}";

    public static string User(int user) => $"head of user {user}";

    public static string Accepted(string id) => $"feedback {id}";

    public static string Message(string id) => $"message {id}";

    /// <summary>Sorted, each as often as it is there: what is lost and what is there twice both show.</summary>
    public static string Words(IEnumerable<string> words) => string.Join(' ', words.Order(StringComparer.Ordinal));

    /// <param name="inWeights">The sum as the weights have it, and as the covariance has it.</param>
    public static string Head(long updates, double inWeights, double inCovariance) =>
        string.Create(CultureInfo.InvariantCulture, $"{updates} updates, {inWeights} and {inCovariance}");

    /// <returns>Entries that only one of the two has, or that differ.</returns>
    public static IReadOnlyList<string> Differences(IReadOnlyDictionary<string, string> expected, IReadOnlyDictionary<string, string> actual) =>
    [
        .. expected.Where(entry => actual.GetValueOrDefault(entry.Key) != entry.Value).Select(entry => $"{entry.Key}: '{actual.GetValueOrDefault(entry.Key) ?? "nothing"}' in the place of '{entry.Value}'"),
        .. actual.Where(entry => !expected.ContainsKey(entry.Key)).Select(entry => $"{entry.Key}: '{entry.Value}' in the place of nothing"),
    ];
}
