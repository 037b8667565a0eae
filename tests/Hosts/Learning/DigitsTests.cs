using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using Skiff.Support;

namespace Skiff.Hosts.Learning;

/// <summary>
/// The figures of the samples' README, through HTTP alone: each speaker is a user of an app whose body never heard that speaker, 300 clips adapt by predict-then-feedback,
/// the last 200 are held out. Reference: .66500, .72250, .87500, .95625.
/// </summary>
public sealed class DigitsTests(ITestOutputHelper output)
{
    private const int Adapting = 300;
    private static readonly string[] Speakers = ["george", "jackson", "lucas", "nicolas"];
    private static readonly int[] Measured = [0, 10, 40, 300];

    [Fact]
    public async Task EachSpeakerOnABodyThatNeverHeardIt_ReachesTheOfflineAccuracy()
    {
        await using var server = await SkiffServer.StartAsync();

        var curves = await Task.WhenAll(Speakers.Select(speaker => AdaptAsync(server, speaker)));

        output.WriteLine("labels  " + string.Join("  ", Speakers.Select(speaker => $"{speaker,7}")) + "     mean");
        var means = new double[Measured.Length];
        for (var i = 0; i < Measured.Length; i++)
        {
            means[i] = curves.Average(curve => curve[i]);
            output.WriteLine($"{Measured[i],6}  " + string.Join("  ", curves.Select(curve => Text(curve[i], "f3").PadLeft(7))) + $"  {Text(means[i], "f5")}");
        }
        Assert.InRange(means[0], 0.660, 0.670);
        Assert.True(means[1] >= 0.72, $"{means[1]} at 10 labels");
        Assert.True(means[2] >= 0.87, $"{means[2]} at 40 labels");
        Assert.True(means[3] >= 0.95, $"{means[3]} at 300 labels");
    }

    /// <returns>The accuracy on the held-out clips after each of <see cref="Measured"/> labels.</returns>
    private static async Task<double[]> AdaptAsync(SkiffServer server, string speaker)
    {
        await server.PushAsync($"digits_body_{speaker}", await File.ReadAllBytesAsync(Repository.Sample($"digits/digits-body-without-{speaker}.onnx")));
        await server.PushAsync($"digits_prior_{speaker}", await File.ReadAllBytesAsync(Repository.Sample($"digits/{speaker}-prior.json")));
        var app = Patient.Sample("digits/app.json");
        await server.PushAppAsync(app.Replace("\"digits\"", $"\"digits_{speaker}\"").Replace("\"digits_body\"", $"\"digits_body_{speaker}\"").Replace("\"digits_prior\"", $"\"digits_prior_{speaker}\""));

        var clips = Idx.Read(Repository.Sample($"digits/{speaker}-logmel-idx3-ubyte.gz"));
        var labels = Idx.Read(Repository.Sample($"digits/{speaker}-labels-idx1-ubyte.gz")).Values;
        var path = $"/apps/digits_{speaker}";
        var curve = new List<double>();
        for (var i = 0; i <= Adapting; i++)
        {
            if (Measured.Contains(i)) curve.Add(await MeasureAsync(server, path, speaker, clips, labels));
            if (i == Adapting) break;
            var answer = await PostAsync(server, $"{path}/predict", $$"""{"user":"{{speaker}}","input":{{Input(clips, i)}}}""", HttpStatusCode.OK);
            await PostAsync(server, $"{path}/feedback", $$"""{"id":"{{answer.GetProperty("id").GetString()}}","label":{{labels[i]}}}""", HttpStatusCode.Accepted);
        }
        return [.. curve];
    }

    private static async Task<double> MeasureAsync(SkiffServer server, string path, string speaker, Idx clips, byte[] labels)
    {
        var inputs = string.Join(',', Enumerable.Range(Adapting, clips.Count - Adapting).Select(i => Input(clips, i)));
        var answer = await PostAsync(server, $"{path}/predict", $$"""{"user":"{{speaker}}","inputs":[{{inputs}}]}""", HttpStatusCode.OK);
        var predictions = answer.GetProperty("predictions").EnumerateArray().Select(prediction => prediction.GetProperty("label").GetInt32()).ToList();
        return predictions.Where((label, i) => label == labels[Adapting + i]).Count() / (double)predictions.Count;
    }

    private static async Task<JsonElement> PostAsync(SkiffServer server, string path, string json, HttpStatusCode expected)
    {
        var (status, body) = await server.PostAsync(path, json);
        Assert.True(status == expected, $"{path}: {status} {body}");
        return body;
    }

    private static string Input(Idx clips, int clip)
    {
        var json = new StringBuilder("[");
        foreach (var value in clips[clip]) json.Append(json.Length > 1 ? "," : "").Append(CultureInfo.InvariantCulture, $"{(value - 128) / 42f}");
        return json.Append(']').ToString();
    }

    private static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
