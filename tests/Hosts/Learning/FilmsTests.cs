using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>The stream users of the samples' README through HTTP alone, each in true order: predict, then feedback. Reference: RMSE 1.4897.</summary>
public sealed class FilmsTests(ITestOutputHelper output)
{
    private const int UsersAtOnce = 16;

    [Fact]
    public async Task StreamUsers_ReachTheOfflineError()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("mt_item_features", await File.ReadAllBytesAsync(Repository.Sample("films/mt_item_features.onnx"), TestContext.Current.CancellationToken));
        await server.PushAsync("mt_priors", await File.ReadAllBytesAsync(Repository.Sample("films/mt_priors.json"), TestContext.Current.CancellationToken));
        await server.PushAppAsync(Patient.Sample("films/app.json"));
        var users = Rating.ReadAll().GroupBy(rating => rating.User).ToList();
        var errors = new ConcurrentBag<(double Squared, int Count)>();

        await Parallel.ForEachAsync(
            users,
            new ParallelOptions { MaxDegreeOfParallelism = UsersAtOnce, CancellationToken = TestContext.Current.CancellationToken },
            async (user, _) => errors.Add((await LearnAsync(server, user), user.Count())));

        var count = errors.Sum(error => error.Count);
        var rmse = Math.Sqrt(errors.Sum(error => error.Squared) / count);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{users.Count} users, {count} ratings, RMSE {rmse:f5}"));
        Assert.Equal((384, 17373), (users.Count, count));
        Assert.InRange(rmse, 1.490 - 0.005, 1.490 + 0.005);
    }

    /// <returns>The sum of the squared errors.</returns>
    private static async Task<double> LearnAsync(SkiffServer server, IEnumerable<Rating> ratings)
    {
        var squared = 0.0;
        foreach (var (user, item, value) in ratings)
        {
            var (status, answer) = await server.PostAsync("/apps/films/predict", $$"""{"user":"u{{user}}","input":[{{item}}]}""");
            Assert.Equal(HttpStatusCode.OK, status);
            squared += Math.Pow(answer.GetProperty("output").GetDouble() - value, 2);
            (status, _) = await server.PostAsync("/apps/films/feedback", $$"""{"id":"{{answer.GetProperty("id").GetString()}}","value":{{value}}}""");
            Assert.Equal(HttpStatusCode.Accepted, status);
        }
        return squared;
    }
}
