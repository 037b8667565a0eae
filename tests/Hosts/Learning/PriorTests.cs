using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>A prior made anew of what users have taught.</summary>
public sealed class PriorTests
{
    private const double Precision = 1e-6;

    private const string Document = """
        {"name":"echo","input":{"name":"x","type":"FP32","shape":[3]},"labels":["yes","no"],
         "head":{"features":"echo_body","kind":"classes","prior":"echo_prior","prior_strength":1,"forgetting":0.9,"guards":false}}
        """;

    [Fact]
    public async Task RefreshedPrior_IsWhereNewUsersBegin_AndMovesNobodyElse()
    {
        using var folder = new ScratchFolder();
        await using var server = await SkiffServer.StartAsync(folder.Path);
        await server.PushAsync("echo_body", OnnxBuilder.Identity(DataType.Fp32, -1, 3));
        await server.PushAsync("echo_prior", """{"prior_mean":[[0,0],[0,0],[0,0],[0,0]],"prior_gram":[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}"""u8.ToArray());
        await server.PushAppAsync(Document);
        var app = new EchoApp(server.Client);
        foreach (var user in (string[])["ann", "ben"]) await TeachAsync(app, user, 3);
        await app.ProcessedAsync(6);
        var before = await app.ScoreAsync("ann");
        Assert.Equal(0, await app.ScoreAsync("new"), Precision);

        var few = await SkiffProcess.RunAsync("prior", "refresh", "echo", "--data", folder.Path);
        Assert.Contains("too few", few.Error);
        var refresh = await SkiffProcess.RunAsync("prior", "refresh", "echo", "--least", "2", "--data", folder.Path);

        Assert.Contains("2 of 2 heads", refresh.Output);
        Assert.Contains("echo_prior: live moved from version 1 to 2", refresh.Output);
        await Eventually.HoldsAsync("a new user begins with what the others taught", async () => await app.ScoreAsync("new") > 0.1);
        Assert.Equal(before, await app.ScoreAsync("ann"), Precision);
        // She goes on from the prior that she began with, as a replay does.
        await TeachAsync(app, "ann", 6, from: 3);
        await app.ProcessedAsync(9);
        Assert.Contains("2 of 2 heads reproduced, relative difference up to 0.0e0", (await SkiffProcess.RunAsync("replay", "echo", "--data", folder.Path)).Output);
    }

    private static async Task TeachAsync(EchoApp app, string user, int to, int from = 0)
    {
        for (var i = from; i < to; i++) await app.FeedbackAsync($$"""{"user":"{{user}}","input":{{EchoApp.Input}},"label":"yes","feedback_id":"{{user}}{{i}}"}""");
    }
}
