using FsCheck;
using FsCheck.Fluent;
using Skiff.Ranking;

namespace Skiff.Unit.Ranking;

public sealed class SlotMatchingTests
{
    /// <summary>Small enough to try all ways of filling, with as many exclusions as make about half of them impossible.</summary>
    private static readonly Gen<(bool[][] Allowed, int Seed)> Instances =
        from slots in Gen.Choose(1, 5)
        from actions in Gen.Choose(1, 6)
        from seed in Gen.Choose(0, int.MaxValue - 1)
        from share in Gen.Choose(2, 9)
        select (Draw(slots, actions, share / 10.0, seed), seed);

    [Fact]
    public void OpenActions_AreThoseAfterWhichTheRestCanBeFilled()
    {
        var (filled, refused) = (0, 0);
        Prop.ForAll(Instances.ToArbitrary(), one =>
        {
            var (allowed, random) = (one.Allowed, new Random(one.Seed));
            var matching = new SlotMatching(allowed);
            var taken = new bool[allowed[0].Length];
            if (matching.TryBegin() is { } lack)
            {
                refused++;
                int[] together = [.. lack.Others, lack.Slot];
                return !CanFill(allowed, 0, taken)
                    && lack.Slot == Enumerable.Range(0, allowed.Length).First(slot => !CanFill(allowed[..(slot + 1)], 0, taken))
                    // Why: so many slots, and all that they may have is fewer.
                    && together.Distinct().Count() == lack.Actions.Count + 1
                    && Enumerable.Range(0, taken.Length).Where(action => together.Any(slot => allowed[slot][action])).SequenceEqual(lack.Actions);
            }
            filled++;
            for (var slot = 0; slot < allowed.Length; slot++)
            {
                var open = matching.OpenTo(slot);
                for (var action = 0; action < open.Length; action++)
                {
                    if (open[action] != (allowed[slot][action] && !taken[action] && CanFill(allowed, slot + 1, [.. taken.Select((isTaken, i) => isTaken || i == action)]))) return false;
                }
                var places = Enumerable.Range(0, open.Length).Where(action => open[action]).ToArray();
                var choice = places[random.Next(places.Length)];
                taken[choice] = true;
                matching.Take(slot, choice);
            }
            return true;
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(3000));
        Assert.True(filled > 500 && refused > 500, $"{filled} were filled and {refused} refused");
    }

    private static bool[][] Draw(int slots, int actions, double share, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, slots).Select(_ => Enumerable.Range(0, actions).Select(_ => random.NextDouble() < share).ToArray())];
    }

    /// <summary>By trying all ways.</summary>
    private static bool CanFill(bool[][] allowed, int slot, bool[] taken) =>
        slot == allowed.Length || Enumerable.Range(0, taken.Length).Any(action => allowed[slot][action] && !taken[action] && CanFill(allowed, slot + 1, [.. taken.Select((isTaken, i) => isTaken || i == action)]));
}
