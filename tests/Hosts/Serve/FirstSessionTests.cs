using System.Globalization;
using System.Net;
using System.Text.Json;
using Skiff.Serve;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

public sealed class FirstSessionTests
{
    [Fact]
    public async Task FirstStart_PublishesAppsThatAnswer()
    {
        await using var server = await SkiffServer.StartAsync(samples: true);

        var (_, apps) = await server.GetAsync("/apps");
        Assert.Equal(["digits", "fashion", "fashion-ensemble", "fashion-exits", "films", "personalizer"], apps.GetProperty("apps").EnumerateArray().Select(app => app.GetProperty("name").GetString()));

        var (status, answer) = await server.PostAsync("/apps/films/predict", """{"user":"u1","input":[42]}""");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.InRange(answer.GetProperty("output").GetDouble(), 1, 10);

        // The first exit is not sure of every image; those that go on do so from what it computed.
        var images = Idx.Read(Repository.Sample("fashion/test-images-idx3-ubyte.gz"));
        var inputs = string.Join(",", Enumerable.Range(0, 64).Select(i => $"[{string.Join(",", images[i].ToArray().Select(pixel => (pixel / 255f).ToString(CultureInfo.InvariantCulture)))}]"));
        var (_, exits) = await server.PostAsync("/apps/fashion-exits/predict", $$"""{"inputs":[{{inputs}}]}""");
        var labels = Idx.Read(Repository.Sample("fashion/test-labels-idx1-ubyte.gz"));
        JsonElement[] predictions = [.. exits.GetProperty("predictions").EnumerateArray()];
        Assert.Equal(["fm_exit1", "fm_exit2", "fm_exit3"], predictions.Select(one => one.GetProperty("stage").GetString()).Distinct().Order());
        Assert.InRange(predictions.Where((one, i) => one.GetProperty("label").GetInt32() == labels.Values[i]).Count(), 56, 64);
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

        Assert.Equal(["digits", "fashion", "fashion-ensemble", "fashion-exits", "films", "personalizer"], await store.NamesAsync("default", ArtifactKind.App, CancellationToken.None));
        Assert.Equal([1], await store.VersionsAsync("default", ArtifactKind.App, "digits", CancellationToken.None));
        Assert.Equal([1], await store.VersionsAsync("default", ArtifactKind.Model, "fm_big", CancellationToken.None));
    }
}
