using FsCheck;
using FsCheck.Fluent;
using Skiff.Routing;
using Outcome = Skiff.Routing.Outcome;

namespace Skiff.Unit.Routing;

public sealed class RouterTests
{
    private static readonly ulong Model = RouteKey.OfModel("t", "m");
    private readonly ManualTime _time = new();

    [Fact]
    public void WhateverIsAsked_NobodyHasMoreThanItsShareOfWhatWasGivenOrIsInFlight() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(60), Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
    {
        var random = new Random(seed);
        var count = random.Next(2, ReplicaSet.MostWithoutTable + 1);
        var options = new RouterOptions { Slack = 0.05 + random.NextDouble(), Window = 16, Grace = random.Next(1, 8) };
        var router = Some(count, options);
        var (open, keys) = (new List<Lease>(), random.Next(1, 50));
        double Share(int requests) => requests * ((1 + options.Slack) / count) + options.Grace;
        for (var i = 0; i < 3000; i++)
        {
            if (open.Count > 0 && random.Next(3) == 0)
            {
                var end = random.Next(open.Count);
                open[end].End(Outcome.Answered);
                open.RemoveAt(end);
                continue;
            }
            var replicas = router.Replicas.Replicas.ToArray();
            var share = Share(replicas.Sum(replica => replica.Assigned) + 1);
            var crowd = Share(open.Count + 1);
            var (hasRoom, least) = (replicas.Any(replica => replica.Assigned + 1 <= share && replica.InFlight + 1 <= crowd), replicas.Min(replica => replica.InFlight));

            Assert.True(router.TryTake(RouteKey.OfUser("t", "a", $"{random.Next(keys)}"), 0, null, out var lease));

            open.Add(lease);
            // Many short requests may have filled all but those that are busy with long ones.
            if (hasRoom) Assert.True(lease.Replica.Assigned <= share && lease.Replica.InFlight <= crowd);
            else Assert.Equal(least + 1, lease.Replica.InFlight);
            Assert.InRange(lease.Replica.InFlight, 1, crowd);
            Assert.Equal(open.Count, router.Replicas.Replicas.ToArray().Sum(replica => replica.InFlight));
        }
    }));

    [Fact]
    public void OneHotKey_SpillsOverAsManyReplicasAsItsBoundTakes()
    {
        var router = Some(8);
        var counts = Take(router, 10_000, _ => 7).Values;

        // As many as it takes: 8 / 1.2.
        Assert.Equal(7, counts.Count);
        Assert.True(counts.Max() <= 1.25 * 10_000 / 8, $"one got {counts.Max()}");
    }

    [Fact]
    public void ManyReplicasAndOneHotKey_SpillsToo()
    {
        var router = Some(100);
        var counts = Take(router, 50_000, i => (ulong)(i % 3 == 0 ? 7 : i)).Values;

        Assert.True(counts.Count == 100 && counts.Max() <= 1.25 * 50_000 / 100, $"{counts.Count} were asked, one {counts.Max()}");
    }

    [Fact]
    public void FreeReplicas_AUserAlwaysLandsOnOne()
    {
        var router = Some(8);
        var key = RouteKey.OfUser("t", "a", "ann");
        Assert.Single(Take(router, 4, _ => key));
        Assert.Single(Take(Some(8), 4, _ => key).Keys.Select(replica => replica.Name).Concat(Take(Some(8), 4, _ => key).Keys.Select(replica => replica.Name)).Distinct());
    }

    [Fact]
    public void ModelLoadedElsewhere_OneRequestWarmsTheOwnerAndTheOthersGoWhereItIs()
    {
        var router = Some(8);
        foreach (var replica in router.Replicas.Replicas) router.Say(replica, new ReplicaReport { Warm = [] });
        Assert.True(router.TryTake(5, Model, null, out var first));
        first.End(Outcome.Answered);
        var owner = first.Replica;
        var other = router.Replicas.Replicas[0] == owner ? router.Replicas.Replicas[1] : router.Replicas.Replicas[0];
        router.Say(other, new ReplicaReport { Warm = [Model] });

        Assert.True(router.TryTake(5, Model, null, out var warming));
        Assert.Equal(owner, warming.Replica);
        Assert.True(router.TryTake(5, Model, null, out var meanwhile));
        Assert.Equal(other, meanwhile.Replica);

        router.Say(owner, new ReplicaReport { Warm = [Model] });
        warming.End(Outcome.Answered);
        Assert.True(router.TryTake(5, Model, null, out var after));
        Assert.Equal(owner, after.Replica);
    }

    [Fact]
    public void ReplicaThatSaysItIsSaturated_IsPassedOverUntilThatIsOld()
    {
        var router = Some(4);
        router.TryTake(5, 0, null, out var lease);
        router.Say(lease.Replica, new ReplicaReport { Load = 1, Queue = 3 });

        router.TryTake(5, 0, null, out var next);
        Assert.NotEqual(lease.Replica, next.Replica);
        _time.Advance(router.Options.ReportAge);
        router.TryTake(5, 0, null, out var later);
        Assert.Equal(lease.Replica, later.Replica);
    }

    [Fact]
    public void DeadReplica_IsLeftOutAtOnce_AndTriedOnceAfterEachPause()
    {
        var router = Some(4);
        router.TryTake(5, 0, null, out var lease);
        var dead = lease.Replica;
        lease.End(Outcome.Unreachable);
        Assert.True(dead.IsOut);
        Assert.DoesNotContain(dead, Take(router, 50, i => (ulong)i).Keys);

        _time.Advance(router.Options.Pause);
        Assert.True(router.TryTake(5, 0, null, out var trial));
        Assert.Equal(dead, trial.Replica);
        Assert.True(router.TryTake(5, 0, null, out var besides));
        Assert.NotEqual(dead, besides.Replica);
        trial.End(Outcome.Failed);

        _time.Advance(router.Options.Pause);
        Assert.DoesNotContain(dead, Take(router, 50, i => (ulong)i).Keys);
        _time.Advance(router.Options.Pause);
        Assert.True(router.TryTake(5, 0, null, out trial));
        Assert.Equal(dead, trial.Replica);
        trial.End(Outcome.Answered);
        Assert.False(dead.IsOut);
        Assert.Contains(dead, Take(router, 50, i => (ulong)i).Keys);
    }

    [Fact]
    public void Failures_OpenACircuitOnlyInARow_AndAFewRefusalsDoNot()
    {
        var router = Some(1);
        foreach (var outcome in new[] { Outcome.Failed, Outcome.Failed, Outcome.Answered, Outcome.Failed, Outcome.Failed, Outcome.Refused, Outcome.Refused, Outcome.Abandoned })
        {
            Assert.True(router.TryTake(1, 0, null, out var lease));
            lease.End(outcome);
        }
        Assert.True(router.TryTake(1, 0, null, out var last));
        last.End(Outcome.Failed);
        Assert.False(router.TryTake(1, 0, null, out _));
    }

    [Fact]
    public void CallersWithoutTime_SayNothingOfAReplica_AndOneStallOfManyIsNoFailure()
    {
        var router = Some(1);
        for (var i = 0; i < 1000; i++)
        {
            Assert.True(router.TryTake(1, Model, null, out var answered));
            _time.Advance(TimeSpan.FromMilliseconds(5));
            answered.End(Outcome.Answered);
        }
        for (var i = 0; i < 1000; i++)
        {
            Assert.True(router.TryTake(1, Model, null, out var hasty));
            _time.Advance(TimeSpan.FromMilliseconds(1));
            hasty.End(Outcome.Overdue);
        }
        var (waiting, replica) = (new List<Lease>(), router.Replicas.Replicas[0]);
        for (var i = 0; i < 50; i++)
        {
            Assert.True(router.TryTake(1, Model, null, out var one));
            waiting.Add(one);
        }
        _time.Advance(TimeSpan.FromMilliseconds(60));
        foreach (var one in waiting) one.End(Outcome.Overdue);
        Assert.False(replica.IsOut);

        // It goes on.
        Assert.True(router.TryTake(1, Model, null, out var last));
        _time.Advance(TimeSpan.FromMilliseconds(200));
        last.End(Outcome.Overdue);
        Assert.True(replica.IsOut);
    }

    [Fact]
    public void ReplicaThatRefusesEverything_IsLeftOut_ButNotWhereMostDo()
    {
        var router = Some(4);
        var replicas = router.Replicas.Replicas.ToArray();
        for (var i = 0; i < 200; i++)
        {
            Assert.True(router.TryTake((ulong)i, 0, null, out var lease));
            lease.End(lease.Replica == replicas[0] ? Outcome.Refused : Outcome.Answered);
        }
        Assert.Equal([replicas[0]], replicas.Where(replica => replica.IsOut));

        // Its trials are few, and one that is answered brings it back.
        _time.Advance(router.Options.Pause);
        Assert.Equal(1, Take(router, 100, i => (ulong)i, replica => replica == replicas[0] ? Outcome.Refused : Outcome.Answered).GetValueOrDefault(replicas[0]));
        _time.Advance(2 * router.Options.Pause);
        Take(router, 100, i => (ulong)i);
        Assert.False(replicas[0].IsOut);

        Take(router, 2000, i => (ulong)i, _ => Outcome.Refused);
        Assert.Equal(2, replicas.Count(replica => replica.IsOut));
    }

    [Fact]
    public void ReplicaThatJoinsOthers_WarmsUpWithCopies_AndTheFirstOnesDoNot()
    {
        var router = Some(2);
        Assert.DoesNotContain(router.Replicas.Replicas.ToArray(), replica => replica.IsOut);

        router.Replace([.. router.Replicas.Replicas.ToArray().Select(replica => replica.Address), new Uri("http://10.0.0.99:8090")]);

        var joined = router.Replicas.Replicas.ToArray().Single(replica => replica.Name.Contains("99", StringComparison.Ordinal));
        Assert.DoesNotContain(joined, Take(router, 100, i => (ulong)i).Keys);
        for (var i = 0; i < 64; i++)
        {
            Assert.True(router.TryTakeSlow(Model, null, out var copy));
            Assert.Equal(joined, copy.Replica);
            copy.End(Outcome.Answered);
        }
        Assert.Contains(joined, Take(router, 100, i => (ulong)i).Keys);
    }

    [Fact]
    public void AllOut_NobodyIsAsked_AndAProbeBringsOneBack()
    {
        var router = Some(3);
        foreach (var replica in router.Replicas.Replicas) router.Probed(replica, isWell: false);
        Assert.False(router.TryTake(1, 0, null, out _));
        router.Probed(router.Replicas.Replicas[1], isWell: true);
        Assert.True(router.TryTake(1, 0, null, out var lease));
        Assert.Equal(router.Replicas.Replicas[1], lease.Replica);
    }

    [Fact]
    public void LateReplica_IsLeftOut_ButAskedWhereThereIsNoOther_AndNoProbeBringsItBack()
    {
        var router = Some(2, new RouterOptions { AsksLateOnes = true });
        var (late, gone) = (router.Replicas.Replicas[0], router.Replicas.Replicas[1]);
        router.Probed(gone, isWell: false);
        for (var i = 0; i < router.Options.Failures; i++)
        {
            Assert.True(router.TryTake(1, 0, null, out var lease));
            Assert.Equal(late, lease.Replica);
            _time.Advance(TimeSpan.FromMilliseconds(60));
            lease.End(Outcome.Overdue);
        }
        Assert.True(late.IsOut);
        Assert.True(router.TryTake(1, 0, null, out var anyhow));
        Assert.Equal(late, anyhow.Replica);
        anyhow.End(Outcome.Abandoned);
        Assert.False(router.TryTake(1, 0, late, out _));

        router.Probed(late, isWell: true);
        Assert.True(late.IsOut);
        router.Probed(late, isWell: false, isDecisive: false);
        Assert.False(router.TryTake(1, 0, null, out _));
        router.Probed(late, isWell: true);
        Assert.False(late.IsOut);
    }

    [Fact]
    public void ProbeThatWasMissed_SaysNothing_AndATrialThatIsRefusedIsFreeForTheNext()
    {
        var router = Some(2);
        var replica = router.Replicas.Replicas[0];
        router.Probed(replica, isWell: false, isDecisive: false);
        router.Probed(replica, isWell: true);
        Assert.False(replica.IsOut);

        router.Probed(replica, isWell: false);
        router.Probed(replica, isWell: true);
        Assert.True(replica.IsOut);
        for (var i = 0; i < 3; i++)
        {
            Assert.True(router.TryTakeSlow(0, null, out var trial));
            trial.End(Outcome.Refused);
        }
    }

    [Fact]
    public void LateOneInTwenty_StaysIn_LateMostly_IsLeftOut_UntilItIsInTimeSeveralTimes()
    {
        var router = Some(3, new RouterOptions { AsksLateOnes = true });
        var replica = router.Replicas.Replicas[0];
        var key = Enumerable.Range(0, 100).Select(i => (ulong)i).First(key => Chosen(key) == replica);
        for (var i = 0; i < 400; i++) End(i % 20 == 0 ? Outcome.Late : Outcome.Answered);
        Assert.False(replica.IsOut);

        for (var i = 0; i < 40 && !replica.IsOut; i++) End(i % 2 == 0 ? Outcome.Late : Outcome.Answered);
        Assert.True(replica.IsOut);

        // From here on nobody waits for it; a copy that is in time by chance brings nothing back, and one late after the other makes the pauses longer.
        Assert.False(router.TryTakeSlow(0, null, out _));
        _time.Advance(router.Options.Pause);
        Assert.NotEqual(replica, Chosen(key));
        for (var i = 0; i < 10; i++) Copy(Outcome.Answered);
        Assert.True(replica.IsOut);
        Copy(Outcome.Late);
        for (var pause = router.Options.Pause; pause < router.Options.LongestPause; pause *= 2)
        {
            _time.Advance(pause - TimeSpan.FromMilliseconds(1));
            Assert.False(router.TryTakeSlow(0, null, out _));
            _time.Advance(TimeSpan.FromMilliseconds(1));
            Copy(Outcome.Late);
        }
        _time.Advance(router.Options.LongestPause);
        // Late no more often than others: each time it waits no longer than the first time.
        for (var i = 1; i <= 100 && replica.IsOut; i++)
        {
            Copy(i % 20 == 0 ? Outcome.Late : Outcome.Answered);
            if (i % 20 == 0) _time.Advance(router.Options.Pause);
        }
        Assert.False(replica.IsOut);
        Assert.Equal(replica, Chosen(key));

        void Copy(Outcome outcome)
        {
            Assert.True(router.TryTakeSlow(0, null, out var copy));
            Assert.Equal(replica, copy.Replica);
            copy.End(outcome);
        }

        // Others take their share, so that its own is not above the bound.
        void End(Outcome outcome)
        {
            foreach (var other in router.Replicas.Replicas)
            {
                if (other == replica) continue;
                Assert.True(router.TryTake(Enumerable.Range(0, 1000).Select(i => (ulong)i).First(each => Chosen(each) == other), 0, null, out var lease));
                lease.End(Outcome.Answered);
            }
            Assert.True(router.TryTake(key, 0, null, out var own));
            Assert.Equal(replica, own.Replica);
            own.End(outcome);
        }

        Replica Chosen(ulong each)
        {
            Assert.True(router.TryTake(each, 0, null, out var lease));
            lease.End(Outcome.Abandoned);
            return lease.Replica;
        }
    }

    [Fact]
    public void ReplicaThatIsBack_WarmsUpWithCopies_OneShortlyAfterTheOther()
    {
        var router = Some(3);
        var replica = router.Replicas.Replicas[1];
        router.Probed(replica, isWell: false);
        router.Probed(replica, isWell: true);
        for (var i = 0; i < 20; i++)
        {
            Assert.DoesNotContain(replica, Take(router, 50, each => (ulong)each).Keys);
            Assert.True(router.TryTakeSlow(Model, null, out var copy));
            copy.End(Outcome.Late);
            _time.Advance(TimeSpan.FromMilliseconds(50));
        }
        for (var i = 0; i < 64; i++)
        {
            Assert.True(router.TryTakeSlow(Model, null, out var copy));
            copy.End(Outcome.Answered);
        }
        Assert.Contains(replica, Take(router, 50, each => (ulong)each).Keys);
    }

    [Fact]
    public void AllLate_ItIsTheLoad_AndAtMostHalfAreLeftOut()
    {
        var router = Some(4, new RouterOptions { AsksLateOnes = true });
        for (var i = 0; i < 200; i++)
        {
            Assert.True(router.TryTake((ulong)i, 0, null, out var lease));
            lease.End(Outcome.Late);
        }
        Assert.Equal(2, router.Replicas.Replicas.ToArray().Count(replica => replica.IsOut));
    }

    [Fact]
    public void HedgeDelay_OneSlowReplicaOfThree_IsThatOfTheOthers()
    {
        var router = Some(3);
        for (var i = 1; i <= 960; i++)
        {
            Assert.True(router.TryTake((ulong)i, Model, null, out var lease));
            _time.Advance(TimeSpan.FromMilliseconds(lease.Replica == router.Replicas.Replicas[1] ? 200 : 10));
            lease.End(Outcome.Answered);
        }
        Assert.InRange(router.HedgeDelay(Model)!.Value.TotalMilliseconds, 10, 12);
    }

    [Fact]
    public void Replaced_WhoStaysKeepsWhatIsKnown_AndRequestsOfThoseGoneEnd()
    {
        var router = Some(3);
        var (goes, stays) = (router.Replicas.Replicas[0], router.Replicas.Replicas[1]);
        var leases = new List<Lease>();
        for (var i = 0; i < 9; i++)
        {
            router.TryTake((ulong)i, 0, null, out var lease);
            leases.Add(lease);
        }
        router.Probed(stays, isWell: false);
        router.Replace(Enumerable.Range(1, 3).Select(ReplicaSetTests.Address));

        Assert.DoesNotContain(goes, router.Replicas.Replicas.ToArray());
        Assert.Same(stays, router.Replicas.Replicas[0]);
        Assert.True(stays.IsOut);
        foreach (var lease in leases) lease.End(Outcome.Answered);
        Assert.Equal(0, goes.InFlight);
    }

    [Fact]
    public void NoReplicas_NobodyIsAsked() => Assert.False(new Router(new RouterOptions(), _time).TryTake(1, 0, null, out _));

    [Fact]
    public void Choice_AllocatesNothing()
    {
        var router = Some(64);
        Run(2000);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Run(2000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Run(int times)
        {
            for (var i = 0; i < times; i++)
            {
                router.TryTake((ulong)i, Model, null, out var lease);
                lease.End(Outcome.Answered);
            }
        }
    }

    [Fact]
    public void SecondAttempts_AreAShareOfRequests()
    {
        var budget = new RetryBudget(new RouterOptions { RetryShare = 0.1, RetryReserve = 5 });
        var spent = 0;
        for (var i = 0; i < 1000; i++)
        {
            budget.Pay();
            if (budget.TrySpend()) spent++;
        }
        Assert.InRange(spent, 100, 105);
    }

    [Fact]
    public void HedgeDelay_IsTheQuantileOfWhatWasMeasured_PerModel()
    {
        var router = Some(2);
        Assert.Null(router.HedgeDelay(Model));
        for (var i = 1; i <= 320; i++)
        {
            router.TryTake((ulong)i, Model, null, out var lease);
            _time.Advance(TimeSpan.FromMilliseconds(i % 100 < 90 ? 10 : 100));
            lease.End(Outcome.Answered);
        }
        Assert.InRange(router.HedgeDelay(Model)!.Value.TotalMilliseconds, 100, 113);
        Assert.Null(router.HedgeDelay(Model + 1));
        Assert.Null(Some(2, new RouterOptions { HedgeQuantile = 1 }).HedgeDelay(Model));
    }

    [Theory]
    [InlineData("0.85", "12", "acme/fm_big, acme/fm_small", "0.1.0", 0.85, 12, 2, "0.1.0")]
    [InlineData("NaN", "-1", "", "", null, null, 0, null)]
    [InlineData("-0.5", "1e3", ",,,/,a,/b,a/../b,acme/ok", "a b", null, null, 1, null)]
    [InlineData("99999999999999999999", "99999999999999999999", null, "\u0001", null, null, null, null)]
    [InlineData(null, null, null, null, null, null, null, null)]
    public void Report_WhatCannotBeReadIsUnknown(string? load, string? queue, string? warm, string? version, double? isLoad, int? isQueue, int? models, string? isVersion)
    {
        var report = ReplicaReport.Parse(load, queue, warm, version);
        Assert.Equal((isLoad, isQueue, models, isVersion), (report.Load, report.Queue, report.Warm?.Count, report.Version));
    }

    [Fact]
    public void Report_AnyText_IsReadOrUnknown() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(500), Prop.ForAll(ArbMap.Default.ArbFor<string?>(), text =>
    {
        var report = ReplicaReport.Parse(text, text, text, text);
        Assert.True(report.Load is null or >= 0 and <= 1e6);
        Assert.True(report.Queue is null or >= 0);
        Assert.True(report.Warm is null or { Count: <= ReplicaReport.MostWarm });
    }));

    private Router Some(int count, RouterOptions? options = null)
    {
        var router = new Router(options ?? new RouterOptions(), _time);
        router.Replace(Enumerable.Range(0, count).Select(ReplicaSetTests.Address));
        return router;
    }

    private static Dictionary<Replica, int> Take(Router router, int times, Func<int, ulong> key, Func<Replica, Outcome>? ends = null)
    {
        var counts = new Dictionary<Replica, int>();
        for (var i = 0; i < times; i++)
        {
            Assert.True(router.TryTake(key(i), 0, null, out var lease));
            lease.End(ends?.Invoke(lease.Replica) ?? Outcome.Answered);
            counts[lease.Replica] = counts.GetValueOrDefault(lease.Replica) + 1;
        }
        return counts;
    }
}
