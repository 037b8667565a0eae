using System.Globalization;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>Test images one by one as requests, and the app that they are asked of.</summary>
internal sealed class FashionRequests
{
    private readonly Idx _images;
    private readonly Idx _labels;

    public FashionRequests()
    {
        Folder = Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion");
        _images = Idx.Read(Path.Combine(Folder, "test-images-idx3-ubyte.gz"));
        _labels = Idx.Read(Path.Combine(Folder, "test-labels-idx1-ubyte.gz"));
        App = JsonNode.Parse(File.ReadAllText(Path.Combine(Folder, "app.json")))!;
        // Every image comes again and again: kept answers would be all there is to see. And nothing is cut short: what a stage costs is looked at, not when it is due.
        App["cache"] = false;
        App["objective_ms"] = 5000;
    }

    public string Folder { get; }

    public JsonNode App { get; }

    public IEnumerable<string> Models => App["cascade"]!.AsArray().Select(stage => Path.Combine(Folder, (string)stage!["model"]! + ".onnx"));

    public string WriteApp(string folder)
    {
        var file = Path.Combine(folder, "app.json");
        File.WriteAllText(file, App.ToJsonString());
        return file;
    }

    public Workload OfApp(int count) => Of("/apps/fashion/predict", count, image => $$"""{"input":[{{Pixels(image)}}]}""");

    public Workload OfModel(string path, int count) => Of(path, count, image => $$"""{"inputs":[{"name":"image","shape":[1,1,28,28],"datatype":"FP32","data":[{{Pixels(image)}}]}]}""");

    /// <returns>Share of right answers over all test images, and of those that were cut short.</returns>
    public (double Accuracy, double Degraded) AskApp(ServerProcess server)
    {
        using var client = new HttpClient { BaseAddress = new Uri($"http://{server.EndPoint}") };
        var (right, degraded) = (0, 0);
        for (var first = 0; first < _images.Count; first += 50)
        {
            using var response = client.PostAsync("/apps/fashion/predict", new StringContent($$"""{"inputs":[{{string.Join(",", Enumerable.Range(first, 50).Select(image => $"[{Pixels(image)}]"))}}]}""")).GetAwaiter().GetResult();
            var answer = response.Content.ReadFromJsonAsync<JsonElement>().GetAwaiter().GetResult();
            if (!response.IsSuccessStatusCode) throw new BenchmarkException($"status {(int)response.StatusCode}: {answer}");
            var row = first;
            foreach (var prediction in answer.GetProperty("predictions").EnumerateArray())
            {
                if (prediction.TryGetProperty("degraded", out _)) degraded++;
                if (prediction.GetProperty("label").GetInt32() == _labels.Values[row++]) right++;
            }
        }
        return ((double)right / _images.Count, (double)degraded / _images.Count);
    }

    /// <returns>Share of right answers of a model alone.</returns>
    public double AskModel(ServerProcess server, string path)
    {
        using var client = new HttpClient { BaseAddress = new Uri($"http://{server.EndPoint}") };
        var right = 0;
        for (var first = 0; first < _images.Count; first += 50)
        {
            var body = $$"""{"inputs":[{"name":"image","shape":[50,1,28,28],"datatype":"FP32","data":[{{string.Join(",", Enumerable.Range(first, 50).Select(image => $"[{Pixels(image)}]"))}}]}]}""";
            using var response = client.PostAsync(path, new StringContent(body)).GetAwaiter().GetResult();
            var answer = response.Content.ReadFromJsonAsync<JsonElement>().GetAwaiter().GetResult();
            if (!response.IsSuccessStatusCode) throw new BenchmarkException($"status {(int)response.StatusCode}: {answer}");
            var scores = answer.GetProperty("outputs")[0].GetProperty("data").EnumerateArray().Select(value => value.GetSingle()).ToArray();
            for (var i = 0; i < 50; i++)
            {
                var row = scores.AsSpan(i * 10, 10);
                if (System.Numerics.Tensors.TensorPrimitives.IndexOfMax<float>(row) == _labels.Values[first + i]) right++;
            }
        }
        return (double)right / _images.Count;
    }

    private static Workload Of(string path, int count, Func<int, string> body) => new("json", [.. Enumerable.Range(0, count).Select(image =>
    {
        var text = Encoding.UTF8.GetBytes(body(image));
        return new Exchange([.. Encoding.ASCII.GetBytes($"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {text.Length}\r\n\r\n"), .. text], []);
    })], null);

    private string Pixels(int row) => string.Join(",", _images[row].ToArray().Select(pixel => (pixel / 255f).ToString("R", CultureInfo.InvariantCulture)));
}
