using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>The suite `crash` in small.</summary>
public sealed class CrashTests
{
    [Fact]
    public async Task ServerKilledAtRandomMoments_LosesNothing_CountsNothingTwice_AndHasTheHeadsOfAReplay()
    {
        using var folder = new ScratchFolder();

        var result = await new CrashRun(folder.Path, new CrashPlan(Feedbacks: 400, Duplicates: 0.2, Users: 5, Kills: 3, Seed: 7)).RunAsync(_ => { }, TestContext.Current.CancellationToken);

        Assert.Equal((320, 0, 0), (result.Different, result.Lost, result.Twice));
        Assert.InRange(result.InCommitOrder, 0, 1e-6);
        // In another order the same, but for the rounding of as many updates.
        Assert.InRange(result.InOrderOfIds, 0, 1e-5);
    }
}
