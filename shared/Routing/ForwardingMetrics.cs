using System.Globalization;
using System.Text;

namespace Skiff.Routing;

/// <summary>What a router knows of its replicas, in Prometheus' text format.</summary>
public static class ForwardingMetrics
{
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
