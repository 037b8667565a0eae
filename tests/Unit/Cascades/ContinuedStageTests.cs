using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Cascades;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Unit.Cascades;

/// <summary>Stages that continue from a tensor which an earlier stage computed: a network of three parts with an exit each. Its weights are small integers, so that sums are exact however they are made.</summary>
public sealed class ContinuedStageTests : IDisposable
{
    private const string Never = """,{"model":"second","from":"h1","gate":{"on":"max_softmax","at":1}},{"model":"third","from":"h2"}""";

    private static readonly float[] Rows = [.. Enumerable.Range(0, 7 * 4).Select(i => (float)(i * i * 5 % 11 - 5))];

    private readonly LocalApps _apps = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _apps.Dispose();

    [Fact]
    public async Task StagesThatAnswerNothing_GiveWhatTheWholeNetworkGives()
    {
        await PushPartsAsync();
        await _apps.PushAsync("whole", Whole());

        var (answers, runs) = await RunAsync("""{"model":"first"},{"model":"second","from":"h1"},{"model":"third","from":"h2"}""");
        var (expected, _) = await RunAsync("""{"model":"whole"}""");

        Assert.All(answers, answer => Assert.Equal(2, answer.Stage));
        Assert.Equal(expected.SelectMany(answer => answer.Probabilities), answers.SelectMany(answer => answer.Probabilities));
        Assert.Equal([7, 7, 7], runs.Select(run => run.Rows));
    }

    [Fact]
    public async Task RowsOfOneRequest_LeaveAtDifferentStagesWithTheirOwnTensors()
    {
        await PushPartsAsync();
        await _apps.PushAsync("whole", Whole());
        var (firsts, _) = await RunAsync("""{"model":"first"}""");
        var (wholes, _) = await RunAsync("""{"model":"whole"}""");
        // Half of the rows leave at the first exit, and of the rest half at the second.
        var at = Middle(firsts.Select(Sure));
        var (seconds, _) = await RunAsync("""{"model":"first"},{"model":"second","from":"h1"}""");
        var later = Middle(firsts.Zip(seconds).Where(pair => Sure(pair.First) < at).Select(pair => Sure(pair.Second)));

        var (answers, runs) = await RunAsync($$"""{"model":"first","gate":{{Gate(at)}}},{"model":"second","from":"h1","gate":{{Gate(later)}}},{"model":"third","from":"h2"}""");

        int[] stages = [.. answers.Select(answer => answer.Stage)];
        Assert.Equal([0, 1, 2], stages.Distinct().Order());
        Assert.Equal([7, stages.Count(stage => stage > 0), stages.Count(stage => stage > 1)], runs.Select(run => run.Rows));
        for (var row = 0; row < 7; row++) Assert.Equal(new[] { firsts, seconds, wholes }[stages[row]][row].Probabilities, answers[row].Probabilities);
    }

    [Fact]
    public async Task StageBetweenWithItsOwnInput_IsSkippedOver()
    {
        // What the third stage continues from was computed two stages before, for rows of which some have left meanwhile.
        await PushPartsAsync();
        await _apps.PushAsync("other", Whole());
        var (others, _) = await RunAsync("""{"model":"other"}""");
        var at = Middle(others.Select(Sure));
        var (seconds, _) = await RunAsync("""{"model":"first"},{"model":"second","from":"h1"}""");

        var (answers, runs) = await RunAsync($$"""{"model":"first"},{"model":"other","gate":{{Gate(at)}}},{"model":"second","from":"h1"}""");

        Assert.InRange(runs[2].Rows, 1, 6);
        for (var row = 0; row < 7; row++) Assert.Equal(answers[row].Stage == 1 ? others[row].Probabilities : seconds[row].Probabilities, answers[row].Probabilities);
    }

    [Fact]
    public async Task TwoStagesThatContinueFromTheSame_BothGetIt()
    {
        await PushPartsAsync();
        await _apps.PushAsync("again", Second());
        var (seconds, _) = await RunAsync("""{"model":"first"},{"model":"second","from":"h1"}""");

        var (answers, _) = await RunAsync("""{"model":"first"},{"model":"second","from":"h1","gate":{"on":"entropy","at":1}},{"model":"again","from":"h1"}""");

        Assert.All(answers, answer => Assert.Equal(2, answer.Stage));
        Assert.Equal(seconds.SelectMany(answer => answer.Probabilities), answers.SelectMany(answer => answer.Probabilities));
    }

    [Fact]
    public async Task NewVersionThatNoLongerGivesTheTensor_LeavesTheEarlierAnswerAndSaysSo()
    {
        await PushPartsAsync();
        var app = await AppAsync("""{"model":"first","gate":{"on":"max_softmax","at":1}}""" + Never);
        await _apps.PushAsync("first", PartOf("x", 4, 3, "other", "logits").Build());
        await _apps.Models.LoadAsync("default", "first", Cancellation);

        var (answers, _) = await RunAsync(app);

        Assert.All(answers, answer => Assert.Equal((0, "unavailable"), (answer.Stage, answer.CutShort)));
    }

    [Fact]
    public async Task NewVersionOfAnotherNetwork_IsNotContinuedFrom()
    {
        await PushPartsAsync("one");
        var app = await AppAsync("""{"model":"first","gate":{"on":"max_softmax","at":1}}""" + Never);
        Assert.All((await RunAsync(app)).Answers, answer => Assert.Equal((2, null), (answer.Stage, answer.CutShort)));

        await _apps.PushAsync("second", Second("two"));
        await _apps.Models.LoadAsync("default", "second", Cancellation);

        Assert.All((await RunAsync(app)).Answers, answer => Assert.Equal((0, "unavailable"), (answer.Stage, answer.CutShort)));
    }

    [Theory]
    [InlineData("""{"model":"second","from":"h9"}""", "stage 1 of 'cascade' continues from 'h9', which no stage before it gives; they give 'logits', 'h1'")]
    [InlineData("""{"model":"third","from":"h1"}""", "stage 1 of 'cascade' can't continue from output 'h1' FP32 [-1,3] of model 'first': model 'third' takes 'h2' FP32 [-1,5]")]
    [InlineData("""{"model":"doubles","from":"h1"}""", "model 'doubles' takes 'x' FP64 [-1,3]")]
    [InlineData("""{"model":"second"}""", "model 'second' takes 'h1' FP32 [-1,3]; the app's input needs FP32 [-1,4]")]
    [InlineData("""{"model":"foreign","from":"h1"}""", "model 'foreign' is a part of another network")]
    [InlineData("""{"model":"other","gate":{"on":"margin","at":0.5}},{"model":"flat","from":"flat"}""", "can't continue from output 'flat' FP32 [3]")]
    public async Task StageThatCannotContinue_IsRefusedWhenTheAppIsPublished(string stages, string expected)
    {
        await PushPartsAsync();
        await _apps.PushAsync("doubles", OnnxBuilder.Identity(DataType.Fp64, -1, 3));
        await _apps.PushAsync("foreign", Second("two"));
        await _apps.PushAsync("flat", OnnxBuilder.Identity(DataType.Fp32, 3));
        await _apps.PushAsync("other", new OnnxBuilder().Input("x", DataType.Fp32, -1, 4).Output("logits", DataType.Fp32, -1, 2).Output("flat", DataType.Fp32, 3)
            .Initializer("a", Weights(4, 2, 1), 4, 2).Initializer("three", [1f, 2f, 3f], 3).Node("MatMul", ["x", "a"], ["logits"]).Node("Identity", ["three"], ["flat"]).Build());

        var error = await Assert.ThrowsAsync<PublishException>(() => AppAsync("""{"model":"first","gate":{"on":"margin","at":0.5}},""" + stages));

        Assert.Contains(expected, error.Message);
    }

    [Fact]
    public async Task StageWithoutGateThatNobodyContinuesFrom_IsRefused()
    {
        await PushPartsAsync();
        await _apps.PushAsync("whole", Whole());

        var error = await Assert.ThrowsAsync<PublishException>(() => AppAsync("""{"model":"first"},{"model":"whole"},{"model":"second","from":"h1"}"""));

        Assert.Contains("stage 1 of 'cascade' has no 'gate' and no later stage continues from it", error.Message);
    }

    private static double Sure(StageAnswer answer) => answer.Probabilities.Max();

    private static double Middle(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted[sorted.Length / 2];
    }

    private static string Gate(double at) => FormattableString.Invariant($$"""{"on":"max_softmax","at":{{at:R}}}""");

    private async Task PushPartsAsync(string? network = null)
    {
        await _apps.PushAsync("first", Part(PartOf("x", 4, 3, "h1", "logits"), network));
        await _apps.PushAsync("second", Second(network));
        await _apps.PushAsync("third", Part(PartOf("h2", 5, 4, "h3", "logits"), network));
    }

    private static byte[] Second(string? network = null) => Part(PartOf("h1", 3, 5, "h2", "logits"), network);

    private static byte[] Part(OnnxBuilder part, string? network) => (network is null ? part : part.Metadata("skiff.network", network)).Build();

    /// <summary>hidden = relu(input · A), logits = hidden · B.</summary>
    private static OnnxBuilder PartOf(string input, int wide, int hidden, string gives, string logits) => new OnnxBuilder()
        .Input(input, DataType.Fp32, -1, wide).Output(logits, DataType.Fp32, -1, 2).Output(gives, DataType.Fp32, -1, hidden)
        .Initializer("a", Weights(wide, hidden, wide), wide, hidden).Initializer("b", Weights(hidden, 2, 7), hidden, 2)
        .Node("MatMul", [input, "a"], ["before"]).Node("Relu", ["before"], [gives]).Node("MatMul", [gives, "b"], ["exit"]).Node("Mul", ["exit", "scale"], [logits]).Initializer("scale", [1 / 256f], 1);

    /// <summary>The three parts as one network, with the last exit alone.</summary>
    private static byte[] Whole() => new OnnxBuilder()
        .Input("x", DataType.Fp32, -1, 4).Output("logits", DataType.Fp32, -1, 2)
        .Initializer("a1", Weights(4, 3, 4), 4, 3).Initializer("a2", Weights(3, 5, 3), 3, 5).Initializer("a3", Weights(5, 4, 5), 5, 4).Initializer("b", Weights(4, 2, 7), 4, 2)
        .Node("MatMul", ["x", "a1"], ["m1"]).Node("Relu", ["m1"], ["h1"]).Node("MatMul", ["h1", "a2"], ["m2"]).Node("Relu", ["m2"], ["h2"])
        .Node("MatMul", ["h2", "a3"], ["m3"]).Node("Relu", ["m3"], ["h3"]).Node("MatMul", ["h3", "b"], ["exit"]).Node("Mul", ["exit", "scale"], ["logits"]).Initializer("scale", [1 / 256f], 1).Build();

    private static float[] Weights(int rows, int columns, int seed) => [.. Enumerable.Range(0, rows * columns).Select(i => (float)((i + seed) * 11 % 5 - 2))];

    private Task<App> AppAsync(string stages) =>
        _apps.PushAppAsync($$"""{"name":"a","input":{"name":"x","type":"FP32","shape":[4]},"labels":["no","yes"],"cascade":[{{stages}}]}""");

    private async Task<(StageAnswer[] Answers, List<StageRun> Runs)> RunAsync(string stages) => await RunAsync(await AppAsync(stages));

    private async Task<(StageAnswer[] Answers, List<StageRun> Runs)> RunAsync(App app)
    {
        var buffer = new TensorBuffer();
        var input = new Tensor { Name = "x", Type = DataType.Fp32, Shape = [7, 4], Length = Rows.Length * sizeof(float) };
        input.Offset = buffer.Allocate(input.Length);
        MemoryMarshal.AsBytes(Rows.AsSpan()).CopyTo(buffer.Span(input.Offset, input.Length));
        return await app.Cascade!.RunAsync(app.Tenant, buffer, input, long.MaxValue, Cancellation);
    }
}
