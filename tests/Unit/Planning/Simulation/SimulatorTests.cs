using FsCheck;
using FsCheck.Fluent;
using Skiff.Planning;
using Skiff.Planning.Simulation;
using Skiff.Selection;

namespace Skiff.Unit.Planning.Simulation;

public sealed class SimulatorTests
{
    [Theory]
    [InlineData(0.5)]
    [InlineData(0.8)]
    public void OneWorker_WaitsAsMm1AndMd1Do(double load)
    {
        var rate = load / 0.01;
        var random = Run(new TierOptions { Instances = 1, Placement = Placement.Random }, rate);
        var constant = Run(new TierOptions { Instances = 1, Placement = Placement.Random, Distribution = ServiceTime.Constant }, rate);

        Close(Queueing.MeanWait(1, rate, 0.01) + 0.01, random.Mean, 0.06);
        Close(Queueing.MeanWait(1, rate, 0.01, 0) + 0.01, constant.Mean, 0.04);
        // The time in an M/M/1 is exponential.
        Close(Math.Log(2) * random.Mean, random.P50, 0.06);
        Close(load, random.Front.Utilisation, 0.03);
    }

    [Fact]
    public void ManyWorkersOfOneInstance_WaitAsErlangSays()
    {
        var result = Run(new TierOptions { Instances = 1, Concurrency = 8, Placement = Placement.RoundRobin }, 680);
        Close(Queueing.MeanWait(8, 680, 0.01) + 0.01, result.Mean, 0.05);
    }

    [Fact]
    public void OneLineForAll_WaitsAsErlangSays()
    {
        var result = Run(new TierOptions { Instances = 8, Placement = Placement.Platform }, 680);
        Close(Queueing.MeanWait(8, 680, 0.01) + 0.01, result.Mean, 0.05);
    }

    [Theory]
    [InlineData(Placement.Random)]
    [InlineData(Placement.LeastLoaded)]
    [InlineData(Placement.Bounded)]
    public void Anything_AsManyArePresentAsComeWhileOneStays(Placement placement)
    {
        var result = Run(new TierOptions { Instances = 6, Placement = placement, CachedUsers = 50, Miss = 0.004 }, 300);
        Close(300 * result.Mean, result.MeanPresent, 0.03);
    }

    [Fact]
    public void LeastLoaded_WaitsLessThanRoundRobinThanRandom()
    {
        double[] means = [.. new[] { Placement.LeastLoaded, Placement.RoundRobin, Placement.Random }.Select(placement => Run(new TierOptions { Instances = 8, Placement = placement }, 600).Mean)];
        Assert.True(means[0] < means[1] && means[1] < means[2], string.Join(", ", means));
    }

    [Theory]
    [InlineData(Placement.Random)]
    [InlineData(Placement.LeastLoaded)]
    [InlineData(Placement.Warm)]
    public void SameSeed_SameResult_AnotherSeedAnother(Placement placement)
    {
        var tier = new TierOptions { Instances = 5, Placement = placement, CachedUsers = 20, LoadedModels = 2, Load = 0.05, ColdStart = 0.1, KeepAlive = 0.2 };
        var one = Run(tier, 100, 20_000, models: 6);

        Assert.Equal(one, Run(tier, 100, 20_000, models: 6));
        Assert.NotEqual(one.Mean, Run(tier, 100, 20_000, models: 6, seed: 9).Mean);
    }

    [Fact]
    public void HeavyTier_GetsItsShareAndAddsItsTime()
    {
        var options = new SimulationOptions
        {
            Front = new TierOptions { Instances = 1, Concurrency = 1000, Placement = Placement.Random, Distribution = ServiceTime.Constant },
            Heavy = new TierOptions { Instances = 3, Concurrency = 1000, Distribution = ServiceTime.Constant, Service = 0.1 },
            Escalated = 0.25,
        };
        var result = Simulator.Run(options, Requests(100, 40_000), null, CancellationToken.None);

        Close(0.25, (double)result.Heavy!.Requests / result.Front.Requests, 0.05);
        Close(0.01 + 0.25 * 0.1, result.Mean, 0.04);
        Close(result.Seconds / 3600 * 3 * 2, result.Cost(new TierPrices { ReplicaHour = 2, FunctionGigabytes = 1e-9 }) - result.Front.Requests * Prices.FunctionRequest, 1e-3);
    }

    [Fact]
    public void IdleInstances_GoColdAfterKeepAlive_ProvisionedOnesNever()
    {
        var trace = TraceArrivals.Parse(new StringReader("time,user\n0,a\n1,a\n12,a\n13,a\n"));
        var tier = new TierOptions { Instances = 1, Placement = Placement.Platform, Distribution = ServiceTime.Constant, ColdStart = 0.5, KeepAlive = 10, CachedUsers = 5 };

        var result = Simulator.Run(new SimulationOptions { Front = tier, WarmUp = 0 }, trace, null, CancellationToken.None);
        var provisioned = Simulator.Run(new SimulationOptions { Front = tier with { Provisioned = 1 }, WarmUp = 0 }, trace, null, CancellationToken.None);

        Assert.Equal((2, 2), (result.Front.ColdStarts, result.Front.Hits));
        Assert.Equal((0, 3), (provisioned.Front.ColdStarts, provisioned.Front.Hits));
        Assert.Equal(1.04, result.Front.BusySeconds, 1e-9);
        Assert.Equal(0.04, provisioned.Front.BusyProvisionedSeconds, 1e-9);
    }

    [Fact]
    public void RoutedByModel_WarmLoadsFewerModelsThanRandom()
    {
        var tier = new TierOptions { Instances = 8, LoadedModels = 4, Load = 0.05, ByModel = true };
        var (warm, random) = (Run(tier with { Placement = Placement.Warm }, 100, 40_000, models: 24), Run(tier with { Placement = Placement.Random }, 100, 40_000, models: 24));
        Assert.True(warm.Front.Loads < random.Front.Loads / 5, $"{warm.Front.Loads} against {random.Front.Loads}");
    }

    [Theory]
    [InlineData("1,a\n0,b\n", "line 2: time 0 comes after 1")]
    [InlineData("0,a\nx,b\n", "line 2: 'x' is no time")]
    [InlineData("0\n", "line 1: '0' is no request; it takes time,user")]
    [InlineData("0,a,b,c\n", "line 1: '0,a,b,c' is no request; it takes time,user")]
    [InlineData("1;a\n2,a\n", "line 1: '1;a' is no request; it takes time,user")]
    [InlineData("1 s,a\n2,a\n", "line 1: '1 s' is no time; it takes seconds")]
    [InlineData("nan,a\n2,a\n", "line 1: 'nan' is no time; it takes seconds")]
    [InlineData("1e400,a\n2,a\n", "line 1: '1e400' is no time; it takes seconds")]
    [InlineData("-x,a\n2,a\n", "line 1: '-x' is no time; it takes seconds")]
    [InlineData(",a\n2,a\n", "line 1: '' is no time; it takes seconds")]
    [InlineData("1700000000000,a\n", "line 1: '1700000000000' is no time; it takes seconds")]
    [InlineData("\ntime,user\n2,a\n", "line 2: 'time' is no time; it takes seconds")]
    [InlineData("", "there is no request")]
    [InlineData("time,user\nInfinity,b", "line 2: 'Infinity' is no time")]
    public void TraceThatIsNone_IsRefusedByItsLine(string text, string says) =>
        Assert.StartsWith(says, Assert.Throws<FormatException>(() => TraceArrivals.Parse(new StringReader(text))).Message);

    [Fact]
    public void Zipf_DrawsByItsLaw()
    {
        var (zipf, random, counts) = (new Zipf(100, 1), new SeededRandom(3), new int[100]);
        for (var i = 0; i < 200_000; i++) counts[zipf.Next(ref random)]++;
        var harmonic = Enumerable.Range(1, 100).Sum(i => 1.0 / i);

        for (var i = 0; i < 100; i++) Assert.Equal(200_000 / harmonic / (i + 1), counts[i], 6 * Math.Sqrt(200_000 / harmonic / (i + 1)));
    }

    [Fact]
    public void Kepler_IsSolvedEverywhere() => Prop.ForAll(
        Gen.Zip(Gen.Choose(0, 1_000_000), Gen.Choose(0, 1000)).ToArbitrary(), pair =>
        {
            var (x, e) = (Math.Tau * Math.Pow(pair.Item1 / 1e6, 2), pair.Item2 / 1000.0);
            var m = x - e * Math.Sin(x);
            var found = GeneratedArrivals.Kepler(m, e, 0);
            Assert.Equal(m, found - e * Math.Sin(found), 1e-13);
            Assert.InRange(GeneratedArrivals.Kepler(m, e, found / 2), found - 1e-4, found + 1e-4);
        }).QuickCheckThrowOnFailure();

    [Theory]
    [InlineData(1e7, 1e9)]
    [InlineData(1e7, 1e-3)]
    [InlineData(1e-3, 1e9)]
    [InlineData(1e-3, 1e-3)]
    public void Swing_AtTheEndsOfItsRange_ComesInOrder_AsOftenAsTheRateSays(double rate, double day)
    {
        var last = 0.0;
        foreach (var arrival in new GeneratedArrivals(20_000, rate, 10, 1, 1, 1, 1, day, 5).Read())
        {
            Assert.True(arrival.Time >= last);
            last = arrival.Time;
        }
        // Over [0, t] come rate (t − day / 2π sin(2π t / day)) on average.
        var angle = Math.Tau * (last / day % 1);
        var expected = last < day && angle < 1e-3 ? rate * day / Math.Tau * angle * angle * angle / 6 : rate * (last - day / Math.Tau * Math.Sin(angle));
        Assert.Equal(20_000, expected, 600.0);
    }

    [Fact]
    public void Swing_MovesTheRateWithTheDay()
    {
        var arrivals = new GeneratedArrivals(50_000, 100, 10, 1, 1, 1, 0.8, 100, 5).Read().ToArray();
        var (night, noon) = (arrivals.Count(arrival => arrival.Time % 100 is < 10 or > 90), arrivals.Count(arrival => arrival.Time % 100 is > 40 and < 60));

        Close(100, arrivals.Length / arrivals[^1].Time, 0.03);
        Assert.InRange((double)noon / night, 5, 9); // 1.75 to 0.25 of the mean, by the integral
    }

    [Fact]
    public void LruSet_IsALeastRecentlyUsedList() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(50), Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
    {
        var random = new Random(seed);
        var capacity = random.Next(0, 40);
        var (set, list) = (new LruSet(capacity), new List<int>());
        for (var i = 0; i < 1000; i++)
        {
            var value = random.Next(60);
            Assert.Equal(list.Contains(value), set.Contains(value));
            Assert.Equal(list.Remove(value), set.Touch(value));
            list.Insert(0, value);
            if (list.Count > capacity) list.RemoveAt(capacity);
            if (random.Next(300) == 0)
            {
                set.Clear();
                list.Clear();
            }
            Assert.Equal(list, set.Values());
        }
    }));

    [Fact]
    public void LoadOrder_KnowsTheLeast() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(50), Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
    {
        var random = new Random(seed);
        var loads = new int[random.Next(1, 20)];
        var order = new LoadOrder(loads.Length);
        for (var i = 0; i < 1000; i++)
        {
            var instance = random.Next(loads.Length);
            if (random.Next(2) == 0 && loads[instance] > 0)
            {
                order.Remove(instance);
                loads[instance]--;
            }
            else
            {
                order.Add(instance);
                loads[instance]++;
            }
            var (load, count) = order.Least();
            Assert.Equal((loads.Min(), loads.Count(each => each == load)), (load, count));
            for (var k = 0; k < count; k++) Assert.Equal(load, loads[order.At(k)]);
        }
    }));

    private static GeneratedArrivals Requests(double rate, long count, int models = 1, ulong seed = 4) => new(count, rate, 200, 1, models, 1, 0, 86_400, seed);

    private static SimulationResult Run(TierOptions tier, double rate, long requests = 150_000, int models = 1, ulong seed = 4) =>
        Simulator.Run(new SimulationOptions { Front = tier, Seed = seed }, Requests(rate, requests, models, seed), null, CancellationToken.None);

    private static void Close(double expected, double actual, double share) => Assert.InRange(actual, expected * (1 - share), expected * (1 + share));
}
