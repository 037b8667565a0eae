using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Batching;
using Skiff.Cascades;
using Skiff.Models;
using Skiff.Support;
using Skiff.Unit.Batching;

namespace Skiff.Unit.Cascades;

/// <summary>A cascade of three models that give back what they are given, under pressure: rows leave early, the least unsure first, and say so.</summary>
public sealed class DimmedCascadeTests : IDisposable
{
    private static readonly byte[] Model = OnnxBuilder.Identity(DataType.Fp32, -1, 2);

    private readonly ManualTime _time = new();
    private readonly LocalApps _apps;

    public DimmedCascadeTests() => _apps = new LocalApps(time: _time);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _apps.Dispose();

    [Fact]
    public async Task AsPressureRises_RowsLeaveEarlier_TheSurestFirst_AndAreMarked()
    {
        var app = await AppAsync();
        var before = (await AskAsync(app)).Select(answer => answer.Stage).ToArray();
        Assert.Equal([2, 2, 2, 0], before);

        var stages = new List<int[]>();
        foreach (var level in new[] { 0.2, 0.5, 0.999, 1.5, 1.999 })
        {
            var answers = await AskAsync(app, level);
            stages.Add([.. answers.Select(answer => answer.Stage)]);
            // Whoever leaves earlier says why, and nobody else does.
            Assert.All(answers.Zip(before), pair => Assert.Equal(pair.First.Stage < pair.Second ? "busy" : null, pair.First.CutShort));
        }

        Assert.Equal([2, 2, 1, 0], stages[0]); // surest of the three to the middle stage
        Assert.Equal([2, 1, 1, 0], stages[1]);
        Assert.Equal([1, 1, 1, 0], stages[2]); // the last stage is dark
        Assert.Equal([1, 0, 0, 0], stages[3]);
        Assert.Equal([0, 0, 0, 0], stages[4]); // and so is the middle one
    }

    [Fact]
    public async Task LowerPriority_LeavesEarlier()
    {
        var app = await AppAsync();

        Assert.Equal([2, 2, 2, 0], (await AskAsync(app, 0.5, priority: 1)).Select(answer => answer.Stage));
        Assert.Equal([1, 0, 0, 0], (await AskAsync(app, 0.5, priority: 5)).Select(answer => answer.Stage));
    }

    [Fact]
    public async Task WhenPressureHasGone_AllStagesAnswerAgain()
    {
        var app = await AppAsync();
        await AskAsync(app, 1.9);

        _time.Advance(TimeSpan.FromSeconds(1));

        Assert.Equal([2, 2, 2, 0], (await AskAsync(app)).Select(answer => answer.Stage));
        Assert.Equal(0, app.Pressure.Level);
    }

    [Fact]
    public async Task WhatCanNotBeginInTime_RaisesThePressure()
    {
        var app = await AppAsync();
        await AskAsync(app);

        for (var i = 0; i < 20; i++)
        {
            _time.Advance(TimeSpan.FromMilliseconds(5));
            Assert.Equal("deadline", (await AskAsync(app, deadline: _time.Now))[0].CutShort);
        }

        Assert.True(app.Pressure.Level > 0.3, $"{app.Pressure.Level}");
    }

    private async Task<App> AppAsync()
    {
        foreach (var name in new[] { "s", "m", "l" }) await _apps.PushAsync(name, Model);
        return await _apps.PushAppAsync("""
            {"name":"a","input":{"name":"x","type":"FP32","shape":[2]},"labels":["a","b"],
             "cascade":[{"model":"s","gate":{"on":"margin","at":0.9}},{"model":"m","gate":{"on":"margin","at":0.9}},{"model":"l"}]}
            """);
    }

    /// <summary>Four rows, of margins 0.1, 0.5, 0.8 and 0.99.</summary>
    private async Task<StageAnswer[]> AskAsync(App app, double level = 0, int priority = Priorities.Normal, long deadline = long.MaxValue)
    {
        while (app.Pressure.Level < level)
        {
            _time.Advance(TimeSpan.FromMilliseconds(1));
            app.Pressure.Waited(2 * app.Document.Objective);
            // Not beyond it: the tests say how hard pressed it is.
        }
        float[] margins = [0.1f, 0.5f, 0.8f, 0.99f];
        var values = margins.SelectMany(margin => new[] { MathF.Log((1 + margin) / (1 - margin)), 0f }).ToArray();
        var buffer = new TensorBuffer();
        var bytes = MemoryMarshal.AsBytes(values.AsSpan());
        var input = new Tensor { Name = "x", Type = DataType.Fp32, Shape = [4, 2], Length = bytes.Length };
        input.Offset = buffer.Allocate(input.Length);
        bytes.CopyTo(buffer.Span(input.Offset, input.Length));
        return (await app.Cascade!.RunAsync("default", buffer, input, new Terms(deadline, priority, app.Pressure), Cancellation)).Answers;
    }
}
