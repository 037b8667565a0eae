using Skiff.Planning;

namespace Skiff.Unit.Planning;

public sealed class CapacityPlannerTests
{
    private static readonly CapacityQuestion Question = new() { Rate = 2000, Escalated = 0.13, Objective = 0.05, Light = 0.0005, Heavy = 0.02, LightOnReplica = 0.0005, HeavyOnReplica = 0.002 };

    [Fact]
    public void LittleTraffic_FunctionsAlone_MuchTraffic_NotTheirHeavyPart()
    {
        Assert.Equal(CapacityShape.Functions, CapacityPlanner.Plan(Question with { Rate = 1 })[0].Shape);
        Assert.NotEqual(CapacityShape.Functions, CapacityPlanner.Plan(Question with { Rate = 20_000 })[0].Shape);
    }

    [Fact]
    public void EachPlan_MeetsTheObjective_AndOneReplicaLessWouldNot()
    {
        foreach (var rate in new[] { 5.0, 300, 4000, 60_000 })
        {
            foreach (var plan in CapacityPlanner.Plan(Question with { Rate = rate, Objective = 0.006 }))
            {
                Assert.InRange(plan.Late, 0, 0.01);
                if (plan.Shape != CapacityShape.Mixed || plan.Replicas == 1) continue;
                var fewer = 0.13 * Queueing.WaitsLonger(plan.Replicas - 1, 0.13 * rate, 0.002, 0, 0.006 - 0.0035);
                Assert.True(fewer > 0.01 || 0.13 * rate * 0.002 > 0.95 * (plan.Replicas - 1), $"{plan} at {rate}");
            }
        }
    }

    [Fact]
    public void SpotReplicas_AreOnlyThoseThatTheLoadItselfDoesNotNeed_AndNoneWhereTheyCostMore()
    {
        var question = Question with { Rate = 6000, Objective = 0.004 };
        var mixed = CapacityPlanner.Plan(question).Single(plan => plan.Shape == CapacityShape.Mixed);
        var dear = CapacityPlanner.Plan(question with { Prices = new TierPrices { SpotHour = 5 } }).Single(plan => plan.Shape == CapacityShape.Mixed);

        Assert.True(mixed.Spot > 0 && 6000 * 0.13 * 0.002 < mixed.OnDemand, $"{mixed}");
        Assert.Equal((mixed.Replicas, 0), (dear.OnDemand, dear.Spot));
        Assert.True(dear.DollarsAnHour > mixed.DollarsAnHour);
    }

    [Fact]
    public void ObjectiveBelowTheRunTimes_HasNoPlan() => Assert.Empty(CapacityPlanner.Plan(Question with { Objective = 0.0004 }));

    [Fact]
    public void QuestionOutOfRange_IsRefused()
    {
        Assert.Throws<ArgumentException>(() => CapacityPlanner.Plan(Question with { Rate = 0 }));
        Assert.Throws<ArgumentException>(() => CapacityPlanner.Plan(Question with { Escalated = double.NaN }));
    }
}
