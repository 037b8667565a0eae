using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>
/// An app whose learning can be counted: features are the input, no prior, κ = 1. With φ = [1,0,0] and the constant 1, |φ|² = 2, so after n times label 0 its score is
/// 2n / (1 + 2n), and a score says how much feedback counted.
/// </summary>
internal sealed class EchoApp(HttpClient client)
{
    public const string Input = "[1,0,0]";

    private const string Document = """
        {"name":"echo","input":{"name":"x","type":"FP32","shape":[3]},"labels":["yes","no"],"head":{"features":"echo_body","kind":"classes","prior_strength":1,"guards":GUARDS,"cache":CACHE}MORE}
        """;

    /// <param name="guards">As JSON.</param>
    /// <param name="cache">As JSON.</param>
    /// <param name="more">Fields of the document, each after a comma.</param>
    public static async Task PublishAsync(ModelStore store, string guards = "true", string cache = "true", string more = "")
    {
        var publisher = new Publisher(store, ModelLimits.Default);
        await publisher.PushAsync("default", OnnxBuilder.Identity(DataType.Fp32, -1, 3), "echo_body", "live", CancellationToken.None);
        var document = Document.Replace("GUARDS", guards).Replace("CACHE", cache).Replace("MORE", more);
        await publisher.PushAppAsync("default", Encoding.UTF8.GetBytes(Patient.AppWithout(document)), CancellationToken.None);
    }

    /// <summary>What an app answers that has learnt <see cref="Input"/> as label 0 so many times.</summary>
    public static double ScoreAfter(int count) => 2.0 * count / (1 + 2 * count);

    public async Task<(string Id, double Score, int FeaturesVersion)> PredictAsync(string user)
    {
        var (status, answer) = await PostAsync("/apps/echo/predict", $$"""{"user":"{{user}}","input":{{Input}},"explain":true}""");
        Assert.True(status == HttpStatusCode.OK, $"{status} {answer}");
        return (
            answer.GetProperty("id").GetString()!,
            answer.GetProperty("explanation").GetProperty("scores")[0].GetDouble(),
            answer.GetProperty("versions").GetProperty("echo_body").GetInt32());
    }

    public async Task<double> ScoreAsync(string user) => (await PredictAsync(user)).Score;

    /// <summary>Gives feedback that must be accepted.</summary>
    /// <returns>The feedback id.</returns>
    public async Task<string> FeedbackAsync(string json)
    {
        var (status, answer) = await PostAsync("/apps/echo/feedback", json);
        Assert.True(status == HttpStatusCode.Accepted, $"{status} {answer}");
        return answer.GetProperty("feedback_id").GetString()!;
    }

    /// <summary>A counter of <c>/metrics</c>.</summary>
    public async Task<long> MetricAsync(string name)
    {
        var lines = (await client.GetStringAsync("/metrics")).Split('\n');
        return long.Parse(lines.Single(line => line.StartsWith(name + " ", StringComparison.Ordinal))[(name.Length + 1)..], CultureInfo.InvariantCulture);
    }

    /// <summary>Waits until the worker has been through so much feedback, new or not.</summary>
    public Task ProcessedAsync(int count) => Eventually.HoldsAsync(
        $"{count} feedbacks processed",
        async () => await MetricAsync("skiff_feedback_learnt_total") + await MetricAsync("skiff_feedback_duplicate_total") >= count);

    private async Task<(HttpStatusCode Status, JsonElement Body)> PostAsync(string path, string json)
    {
        using var content = new StringContent(json, Encoding.UTF8, "application/json");
        using var response = await client.PostAsync(path, content);
        return (response.StatusCode, JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement);
    }
}
