using Skiff.Selection;

namespace Skiff.Planning.Simulation;

/// <summary>
/// What a run of functions and a heavy tier would have done: requests come, wait, find caches warm or cold, go on to the heavy tier, and are done. A discrete-event simulation: time jumps from one
/// event to the next. Choices are the router's own where a tier is routed. A request costs O(log of those under way), whatever the number of instances. The same options and requests give the same result.
/// </summary>
public static class Simulator
{
    private const int ReportsEvery = 1 << 16;

    /// <param name="progress">Told now and then how many requests have come.</param>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public static SimulationResult Run(SimulationOptions options, Arrivals arrivals, Action<long>? progress, CancellationToken cancellation)
    {
        options.Validate();
        var time = new SimulatedTime();
        var front = new Tier(options.Front, arrivals, time, Seed(options.Seed, 1));
        var heavy = options.Heavy is null ? null : new Tier(options.Heavy, arrivals, time, Seed(options.Seed, 2));
        var random = new SeededRandom(Seed(options.Seed, 3));
        var latencies = new Latencies();
        var events = new PriorityQueue<Job, double>();
        var free = new Stack<Job>();
        var uncounted = (long)(options.WarmUp * arrivals.Count);
        var (came, counted, began, ended, present, presence) = (0L, 0L, double.NaN, 0.0, 0L, 0.0);

        foreach (var arrival in arrivals.Read())
        {
            Until(arrival.Time);
            Advance(arrival.Time);
            if (came++ == uncounted) began = time.Now;
            if (!free.TryPop(out var job)) job = new Job();
            (job.Came, job.User, job.Model, job.Counts) = (time.Now, arrival.User, arrival.Model, came > uncounted);
            present++;
            Schedule(job, front.Come(job));
            if (came % ReportsEvery == 0)
            {
                cancellation.ThrowIfCancellationRequested();
                progress?.Invoke(came);
            }
        }
        var last = time.Now;
        Until(double.PositiveInfinity);
        return new SimulationResult
        {
            Requests = counted,
            Seconds = last - began,
            Mean = latencies.Mean,
            P50 = latencies.Quantile(0.5),
            P99 = latencies.Quantile(0.99),
            MeanPresent = presence / Math.Max(1e-9, ended - began),
            Front = Sum(front, last - began),
            Heavy = heavy is null ? null : Sum(heavy, last - began),
        };

        void Until(double limit)
        {
            while (events.TryPeek(out var job, out var done) && done <= limit)
            {
                events.Dequeue();
                Advance(done);
                var tier = job.Tier!;
                var (next, nextDone) = tier.End(job);
                if (next is not null) Schedule(next, nextDone);
                if (tier == front && heavy is not null && random.NextDouble() < options.Escalated)
                {
                    Schedule(job, heavy.Come(job));
                    continue;
                }
                present--;
                if (job.Counts)
                {
                    counted++;
                    latencies.Add(time.Now - job.Came);
                    ended = time.Now;
                }
                job.Lease = default;
                free.Push(job);
            }
        }

        void Advance(double now)
        {
            // The integral of how many there are, for Little's law.
            if (!double.IsNaN(began)) presence += present * (now - time.Now);
            time.Now = now;
        }

        void Schedule(Job job, double done)
        {
            if (!double.IsNaN(done)) events.Enqueue(job, done);
        }
    }

    private static ulong Seed(ulong seed, ulong stream) => Routing.RouteKey.Mix(seed * 4 + stream);

    private static TierResult Sum(Tier tier, double seconds)
    {
        long[] served = [.. tier.Served];
        return new TierResult
        {
            Options = tier.Options,
            Requests = tier.Lookups,
            Hits = tier.Hits,
            Loads = tier.Loads,
            ColdStarts = tier.ColdStarts,
            BusySeconds = tier.Busy,
            BusyProvisionedSeconds = tier.BusyProvisioned,
            MaxOverMean = served.Sum() == 0 ? 0 : served.Max() / served.Average(),
            Seconds = seconds,
        };
    }
}

/// <summary>What came of it, without the warm-up. Times are seconds.</summary>
public sealed record SimulationResult
{
    public required long Requests { get; init; }

    /// <summary>From the first request that counts to the last.</summary>
    public required double Seconds { get; init; }

    public required double Mean { get; init; }
    public required double P50 { get; init; }
    public required double P99 { get; init; }

    /// <summary>Requests waiting or running, on average.</summary>
    public required double MeanPresent { get; init; }

    public required TierResult Front { get; init; }
    public required TierResult? Heavy { get; init; }

    /// <summary>Dollars.</summary>
    public double Cost(TierPrices prices) => prices.Functions(Front) + (Heavy is null ? 0 : prices.Replicas(Heavy.Options.Instances, 0, Heavy.Seconds));
}

public sealed record TierResult
{
    public required TierOptions Options { get; init; }
    public required long Requests { get; init; }

    /// <summary>Requests whose user's state was there.</summary>
    public required long Hits { get; init; }

    public required long Loads { get; init; }
    public required long ColdStarts { get; init; }

    /// <summary>Run time on instances that come and go, and on those that are provisioned.</summary>
    public required double BusySeconds { get; init; }

    public required double BusyProvisionedSeconds { get; init; }

    /// <summary>Requests of the instance with most, over the mean of all.</summary>
    public required double MaxOverMean { get; init; }

    public required double Seconds { get; init; }

    public double HitRate => Requests == 0 ? 0 : (double)Hits / Requests;

    public double Utilisation => Seconds <= 0 ? 0 : (BusySeconds + BusyProvisionedSeconds) / (Seconds * Options.Instances * Options.Concurrency);
}
