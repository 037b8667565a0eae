namespace Skiff.Planning;

/// <summary>What is asked, how well, and with what. Times are seconds.</summary>
public sealed record CapacityQuestion
{
    /// <summary>Requests a second, at the peak that must be borne.</summary>
    public required double Rate { get; init; }

    /// <summary>Share of the requests that the light model leaves to the heavy one.</summary>
    public required double Escalated { get; init; }

    public required double Objective { get; init; }

    /// <summary>Share of the requests that are answered within it.</summary>
    public double Quantile { get; init; } = 0.99;

    /// <summary>Run time of the light model in a function; run times are taken to be constant.</summary>
    public required double Light { get; init; }

    /// <summary>The heavy model in a function.</summary>
    public required double Heavy { get; init; }

    /// <summary>The same two on a heavy replica.</summary>
    public required double LightOnReplica { get; init; }
    public required double HeavyOnReplica { get; init; }

    /// <summary>Requests that a replica runs at once.</summary>
    public int Workers { get; init; } = 1;

    /// <summary>From a function to a replica and back.</summary>
    public double Hop { get; init; } = 0.001;

    public TierPrices Prices { get; init; } = new();

    /// <exception cref="ArgumentException">Something is out of its range.</exception>
    public CapacityQuestion Validate()
    {
        Require(Rate > 0 && Rate <= 1e7, "the rate is above 0 and at most 10,000,000 requests a second");
        Require(Escalated is >= 0 and <= 1, "the share of requests that go on is from 0 to 1");
        Require(Objective > 0 && double.IsFinite(Objective), "the objective is above 0");
        Require(Quantile is > 0 and < 1, "the quantile is between 0 and 1");
        foreach (var time in new[] { Light, Heavy, LightOnReplica, HeavyOnReplica }) Require(time > 0 && double.IsFinite(time), "run times are above 0");
        Require(Workers is >= 1 and <= 10_000, "workers are from 1 to 10,000");
        Require(Hop >= 0 && double.IsFinite(Hop), "the hop is at least 0");
        Prices.Validate();
        return this;

        static void Require(bool holds, string rule)
        {
            if (!holds) throw new ArgumentException(rule);
        }
    }
}

public enum CapacityShape
{
    /// <summary>Both models in functions.</summary>
    Functions,

    /// <summary>Light in functions, heavy on replicas.</summary>
    Mixed,

    /// <summary>Both on replicas.</summary>
    Replicas,
}

/// <param name="Late">Share of requests later than the objective, by the model's reckoning.</param>
/// <param name="DollarsAnHour">While that rate lasts.</param>
public sealed record CapacityPlan(CapacityShape Shape, int OnDemand, int Spot, double Late, double DollarsAnHour)
{
    public int Replicas => OnDemand + Spot;
}

/// <summary>
/// The cheapest mix of functions and heavy replicas that answers in time. Requests come by chance (Poisson) and are of two kinds, those that the light model answers and those that go on; each kind always takes
/// its own time, in every shape. Functions grow with the rate and don't wait; replicas have one line for the requests of both kinds that come to them, reckoned as M/G/c (<see cref="Queueing"/>), so that few long
/// runs among many short ones make all wait. Against a simulation of that queue the share that is late is within a factor of two at 1% and of three at 0.1%. Spot replicas may all go at once: those on demand must
/// then still keep up (below 95% busy), though late. Cold starts are left out: <see cref="Simulation.Simulator"/> has them.
/// </summary>
public static class CapacityPlanner
{
    public const int MostReplicas = 10_000;
    private const double BusyAtMost = 0.95;

    /// <returns>For each shape the cheapest plan that meets the objective, the cheapest first; none where nothing does.</returns>
    /// <exception cref="ArgumentException">The question is none.</exception>
    public static IReadOnlyList<CapacityPlan> Plan(CapacityQuestion question)
    {
        question.Validate();
        var plans = new List<CapacityPlan>();
        var (rate, share, allowed) = (question.Rate, question.Escalated, 1 - question.Quantile);

        var (light, both) = (1 - share, share);
        var late = Late(question.Light, light) + Late(question.Light + question.Heavy, both);
        if (late <= allowed) plans.Add(new CapacityPlan(CapacityShape.Functions, 0, 0, late, Functions(question.Light + share * question.Heavy)));
        if (share > 0) Add(CapacityShape.Mixed, rate * share, Functions(question.Light), Late(question.Light, light), question.Light + question.Hop, (both, question.HeavyOnReplica));
        Add(CapacityShape.Replicas, rate, 0, 0, question.Hop, (light, question.LightOnReplica), (both, question.LightOnReplica + question.HeavyOnReplica));
        return [.. plans.OrderBy(plan => plan.DollarsAnHour)];

        double Late(double time, double ofRequests) => time > question.Objective ? ofRequests : 0;

        double Functions(double seconds) =>
            rate * 3600 * (seconds * question.Prices.FunctionGigabytes * Prices.FunctionGigabyteSecond + Prices.FunctionRequest);

        // Of all requests the share lateElsewhere is late without coming to the replicas; whoever comes there spends rest elsewhere, and its kind's run time there.
        void Add(CapacityShape shape, double arrivals, double functions, double lateElsewhere, double rest, params (double Share, double Time)[] kinds)
        {
            var come = kinds.Sum(kind => kind.Share);
            var mean = kinds.Sum(kind => kind.Share * kind.Time) / come;
            var variation = kinds.Sum(kind => kind.Share * (kind.Time - mean) * (kind.Time - mean)) / (come * mean * mean);
            var enough = (int)Math.Min(MostReplicas + 1, Math.Max(1, Math.Ceiling(arrivals * mean / (BusyAtMost * question.Workers))));
            if (enough > MostReplicas || LateWith(MostReplicas) > allowed) return;
            // More replicas never wait longer: the fewest are found by halving.
            var (few, many) = (enough, MostReplicas);
            while (few < many)
            {
                var middle = few + (many - few) / 2;
                if (LateWith(middle) <= allowed) many = middle;
                else few = middle + 1;
            }
            var onDemand = question.Prices.SpotHour < question.Prices.ReplicaHour ? enough : many;
            plans.Add(new CapacityPlan(shape, onDemand, many - onDemand, LateWith(many), functions + question.Prices.Replicas(onDemand, many - onDemand, 3600)));

            double LateWith(int replicas) =>
                lateElsewhere + kinds.Sum(kind => kind.Share * Queueing.WaitsLonger(replicas * question.Workers, arrivals, mean, variation, question.Objective - rest - kind.Time));
        }
    }
}
