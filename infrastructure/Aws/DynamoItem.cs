using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Amazon.DynamoDBv2.Model;
using Skiff.Feedback;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Routing;

namespace Skiff.Aws;

/// <summary>
/// The items of the state table. A key's parts are length-prefixed, so no name can pass for two; the tenant comes first, so that a policy can fence it off.
/// <code>
/// pk                                      sk           what
/// 7:default6:digits4:user2:u1             weights      what a prediction reads: version, features, prior, updates, offset, weights, policy
/// 7:default6:digits4:user2:u1             covariance   version, covariance, memory (none in heads of earlier versions)
/// 7:default6:digits4:user2:u1             erased       at, version, expires
/// 7:default6:digits4:user2:u1             logkey       key
/// 7:default6:digits4:user2:u1             replayed     version: of the order up to which a replay made the head
/// 7:default6:digits8:feedback32:&lt;hash&gt;    feedback     user, version, place, learnt, note, body, committed, expires; of a shard also naming: whom it is about
/// 7:default11:digits/rank6:events1:0      event:&lt;hash&gt;  id, due, version, body, user where it names one
/// 7:default11:digits/rank6:events1:0      due:&lt;when&gt;:&lt;hash&gt;
/// 0:8:replicas                            http://10.0.1.2:8090/  until, load, queue, warm, software, expires
/// </code>
/// No tenant's name is empty, so nobody's user is a replica. Feedback lies by the hash of its id, whosever it is: its place being free is what makes it count once for an app, and hashes spread over partitions.
/// <c>version</c> and <c>place</c> are the head that a commit made and the order within the commit.
/// </summary>
internal static class DynamoItem
{
    public const string Due = "due:", Naming = "naming";

    public const string EventPrefix = "event:";

    public const string Weights = "weights", Covariance = "covariance", Feedback = "feedback", Policy = "policy", Memory = "memory", Erased = "erased", LogKey = "logkey", Replayed = "replayed";

    /// <summary>The key of all replicas.</summary>
    public static string Replicas { get; } = Join("", "replicas");

    /// <summary>The table's TTL attribute, in Unix seconds. The service deletes up to days later, which only means that a duplicate is noticed for longer.</summary>
    public const string Expires = "expires";

    public const int MostBytes = 400 * 1024;

    /// <summary>What the keys of an app's feedback, or of its users, begin with.</summary>
    public static string PrefixOf(string tenant, string app, string kind) => Join(tenant, app, kind);

    public static string KeyOf(UserKey user) => Join(user.Tenant, user.App, "user", user.User);

    /// <summary>128 bits of the id: ids may be long, a key may not.</summary>
    public static string KeyOf(string tenant, string app, string feedbackId) =>
        Join(tenant, app, Feedback, HashOf(feedbackId));

    /// <summary>Where a shard's events lie: apart from its weights, which are read by a query of their own key.</summary>
    public static string KeyOfEvents(UserKey shard) => Join(shard.Tenant, shard.App, "events", shard.User);

    public static Dictionary<string, AttributeValue> KeyOfEvent(UserKey shard, string id) => Of(KeyOfEvents(shard), EventPrefix + HashOf(id));

    public static Dictionary<string, AttributeValue> KeyOfDue(UserKey shard, WaitingEvent waiting) => KeyOfDue(KeyOfEvents(shard), waiting);

    /// <param name="events"><see cref="KeyOfEvents"/>.</param>
    public static Dictionary<string, AttributeValue> KeyOfDue(string events, WaitingEvent waiting) => Of(events, $"{Due}{waiting.Due.UtcTicks:x16}:{HashOf(waiting.Id)}");

    /// <summary>What sorts behind every key of an event that is due by then, and before all others.</summary>
    public static string DueUntil(DateTimeOffset at) => $"{Due}{at.UtcTicks:x16};";

    /// <summary>The key of the event that a due item is about.</summary>
    public static Dictionary<string, AttributeValue> EventOfDue(Dictionary<string, AttributeValue> due) => Of(due["pk"].S, EventPrefix + due["sk"].S[^32..]);

    public static Dictionary<string, AttributeValue> OfEvent(UserKey shard, WaitingEvent waiting)
    {
        var item = new Dictionary<string, AttributeValue>(KeyOfEvent(shard, waiting.Id))
        {
            ["id"] = new() { S = waiting.Id },
            ["due"] = Number(waiting.Due.UtcTicks),
            ["version"] = Number(waiting.Version),
            ["body"] = new() { B = new MemoryStream(waiting.Body) },
        };
        if (waiting.User is { Length: > 0 } user) item["user"] = new() { S = user };
        return item;
    }

    public static WaitingEvent ReadEvent(Dictionary<string, AttributeValue> item) => new(
        item["id"].S, new DateTimeOffset(long.Parse(item["due"].N, CultureInfo.InvariantCulture), TimeSpan.Zero), long.Parse(item["version"].N, CultureInfo.InvariantCulture), item["body"].B.ToArray())
    {
        User = item.GetValueOrDefault("user")?.S,
    };

    public static Dictionary<string, AttributeValue> Of(string pk, string sk) => new() { ["pk"] = new() { S = pk }, ["sk"] = new() { S = sk } };

    public static Dictionary<string, AttributeValue> OfWeights(UserKey user, HeadWeights weights, long version)
    {
        var item = new Dictionary<string, AttributeValue>(Of(KeyOf(user), Weights))
        {
            ["version"] = Number(version),
            ["features"] = Number(weights.FeaturesVersion),
            ["prior"] = Number(weights.PriorVersion),
            ["updates"] = Number(weights.Updates),
            // As text: the service's numbers are decimal and of a smaller range.
            ["offset"] = new() { S = weights.Offset.ToString("R", CultureInfo.InvariantCulture) },
        };
        if (weights.Weights.Length > 0) item[Weights] = Floats(weights.Weights);
        if (weights.Policy is { } policy) item[Policy] = new() { B = new MemoryStream(policy) };
        return item;
    }

    public static Dictionary<string, AttributeValue> OfCovariance(UserKey user, HeadState head, long version)
    {
        var item = new Dictionary<string, AttributeValue>(Of(KeyOf(user), Covariance)) { ["version"] = Number(version), [Covariance] = Floats(head.Covariance) };
        if (head.Memory.Length > 0) item[Memory] = new() { B = new MemoryStream(head.Memory) };
        return item;
    }

    public static Dictionary<string, AttributeValue> OfFeedback(UserKey user, AcceptedFeedback accepted, long version, int place, DateTimeOffset now, DateTimeOffset expires)
    {
        var item = new Dictionary<string, AttributeValue>(Of(KeyOf(user.Tenant, user.App, accepted.Message.FeedbackId), Feedback))
        {
            ["user"] = new() { S = user.User },
            ["version"] = Number(version),
            ["place"] = Number(place),
            ["learnt"] = new() { BOOL = accepted.Learnt },
            ["body"] = new() { B = new MemoryStream(accepted.Message.Serialize()) },
            ["committed"] = Number(now.ToUnixTimeMilliseconds()),
        };
        // What is in quarantine waits for somebody, however long.
        if (!accepted.IsQuarantined) item[Expires] = Number(expires.ToUnixTimeSeconds());
        if (accepted.Message.User != user.User && accepted.Message.User.Length > 0) item[Naming] = new() { S = accepted.Message.User };
        if (accepted.Note is { } note) item["note"] = new() { S = note };
        return item;
    }

    public static KeptFeedback ReadFeedback(Dictionary<string, AttributeValue> item) => new(
        new AcceptedFeedback(FeedbackMessage.Deserialize(item["body"].B.ToArray()), item["learnt"].BOOL == true, item.GetValueOrDefault("note")?.S),
        // A commit carries fewer than its 128.
        long.Parse(item["version"].N, CultureInfo.InvariantCulture) * 128 + long.Parse(item["place"].N, CultureInfo.InvariantCulture),
        DateTimeOffset.FromUnixTimeMilliseconds(item.TryGetValue("committed", out var committed) ? long.Parse(committed.N, CultureInfo.InvariantCulture) : 0));

    public static Dictionary<string, AttributeValue> OfErasure(UserKey user, Erasure erasure, DateTimeOffset expires) => new(Of(KeyOf(user), Erased))
    {
        ["at"] = Number(erasure.At.ToUnixTimeMilliseconds()),
        ["version"] = Number(erasure.Version),
        [Expires] = Number(expires.ToUnixTimeSeconds()),
    };

    public static Erasure ReadErasure(Dictionary<string, AttributeValue> item) => new(
        DateTimeOffset.FromUnixTimeMilliseconds(long.Parse(item["at"].N, CultureInfo.InvariantCulture)), long.Parse(item["version"].N, CultureInfo.InvariantCulture));

    public static Dictionary<string, AttributeValue> KeyOfReplica(Uri address) => Of(Replicas, address.AbsoluteUri);

    public static Dictionary<string, AttributeValue> OfReplica(Registration replica) => new(KeyOfReplica(replica.Address))
    {
        ["until"] = Number(replica.Until.ToUnixTimeMilliseconds()),
        ["load"] = new() { N = replica.Load.ToString("0.###", CultureInfo.InvariantCulture) },
        ["queue"] = Number(replica.Queue),
        ["warm"] = new() { S = replica.Warm },
        ["software"] = new() { S = replica.Version },
        [Expires] = Number(replica.Until.ToUnixTimeSeconds() + 1),
    };

    public static Registration ReadReplica(Dictionary<string, AttributeValue> item) => new(
        new Uri(item["sk"].S), DateTimeOffset.FromUnixTimeMilliseconds(long.Parse(item["until"].N, CultureInfo.InvariantCulture)),
        double.Parse(item["load"].N, CultureInfo.InvariantCulture), int.Parse(item["queue"].N, CultureInfo.InvariantCulture), item["warm"].S, item["software"].S);

    public static HeadWeights ReadWeights(Dictionary<string, AttributeValue> item) => new()
    {
        Tag = item["version"].N,
        FeaturesVersion = int.Parse(item["features"].N, CultureInfo.InvariantCulture),
        PriorVersion = int.Parse(item["prior"].N, CultureInfo.InvariantCulture),
        Updates = long.Parse(item["updates"].N, CultureInfo.InvariantCulture),
        Offset = double.Parse(item["offset"].S, CultureInfo.InvariantCulture),
        Weights = item.TryGetValue(Weights, out var weights) ? ReadFloats(weights) : [],
        Policy = item.TryGetValue(Policy, out var policy) ? policy.B.ToArray() : null,
    };

    public static byte[] ReadMemory(Dictionary<string, AttributeValue> covariance) => covariance.TryGetValue(Memory, out var memory) ? memory.B.ToArray() : [];

    public static float[] ReadFloats(AttributeValue value) => MemoryMarshal.Cast<byte, float>(value.B.ToArray()).ToArray();

    public static AttributeValue Number(long value) => new() { N = value.ToString(CultureInfo.InvariantCulture) };

    /// <summary>The size that limits and bills go by; of numbers, whose form is not published, at least that.</summary>
    public static int SizeOf(Dictionary<string, AttributeValue> item) => item.Sum(pair => Encoding.UTF8.GetByteCount(pair.Key) + pair.Value switch
    {
        { S: { } text } => Encoding.UTF8.GetByteCount(text),
        { N: { } number } => number.Length / 2 + 2,
        { B: { } bytes } => (int)bytes.Length,
        _ => 1,
    });

    private static string HashOf(string id) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(id)).AsSpan(0, 16));

    private static AttributeValue Floats(float[] values) => new() { B = new MemoryStream(MemoryMarshal.AsBytes<float>(values).ToArray()) };

    private static string Join(params ReadOnlySpan<string> parts)
    {
        var key = new StringBuilder();
        foreach (var part in parts) key.Append(CultureInfo.InvariantCulture, $"{part.Length}:{part}");
        return key.ToString();
    }
}
