using Skiff.Planning;

namespace Skiff.Unit.Planning;

/// <summary>The closed form beside a simulation of the same queue: Poisson arrivals of two kinds, each with its own constant time, in one line before c workers.</summary>
public sealed class QueueingTests
{
    private const int Requests = 800_000;

    [Theory]
    [InlineData(1, 0.5, 0.5)]
    [InlineData(2, 1, 1.0 / 3)] // 2ρ² / (1 + ρ) at ρ = ½
    [InlineData(3, 3, 1)]
    public void ErlangC_IsWhatTheBooksSay(int workers, double load, double expected) => Assert.Equal(expected, Queueing.ErlangC(workers, load), 1e-12);

    [Theory]
    [InlineData(0.4, 2.9, 1, 0.5)]
    [InlineData(0.4, 2.9, 1, 0.85)]
    [InlineData(0.4, 2.9, 2, 0.7)]
    [InlineData(0.4, 2.9, 8, 0.7)]
    [InlineData(0.4, 2.9, 8, 0.85)]
    [InlineData(0.13, 5.2, 1, 0.5)]
    [InlineData(0.13, 5.2, 1, 0.85)]
    [InlineData(0.13, 5.2, 2, 0.7)]
    [InlineData(0.13, 5.2, 2, 0.85)]
    [InlineData(0.13, 5.2, 8, 0.7)]
    [InlineData(0.13, 5.2, 8, 0.85)]
    [InlineData(0, 0.2, 1, 0.7)]
    [InlineData(0, 0.2, 2, 0.7)]
    [InlineData(0, 0.2, 8, 0.85)]
    public void ShareThatIsLate_IsWithinAFactorOfTwoAtOnePercent_AndOfThreeAtAThousandth(double longs, double time, int workers, double busy)
    {
        var (mean, variation) = Moments(longs, time);
        var rate = busy * workers / mean;
        var times = Simulate(workers, rate, longs, time);
        Array.Sort(times);
        foreach (var (late, factor) in new[] { (0.1, 1.5), (0.03, 2), (0.01, 2), (0.003, 3), (0.001, 3) })
        {
            var objective = times[(int)((1 - late) * Requests)];
            // Where the quantile lies in the step of those who don't wait at all, there is no such objective.
            if (objective <= time * 1.001) continue;
            var reckoned = (1 - longs) * Queueing.WaitsLonger(workers, rate, mean, variation, objective - 0.2) + longs * Queueing.WaitsLonger(workers, rate, mean, variation, objective - time);
            Assert.True(reckoned < factor * late && reckoned > late / factor, $"late {late} after {objective}, reckoned {reckoned}");
        }
    }

    [Fact]
    public void FewLongRunsAmongManyShortOnes_MakeAllWait()
    {
        var (mean, variation) = Moments(0.13, 5.2);
        Assert.Equal(3.9, variation, 0.05);
        var plan = Assert.Single(
            CapacityPlanner.Plan(new CapacityQuestion { Rate = 2000, Escalated = 0.13, Objective = 0.02, Quantile = 0.9, Light = 0.0002, Heavy = 0.005, LightOnReplica = 0.0002, HeavyOnReplica = 0.005 }),
            plan => plan.Shape == CapacityShape.Replicas);
        var late = Simulate(2, 2, 0.13, 5.2).Count(time => time + 1 > 20) / (double)Requests;

        Assert.Equal(2, plan.Replicas);
        Assert.InRange(late, 0.04, 0.07);
        Assert.InRange(plan.Late, late / 1.3, late * 1.3);
        // With exponential times of the same mean it would be a thousandth.
        Assert.True(Queueing.WaitsLonger(2, 2, mean, 1, 18) < late / 4);
    }

    private static (double Mean, double Variation) Moments(double longs, double time)
    {
        var mean = (1 - longs) * 0.2 + longs * time;
        return (mean, ((1 - longs) * 0.04 + longs * time * time) / (mean * mean) - 1);
    }

    /// <returns>How long each request took, waiting included: 0.2 without waiting, or, for the share <paramref name="longs"/>, <paramref name="time"/>.</returns>
    private static double[] Simulate(int workers, double rate, double longs, double time)
    {
        var random = new Random(1);
        var (came, took) = (0.0, new double[Requests]);
        var free = new PriorityQueue<int, double>(Enumerable.Range(0, workers).Select(worker => (worker, 0.0)));
        for (var i = 0; i < Requests; i++)
        {
            came -= Math.Log(1 - random.NextDouble()) / rate;
            var run = random.NextDouble() < longs ? time : 0.2;
            free.TryPeek(out var worker, out var when);
            var done = Math.Max(came, when) + run;
            free.DequeueEnqueue(worker, done);
            took[i] = done - came;
        }
        return took;
    }
}
