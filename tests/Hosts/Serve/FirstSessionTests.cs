using System.Net;
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
}
