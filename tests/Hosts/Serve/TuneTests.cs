using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary><c>skiff tune</c> as a process. Models that give back their input say what the rows say: a cheap one on the first two numbers, a heavy one on the last two.</summary>
public sealed class TuneTests : IDisposable
{
    private const int Rows = 400;

    private const string App = """
        {"name":"toy","objective_ms":60000,"input":{"name":"x","type":"FP32","shape":[4]},"labels":["no","yes"],"cascade":[{"model":"cheap","gate":{"on":"max_softmax","at":0.9}},{"model":"heavy"}]}
        """;

    private readonly ScratchFolder _folder = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task SureCheapStage_IsLetAnswerAndTheNewVersionIsLive()
    {
        await PublishAsync(App);

        var result = await TuneAsync("--data", WriteRows(Sure), "--epsilon", "2", "--confidence", "0.9", "--picture", _folder["frontier.svg"]);

        Assert.True(result.ExitCode == 0, result.Error);
        Assert.Equal(["cheap: 400 rows", "heavy: 400 rows", "timing 2 stages, one row at a time", "testing thresholds"], result.ErrorLines);
        Assert.Contains("chosen      cheap", result.Output);
        Assert.Contains("0 rows lost, 0 won, 0.00 points down", result.Output);
        Assert.Contains("less than 2 points down with confidence 0.9 (p = ", result.Output);
        Assert.Contains("assumes     the rows are like those to come", result.Output);
        Assert.Contains("1 path of thresholds", result.Output);
        Assert.Contains("toy: version 2, ", result.Output);
        Assert.Contains("live is version 2; 'skiff alias toy 1 --kind app' goes back", result.Output);
        Assert.Equal("svg", XDocument.Load(_folder["frontier.svg"]).Root!.Name.LocalName);

        await using var server = await SkiffProcess.ServeAsync(_folder["data"], "--no-samples");
        Assert.Equal((2, "cheap"), await AskAsync(server, "[9,0,0,0]"));
        Assert.Equal((2, "heavy"), await AskAsync(server, "[0,0,0,9]"));
    }

    [Fact]
    public async Task DryRun_PublishesNothing()
    {
        await PublishAsync(App);

        var result = await TuneAsync("--data", WriteRows(Sure), "--epsilon", "2", "--dry-run", "--picture", _folder["frontier.svg"], "--gate", "learned");

        Assert.True(result.ExitCode == 0, result.Error);
        Assert.Contains("answers from learned ", result.Output);
        Assert.Contains("on 280 rows; gates fitted on 120 others", result.Output);
        Assert.EndsWith("dry run: nothing was published\n", result.Output);
        Assert.DoesNotContain("version 2", result.Output);
    }

    [Fact]
    public async Task LearnedGate_IsPublishedAndAnswers()
    {
        await PublishAsync(App);

        var result = await TuneAsync("--data", WriteRows(Sure), "--epsilon", "2", "--picture", _folder["frontier.svg"], "--gate", "learned");

        Assert.True(result.ExitCode == 0, result.Error);
        await using var server = await SkiffProcess.ServeAsync(_folder["data"], "--no-samples");
        Assert.Equal((2, "cheap"), await AskAsync(server, "[9,0,0,0]"));
    }

    [Fact]
    public async Task CheapStageThatIsSureAndWrong_IsLeftOutAndSaidSo()
    {
        await PublishAsync(App);

        // The cheap stage sees nothing of what the label depends on, and is sure.
        var result = await TuneAsync("--data", WriteRows(i => (i % 2, [9, 0, 9 * (1 - i % 2), 9 * (i % 2)])), "--epsilon", "2", "--picture", _folder["frontier.svg"]);

        Assert.True(result.ExitCode == 0, result.Error);
        Assert.Contains("chosen      heavy directly: no thresholds keep the loss below 2 points with confidence 0.95 on these rows", result.Output);
        await using var server = await SkiffProcess.ServeAsync(_folder["data"], "--no-samples");
        Assert.Equal((2, "heavy"), await AskAsync(server, "[9,0,0,9]"));
    }

    [Fact]
    public async Task ExitsOfOneNetwork_AreTunedAndAnswerFromWhatTheFirstComputed()
    {
        await PublishExitsAsync();

        var result = await TuneAsync("--data", WriteRows(Sure), "--epsilon", "2", "--picture", _folder["frontier.svg"]);

        Assert.True(result.ExitCode == 0, result.Error);
        Assert.Contains("chosen      near", result.Output);
        Assert.Contains("toy: version 2, ", result.Output);
        var stages = Regex.Match(result.Output, @"near +[\d.]+% right +(?<near>[\d.]+) µs.*\n +far +100.00% right +(?<far>[\d.]+) µs");
        Assert.True(double.Parse(stages.Groups["far"].Value, CultureInfo.InvariantCulture) > double.Parse(stages.Groups["near"].Value, CultureInfo.InvariantCulture), result.Output);
        await using var server = await SkiffProcess.ServeAsync(_folder["data"], "--no-samples");
        Assert.Equal((2, "near"), await AskAsync(server, "[9,0,0,0]"));
        Assert.Equal((2, "far"), await AskAsync(server, "[0,0,0,9]"));
    }

    [Fact]
    public async Task ExitThatIsSureAndWrong_StaysWithoutAGate()
    {
        await PublishExitsAsync();

        var result = await TuneAsync("--data", WriteRows(i => (i % 2, [9, 0, 9 * (1 - i % 2), 9 * (i % 2)])), "--epsilon", "2", "--picture", _folder["frontier.svg"]);

        Assert.True(result.ExitCode == 0, result.Error);
        Assert.Contains("chosen      far directly", result.Output);
        await using var server = await SkiffProcess.ServeAsync(_folder["data"], "--no-samples");
        Assert.Equal((2, "far"), await AskAsync(server, "[9,0,0,9]"));
    }

    [Fact]
    public async Task WhatCannotBeTuned_IsRefusedInOneLine()
    {
        await PublishAsync(App);
        var rows = WriteRows(Sure);

        await FailAsync("there is no app 'nix'", "nix", "--data", rows, "--epsilon", "2");
        await FailAsync("'../toy' is not a valid app name", "../toy", "--data", rows, "--epsilon", "2");
        await FailAsync("there is no file or folder", "toy", "--data", _folder["nix.jsonl"], "--epsilon", "2");
        await FailAsync("400 rows are too few: to certify a loss below 0.25 points with confidence 0.95 takes at least 1,197", "toy", "--data", rows, "--epsilon", "0.25");
        await FailAsync("line 1 has no 'label'", "toy", "--data", Write("unlabelled.jsonl", "{\"input\":[1,2,3,4]}\n"), "--epsilon", "2");
        await FailAsync("line 1: 'input' of shape [4] takes 4 values", "toy", "--data", Write("narrow.jsonl", "{\"input\":[1,2,3],\"label\":0}\n"), "--epsilon", "2");
        await FailAsync("app 'toy' takes 4 of [4]", "toy", "--data", Repository.Sample("fashion/test-images-idx3-ubyte.gz"), Repository.Sample("fashion/test-labels-idx1-ubyte.gz"), "--epsilon", "2");
        await FailAsync("epsilon is 0 percentage points", "toy", "--data", rows, "--epsilon", "0");
        await FailAsync("confidence is 1: ", "toy", "--data", rows, "--epsilon", "2", "--confidence", "1");
        await FailAsync("--scale takes", "toy", "--data", rows, "--epsilon", "2", "--scale", "0");

        await PublishAsync(App.Replace("""{"model":"cheap","gate":{"on":"max_softmax","at":0.9}},""", ""));
        await FailAsync("app 'toy' has one stage, 'heavy': there is nothing to tune", "toy", "--data", rows, "--epsilon", "2");
    }

    /// <summary>The cheap stage is right wherever it is sure; on one row in four it is not, and the heavy one is right.</summary>
    private static (int Label, int[] Input) Sure(int i) => (i % 2, i % 4 == 3 ? [0, 0, 0, 9] : [9 * (1 - i % 2), 9 * (i % 2), 9 * (1 - i % 2), 9 * (i % 2)]);

    private async Task PublishAsync(string app)
    {
        // Heavy by its work: squarings of a matrix that change nothing.
        await RunAsync("push", Write("cheap.onnx", Part(0, 0)), "--name", "cheap");
        await RunAsync("push", Write("heavy.onnx", Part(2, 12)), "--name", "heavy");
        await RunAsync("app", "push", Write("app.json", Encoding.UTF8.GetBytes(app)));
    }

    /// <summary>Two exits: the near one says what the first two numbers say and hands on all four, from which the far one says what the last two say.</summary>
    private async Task PublishExitsAsync()
    {
        float[] first = [1, 0, 0, 1, 0, 0, 0, 0];
        await RunAsync("push", Write("near.onnx", new OnnxBuilder().Input("x", DataType.Fp32, -1, 4).Output("y", DataType.Fp32, -1, 2).Output("all", DataType.Fp32, -1, 4)
            .Initializer("first", first, 4, 2).Node("MatMul", ["x", "first"], ["y"]).Node("Identity", ["x"], ["all"]).Build()), "--name", "near");
        await RunAsync("push", Write("far.onnx", Part(2, 12)), "--name", "far");
        await RunAsync("app", "push", Write("app.json", Encoding.UTF8.GetBytes(App
            .Replace("cheap", "near").Replace("{\"model\":\"heavy\"}", "{\"model\":\"far\",\"from\":\"all\"}"))));
    }

    /// <summary>Two of the four inputs as scores, after so many multiplications by a large identity.</summary>
    private static byte[] Part(int first, int work)
    {
        const int wide = 256;
        var (pick, identity, back) = (new float[4 * wide], new float[wide * wide], new float[wide * 2]);
        for (var i = 0; i < 2; i++) (pick[(first + i) * wide + i], back[i * 2 + i]) = (1, 1);
        for (var i = 0; i < wide; i++) identity[i * wide + i] = 1;
        var model = new OnnxBuilder().Input("x", DataType.Fp32, -1, 4).Output("y", DataType.Fp32, -1, 2)
            .Initializer("pick", pick, 4, wide).Initializer("identity", identity, wide, wide).Initializer("back", back, wide, 2)
            .Node("MatMul", ["x", "pick"], ["h0"]);
        for (var i = 0; i < work; i++) model.Node("MatMul", [$"h{i}", "identity"], [$"h{i + 1}"]);
        return model.Node("MatMul", [$"h{work}", "back"], ["y"]).Build();
    }

    private string WriteRows(Func<int, (int Label, int[] Input)> row) => Write("rows.jsonl", string.Concat(Enumerable.Range(0, Rows).Select(row)
        .Select(one => string.Create(CultureInfo.InvariantCulture, $"{{\"input\":[{string.Join(",", one.Input)}],\"label\":{one.Label}}}\n"))));

    private static async Task<(int Version, string Stage)> AskAsync(SkiffProcess server, string input)
    {
        using var content = new StringContent($$"""{"input":{{input}}}""");
        using var response = await server.Client.PostAsync("/apps/toy/predict", content, Cancellation);
        var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync(Cancellation)).RootElement;
        return (answer.GetProperty("versions").GetProperty("app").GetInt32(), answer.GetProperty("stage").GetString()!);
    }

    private Task<CommandResult> TuneAsync(params string[] arguments) => SkiffProcess.RunAsync(["tune", "toy", "--store", _folder["data"], .. arguments]);

    private async Task RunAsync(params string[] arguments)
    {
        var result = await SkiffProcess.RunAsync([.. arguments, "--data", _folder["data"]]);
        Assert.True(result.ExitCode == 0, result.Error);
    }

    private async Task FailAsync(string says, params string[] arguments)
    {
        // Before the command, --data is the folder of the stores.
        var result = await SkiffProcess.RunAsync(["--data", _folder["data"], "tune", .. arguments]);
        var what = $"{string.Join(' ', arguments)} → {result.ExitCode}: {result.Output}{result.Error}";
        Assert.True(result.ExitCode == 1, what);
        Assert.True(result.ErrorLines is [var line] && line.StartsWith("skiff: ", StringComparison.Ordinal) && line.Contains(says, StringComparison.Ordinal), what);
        Assert.True(result.Output == "", what);
    }

    private string Write(string name, string content) => Write(name, Encoding.UTF8.GetBytes(content));

    private string Write(string name, byte[] content)
    {
        File.WriteAllBytes(_folder[name], content);
        return _folder[name];
    }
}
