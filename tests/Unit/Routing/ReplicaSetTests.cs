using FsCheck;
using FsCheck.Fluent;
using Skiff.Routing;

namespace Skiff.Unit.Routing;

public sealed class ReplicaSetTests
{
    private static readonly RouterOptions Options = new();

    internal static Uri Address(int i) => new($"http://10.0.{i / 256}.{i % 256}:8080");

    [Theory]
    [InlineData(8)]
    [InlineData(64)]
    [InlineData(65)]
    [InlineData(500)]
    public void OneMoreReplica_TakesItsShareAndMovesNothingElse(int count)
    {
        var before = ReplicaSet.Of(Enumerable.Range(0, count).Select(Address), Options);
        var after = ReplicaSet.Of(Enumerable.Range(0, count + 1).Select(Address), Options, before);
        var (moved, step) = (0, count < 100 ? 11u : 1);
        for (uint slot = 0; slot < SlotOrder.Slots; slot += step)
        {
            var owner = after.Replicas[after.Owner(slot)];
            if (owner == before.Replicas[before.Owner(slot)]) continue;
            Assert.Equal(Address(count), owner.Address);
            moved++;
        }
        // Read from the right, the same is a replica that goes: only what it had moves.
        Assert.InRange((double)moved * step / SlotOrder.Slots, 0.9 / (count + 1), 1.1 / (count + 1));
    }

    [Fact]
    public void OwnersFromTheTable_AreThoseThatRankBest()
    {
        var set = ReplicaSet.Of(Enumerable.Range(0, 200).Select(Address), Options);
        Assert.True(set.HasTable);
        for (uint slot = 0; slot < SlotOrder.Slots; slot += 37)
        {
            var (best, rank) = (0, uint.MaxValue);
            for (var i = 0; i < set.Count; i++)
            {
                if (set.Rank(i, slot) < rank) (best, rank) = (i, set.Rank(i, slot));
            }
            Assert.Equal(best, set.Owner(slot));
        }
    }

    [Theory]
    [InlineData(8)]
    [InlineData(100)]
    public void EachReplica_OwnsItsShare(int count)
    {
        var set = ReplicaSet.Of(Enumerable.Range(0, count).Select(Address), Options);
        var owned = new int[count];
        for (uint slot = 0; slot < SlotOrder.Slots; slot += 3) owned[set.Owner(slot)]++;

        Assert.All(owned, each => Assert.InRange(each * 3.0 * count / SlotOrder.Slots, 0.92, 1.08));
    }

    [Fact]
    public void SameAddressesInAnyOrder_GiveTheSameOwners() => Check.One(Config.QuickThrowOnFailure.WithMaxTest(40), Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
    {
        var random = new Random(seed);
        Uri[] addresses = [.. Enumerable.Range(0, random.Next(1, 60)).Select(_ => Address(random.Next(1000)))];
        var one = ReplicaSet.Of(addresses, Options);
        random.Shuffle(addresses);
        var other = ReplicaSet.Of([.. addresses, addresses[0]], Options);

        for (var i = 0; i < 50; i++)
        {
            var slot = SlotOrder.SlotOf(RouteKey.OfUser("t", "a", $"u{random.Next()}"));
            Assert.Equal(one.Replicas[one.Owner(slot)].Name, other.Replicas[other.Owner(slot)].Name);
        }
    }));

    [Fact]
    public void RanksOfAReplica_AreAPermutationThatRunsBackwards()
    {
        var order = new SlotOrder(12345);
        var seen = new bool[SlotOrder.Slots];
        for (uint slot = 0; slot < SlotOrder.Slots; slot++)
        {
            var rank = order.Rank(slot);
            Assert.False(seen[rank]);
            seen[rank] = true;
            Assert.Equal(slot, order.SlotAt(rank));
        }
    }

    [Fact]
    public void Keys_StayWhatTheyAre()
    {
        // Callers of one tier may run different versions.
        Assert.Equal(RouteKey.OfUser("t", "a", "u"), RouteKey.OfUser("t", "a", "u"));
        Assert.NotEqual(RouteKey.OfUser("t", "ab", "c"), RouteKey.OfUser("t", "a", "bc"));
        Assert.NotEqual(RouteKey.OfUser("t", "a", ""), RouteKey.OfModel("t", "a"));
        Assert.Equal(10_000, Enumerable.Range(0, 10_000).Select(i => RouteKey.OfUser("default", "films", $"u{i}")).Distinct().Count());
    }
}
