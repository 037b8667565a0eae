using System.Globalization;
using System.Text;

namespace Skiff.Routing;

/// <summary>What a router knows of its replicas, in Prometheus' text format.</summary>
public static class ForwardingMetrics
{
    /// <summary>The tier's replicas, and what was sent there.</summary>
    public static string Write(HeavyTier tier)
    {
        var (requests, callers, rows) = tier.Sent;
        return Write(tier.Router)
            + Counter("skiff_tier_requests_total", "Requests that were sent to the heavy tier", requests)
            + Counter("skiff_tier_callers_total", "Requests of callers whose rows were in these", callers)
            + Counter("skiff_tier_rows_total", "Rows that were in these", rows);

        static string Counter(string name, string help, long value) => string.Create(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n");
    }

    public static string Write(Router router)
    {
        var text = new StringBuilder();
        Gauge("skiff_replica_in_flight", "Requests that a replica was given and has not answered", replica => replica.InFlight);
        Gauge("skiff_replica_out", "Whether a replica is left out after failures", replica => replica.IsOut ? 1 : 0);
        Gauge("skiff_replica_load", "Busy workers of a replica by its workers, as it said last", replica => replica.Report?.Load);
        Gauge("skiff_replica_queued_rows", "Rows that wait at a replica, as it said last", replica => replica.Report?.Queue);
        return text.ToString();

        void Gauge(string name, string help, Func<Replica, double?> read)
        {
            text.Append($"# HELP {name} {help}\n# TYPE {name} gauge\n");
            foreach (var replica in router.Replicas.Replicas)
            {
                if (read(replica) is { } value) text.Append(CultureInfo.InvariantCulture, $"{name}{{replica=\"{replica.Address.Authority}\"}} {value}\n");
            }
        }
    }
}
