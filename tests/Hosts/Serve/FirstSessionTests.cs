using System.Net;
using Skiff.Serve;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

public sealed class FirstSessionTests
{
    [Fact]
    public async Task FirstStart_PublishesThreeAppsThatAnswer()
    {
        await using var server = await SkiffServer.StartAsync(samples: true);

        var (_, apps) = await server.GetAsync("/apps");
        Assert.Equal(["digits", "fashion", "films"], apps.GetProperty("apps").EnumerateArray().Select(app => app.GetProperty("name").GetString()));

        var (status, answer) = await server.PostAsync("/apps/films/predict", """{"user":"u1","input":[42]}""");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.InRange(answer.GetProperty("output").GetDouble(), 1, 10);
    }

    [Fact]
    public async Task FirstStartThatWasCutShort_IsFinishedByTheSecond()
    {
        using var folder = new ScratchFolder();
        var store = new ModelStore(new FileObjectStore(folder.Path), TimeProvider.System);
        await Samples.PublishAsync(Samples.Folder, store, ["default"], CancellationToken.None);
        Directory.Delete(Path.Combine(folder.Path, "default", "apps", "films"), recursive: true);
        Directory.Delete(Path.Combine(folder.Path, "default", "priors", "mt_priors", "aliases"), recursive: true);

        await Samples.PublishAsync(Samples.Folder, store, ["default"], CancellationToken.None);

        Assert.Equal(["digits", "fashion", "films"], await store.NamesAsync("default", ArtifactKind.App, CancellationToken.None));
        Assert.Equal([1], await store.VersionsAsync("default", ArtifactKind.App, "digits", CancellationToken.None));
        Assert.Equal([1], await store.VersionsAsync("default", ArtifactKind.Model, "fm_big", CancellationToken.None));
    }
}
