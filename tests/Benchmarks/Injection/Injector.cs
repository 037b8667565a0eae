using System.Collections.Concurrent;
using Microsoft.AspNetCore.Http;
using Skiff.Support;

namespace Skiff.Benchmarks.Injection;

internal enum Service
{
    S3,
    DynamoDB,
    SQS,
}

/// <summary>
/// Which requests meet which fault: every one with the same chance, of the kinds that its service and operation know. In which order requests come is up to the threads.
/// </summary>
/// <param name="rate">0 to 1.</param>
internal sealed class Injector(double rate, int seed)
{
    private static readonly Fault[] Any = [Fault.ServerError, Fault.SlowDown, Fault.Skew, Fault.Reset, Fault.LostAnswer, Fault.Truncate, Fault.Stall];

    private readonly Random random = new(seed);
    private readonly HashSet<Service> skewed = [];
    private readonly ConcurrentDictionary<(Service Service, Fault Fault), int> counts = new();

    /// <summary>The kinds there are.</summary>
    public static IReadOnlyList<Fault> Kinds { get; } = [.. Any, Fault.Conflict, Fault.Partial];

    /// <summary>A batch of SQS longer than this has two entries at least, so that there is one to refuse and one to pass on.</summary>
    public long LeastBatchBytes { get; init; } = long.MaxValue;

    public int Requests(Service service) => counts.Where(count => count.Key.Service == service).Sum(count => count.Value);

    public int Count(Service service, Fault fault) => counts.GetValueOrDefault((service, fault));

    public int Faults(Service service) => Requests(service) - Count(service, Fault.None);

    public Fault Next(Service service, HttpRequest request)
    {
        var fault = Choose(service, request);
        counts.AddOrUpdate((service, fault), 1, (_, count) => count + 1);
        return fault;
    }

    private Fault Choose(Service service, HttpRequest request)
    {
        lock (random)
        {
            if (random.NextDouble() >= rate) return Fault.None;
            Fault[] kinds = service switch
            {
                // Only writes on a condition conflict.
                Service.S3 when request.Method == "PUT" => [.. Any, Fault.Conflict],
                Service.SQS when request.Headers["X-Amz-Target"] == "AmazonSQS.SendMessageBatch" && request.ContentLength >= LeastBatchBytes => [.. Any, Fault.Partial],
                _ => Any,
            };
            var fault = kinds[random.Next(kinds.Length)];
            // A clock is set right once and is from then on: a second hour would be the service's error, and the client is right to say so.
            return fault == Fault.Skew && !skewed.Add(service) ? Fault.ServerError : fault;
        }
    }
}
