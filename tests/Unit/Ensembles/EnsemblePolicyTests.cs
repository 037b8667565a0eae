using Skiff.Apps;
using Skiff.Ensembles;
using Skiff.Selection;

namespace Skiff.Unit.Ensembles;

public sealed class EnsemblePolicyTests
{
    private static readonly string[] Members = ["a", "b"];
    private static readonly float[] Said = [0.9f, 0.1f, 0.2f, 0.8f];

    [Fact]
    public void Exp4_GivesWeightToWhomTheTruthConfirms()
    {
        var policy = Policy(PolicyKind.Exp4);
        var state = policy.Read(null);

        Assert.Null(policy.Learn(state, policy.Keep(-1, Said, 0b11), 1, 0));

        var weights = policy.Weights(policy.Read(policy.Write(state)));
        Assert.True(weights[0] > 0.55, $"{weights[0]}");
        Assert.Equal(1, weights.Sum(), 1e-6);
    }

    [Fact]
    public void Exp4_LeavesWhoWasMissingAsItIs()
    {
        var policy = Policy(PolicyKind.Exp4);
        var state = policy.Read(null);

        Assert.Null(policy.Learn(state, policy.Keep(-1, Said, 0b01), 1, 0));

        Assert.Equal(0.5, policy.Weights(state)[1], 1e-3);
    }

    [Theory]
    [InlineData(PolicyKind.Exp3)]
    [InlineData(PolicyKind.EpsilonGreedy)]
    [InlineData(PolicyKind.Thompson)]
    public void PolicyThatChooses_LearnsFromTheChosenOneAlone(PolicyKind kind)
    {
        var policy = Policy(kind);
        var state = policy.Read(null);

        // b was wrong, four times.
        for (var i = 0; i < 4; i++) Assert.Null(policy.Learn(state, policy.Keep(1, Said, 0b10), 0.5, 0));

        var chosen = Enumerable.Range(0, 200).Select(seed => policy.Choose(state, (ulong)seed)).ToList();
        Assert.True(chosen.Count(choice => choice.Member == 0) > 120);
        foreach (var (member, propensity) in chosen) Assert.InRange(propensity, member == 0 ? 0.5 : 1e-3, member == 0 ? 1 : 0.5);
    }

    [Fact]
    public void SmallerPropensity_CountsForMore()
    {
        var policy = Policy(PolicyKind.Exp3);
        var (rare, frequent) = (policy.Read(null), policy.Read(null));
        policy.Learn(rare, policy.Keep(1, Said, 0b10), 0.1, 0);
        policy.Learn(frequent, policy.Keep(1, Said, 0b10), 1, 0);

        Assert.True(Chance(rare) < Chance(frequent) / 2);

        double Chance(PolicyState state) => Enumerable.Range(0, 50).Select(seed => policy.Choose(state, (ulong)seed)).Where(choice => choice.Member == 1).Select(choice => choice.Propensity).DefaultIfEmpty(0).First();
    }

    [Fact]
    public void StateOfOtherMembersOrOfAnotherKind_StartsAnew()
    {
        var policy = Policy(PolicyKind.Exp4);
        var state = policy.Read(null);
        policy.Learn(state, policy.Keep(-1, Said, 0b11), 1, 0);
        var stored = policy.Write(state);

        Assert.Equal(1u, policy.Read(stored).Updates);
        Assert.Equal(0u, new EnsemblePolicy(new PolicyDocument { Kind = PolicyKind.Exp4 }, ["b", "a"], 2).Read(stored).Updates);
        Assert.Equal(0u, Policy(PolicyKind.Exp3).Read(stored).Updates);
        Assert.Equal(0u, policy.Read(stored[..^1]).Updates);
    }

    [Fact]
    public void AnswersThatDontFit_AreRefusedAndChangeNothing()
    {
        var policy = Policy(PolicyKind.Exp4);
        var chooser = Policy(PolicyKind.Exp3);
        var (state, chosen) = (policy.Read(null), chooser.Read(null));
        var others = new EnsemblePolicy(new PolicyDocument { Kind = PolicyKind.Exp4 }, ["b", "a"], 2);

        Assert.NotNull(policy.Learn(state, [], 1, 0));
        Assert.NotNull(policy.Learn(state, others.Keep(-1, Said, 0b11), 1, 0));
        Assert.NotNull(policy.Learn(state, policy.Keep(-1, Said, 0b11), 1, 2));
        Assert.NotNull(policy.Learn(state, policy.Keep(0, Said, 0b01), 1, 0));
        Assert.NotNull(policy.Learn(state, policy.Keep(-1, Said, 0), 1, 0));
        Assert.NotNull(chooser.Learn(chosen, chooser.Keep(-1, Said, 0b11), 1, 0));
        Assert.NotNull(chooser.Learn(chosen, chooser.Keep(0, Said, 0b01), 0, 0));

        Assert.Equal((0u, 0u), (state.Updates, chosen.Updates));
    }

    private static EnsemblePolicy Policy(PolicyKind kind) => new(new PolicyDocument { Kind = kind }, Members, 2);
}
