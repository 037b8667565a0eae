using System.CommandLine;
using System.Globalization;
using Skiff.Apps;
using Skiff.Cascades;
using Skiff.Cascades.Tuning;
using Skiff.Models;
using Skiff.Store;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// What a tuned cascade saves and what it loses: <c>fashion</c>, thresholds chosen on <c>val</c> alone, then looked at on <c>test</c>. And whether the bound holds: tuned again and again on rows drawn from
/// val and test together, whose true drop can be counted.
/// </summary>
internal static class CascadeTuning
{
    private const double Confidence = 0.95;
    private const int Drawn = 5000;
    private static readonly (double Points, double Saved)[] Bounds = [(0.25, 0.65), (0.5, 0.73)];

    public static Command Command()
    {
        var samples = new Option<string?>("--samples") { Description = "Folder of the app, its models, val and test, instead of infrastructure/samples/fashion", HelpName = "DIR" };
        var repeats = new Option<int>("--repeats") { Description = "Timed runs of each stage on one row; their median is its cost", HelpName = "N", DefaultValueFactory = _ => 1000 };
        var resamples = new Option<int>("--resamples") { Description = "Tuning sets drawn to try the bound", HelpName = "N", DefaultValueFactory = _ => 200 };
        Suite.RequirePositive(repeats, resamples);
        return Suite.Create("cascade", "What tuned thresholds save, what they lose, and whether their bound holds.", [samples, repeats, resamples], (parsed, report) =>
        {
            var folder = parsed.GetValue(samples) ?? Path.Combine(Samples.FindRepositoryRoot(), "infrastructure", "samples", "fashion");
            try
            {
                Run(report, folder, parsed.GetValue(repeats), parsed.GetValue(resamples));
            }
            catch (Exception e) when (e is FormatException or IOException)
            {
                throw new BenchmarkException(e.Message);
            }
        });
    }

    private static void Run(Report report, string folder, int repeats, int resamples)
    {
        var app = AppDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "app.json")));
        var (val, test, pool) = Ask(app, folder, repeats);
        report.Text("# cascade\n");
        report.Text($"- {app.Name}: {string.Join(" → ", app.Cascade.Select(stage => stage.Model))}; {val.Count:N0} rows of val to tune, {test.Count:N0} of test to look; confidence {Confidence}");
        report.Text($"- a run on one row, median of {repeats} by turns: {string.Join(", ", app.Cascade.Select((stage, i) => $"{stage.Model} {Report.Number(val.Microseconds[i], "0.0")} µs"))}");

        WriteTuned(report, app, val, test);
        WriteGates(report, val, test);
        WriteExits(report, folder, repeats);
        WriteValidity(report, pool, resamples);
    }

    /// <summary>A cascade within one network: what its early exits save against the last exit alone, which computes the same parts without leaving.</summary>
    private static void WriteExits(Report report, string folder, int repeats)
    {
        if (!File.Exists(Path.Combine(folder, "exits.json"))) return;
        var app = AppDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "exits.json")));
        var (val, test, _) = Ask(app, folder, repeats);
        report.Heading("Three exits of one network, tuned on val, looked at on test");
        report.Table(1, ["exit", "µs a row, alone", "right on val", "right on test"], app.Cascade.Select((stage, i) => new[]
        {
            stage.Model, Report.Number(val.Alone(i), "0.0"), Report.Number(val.Accuracy(i), "0.00%"), Report.Number(test.Accuracy(i), "0.00%"),
        }));
        report.Text("");
        report.Table(2, ["E, points", "margin thresholds", "saved", "drop on val", "saved on test", "drop on test, 95% paired", "right on test"], Bounds.Select(bound =>
        {
            var tuning = Tune(val, bound.Points, GateOn.Margin);
            report.Add($"cascade/exits/{Name(bound.Points)}/saved", tuning.Saved, "share of the last exit's run time");
            if (tuning.Chosen is not { } chosen) return (string[])[Points(bound.Points), "none: the last exit directly", "0%", "", "", "", ""];
            var after = CascadeTuner.Apply(test, tuning, chosen);
            var (low, high) = Interval(after.Drop);
            report.Add($"cascade/exits/{Name(bound.Points)}/test-drop", 100 * after.Drop.Measured, "points", Goal.AtMost(bound.Points));
            return
            [
                Points(bound.Points), string.Join(", ", chosen.Thresholds.Select((at, k) => $"{app.Cascade[chosen.Path.Stages[k]].Model} {Report.Number(at, "0.####")}")),
                Report.Number(tuning.Saved, "0.0%"), Hundred(chosen.Drop.Measured), Report.Number(1 - after.Microseconds / test.Alone(test.Stages - 1), "0.0%"),
                $"{Hundred(after.Drop.Measured)} [{Hundred(low)}, {Hundred(high)}] (L {after.Drop.Lost}, W {after.Drop.Won})", Report.Number(after.Accuracy, "0.00%"),
            ];
        }));
        report.Text("\nThe last exit alone runs all three parts, the first two exits' heads included, which are 4% of its multiply-adds. L: only the last exit is right; W: only the cascade.");
    }

    private static void WriteTuned(Report report, AppDocument app, TuningRows val, TuningRows test)
    {
        report.Heading("Tuned on val, looked at on test");
        var rows = new List<string[]>();
        foreach (var (points, goal) in Bounds)
        {
            var tuning = Tune(val, points, GateOn.Margin);
            var name = Name(points);
            report.Add($"cascade/{name}/saved", tuning.Saved, "share of big's run time", Goal.AtLeast(goal));
            if (tuning.Chosen is not { } chosen)
            {
                rows.Add([Points(points), "none: big directly", "0%", "", "", "", ""]);
                continue;
            }
            var after = CascadeTuner.Apply(test, tuning, chosen);
            var (low, high) = Interval(after.Drop);
            rows.Add(
            [
                Points(points), string.Join(", ", chosen.Thresholds.Select((at, k) => $"{app.Cascade[chosen.Path.Stages[k]].Model} {Report.Number(at, "0.####")}")),
                Report.Number(tuning.Saved, "0.0%"), $"{Hundred(chosen.Drop.Measured)} (L {chosen.Drop.Lost}, W {chosen.Drop.Won})", Report.Number(chosen.PValue, "0.000"),
                Report.Number(1 - after.Microseconds / test.Microseconds[^1], "0.0%"), $"{Hundred(after.Drop.Measured)} [{Hundred(low)}, {Hundred(high)}] (L {after.Drop.Lost}, W {after.Drop.Won})",
            ]);
            report.Add($"cascade/{name}/test-drop", 100 * after.Drop.Measured, "points", Goal.AtMost(points));
            report.Add($"cascade/{name}/test-drop-low", 100 * low, "points");
            report.Add($"cascade/{name}/test-drop-high", 100 * high, "points");
        }
        report.Table(2, ["E, points", "margin thresholds", "saved", "drop on val", "p", "saved on test", "drop on test, 95% paired"], rows);
        report.Text("\nSaved is the share of the heaviest model's session-run time, one row at a time; published: 37% at no loss (another data set). L: only big is right; W: only the cascade.");
    }

    private static void WriteGates(Report report, TuningRows val, TuningRows test)
    {
        report.Heading("Other gates, same data");
        report.Table(1, ["gate", .. Bounds.SelectMany(bound => new[] { $"saved at {Points(bound.Points)}", "drop on test" })],
            Enum.GetValues<GateOn>().Select(on => (string[])[$"{on}", .. Bounds.SelectMany(bound =>
            {
                var tuning = Tune(val, bound.Points, on);
                return new[] { Report.Number(tuning.Saved, "0.0%"), tuning.Chosen is { } chosen ? Hundred(CascadeTuner.Apply(test, tuning, chosen).Drop.Measured) : "n/a" };
            })]));
    }

    private static void WriteValidity(Report report, TuningRows pool, int resamples)
    {
        report.Heading($"Does the bound hold? {resamples} tuning sets of {Drawn:N0}, drawn with replacement from val and test");
        var random = new Random(2110);
        int[][] sets = [.. Enumerable.Range(0, resamples).Select(_ => Enumerable.Range(0, Drawn).Select(_ => random.Next(pool.Count)).ToArray())];
        var rows = new List<string[]>();
        foreach (var (points, _) in Bounds)
        {
            Console.Error.WriteLine($"... {resamples} tunings at {Points(points)} points");
            var tried = sets.AsParallel().AsOrdered().Select(set =>
            {
                var tuning = Tune(pool.Take(set), points, GateOn.Margin);
                return (tuning.Saved, Drop: tuning.Chosen is { } chosen ? CascadeTuner.Apply(pool, tuning, chosen).Drop.Measured : 0);
            }).ToArray();
            var exceeded = tried.Count(one => one.Drop > points / 100);
            var (mean, least) = (tried.Average(one => one.Saved), tried.Min(one => one.Saved));
            rows.Add([Points(points), $"{exceeded}", Report.Number(mean, "0.0%"), Report.Number(least, "0.0%"), Hundred(tried.Average(one => one.Drop)), Hundred(tried.Max(one => one.Drop))]);
            // 200 × 0.05 = 10 expected at worst; more than 17 would have a chance below 1%.
            report.Add($"cascade/{Name(points)}/exceeded", exceeded, $"of {resamples}", resamples == 200 ? Goal.AtMost(17) : null);
            report.Add($"cascade/{Name(points)}/saved-mean", mean, "share of big's run time");
        }
        report.Table(1, ["E, points", "true drop above E", "saved, mean", "least", "true drop, mean", "largest"], rows);
    }

    private static Tuning Tune(TuningRows rows, double points, GateOn on) => CascadeTuner.Run(rows, new TuningOptions { Epsilon = points / 100, Confidence = Confidence, On = on });

    /// <summary>Exact, at most 2.5% beyond either end; an end on the other side of 0 is drawn to it.</summary>
    private static (double Low, double High) Interval(PairedDrop drop) => (-new PairedDrop(drop.Won, drop.Lost, drop.Rows).Upper(0.025), drop.Upper(0.025));

    /// <summary>Every stage once over val and test, and each stage's cost.</summary>
    private static (TuningRows Val, TuningRows Test, TuningRows Pool) Ask(AppDocument app, string folder, int repeats)
    {
        var splits = new[] { "val", "test" }.Select(split => LabelledRows.Read(LabelledRows.Find(Path.Combine(folder, split)), app, 255, 0)).ToArray();
        var contents = app.Cascade.Select(stage => File.ReadAllBytes(Path.Combine(folder, stage.Model + ".onnx"))).ToArray();
        OnnxFile[] files = [.. contents.Select(content => OnnxFile.Inspect(content, ModelLimits.Default))];
        var stages = StageChain.Resolve(app, [.. files.Zip(app.Cascade, (file, stage) => new Manifest
        {
            Kind = ArtifactKind.Model, Name = stage.Model, Version = 1, Sha256 = "", Bytes = 0, Created = default, By = "", Inputs = file.Inputs, Outputs = file.Outputs, Metadata = file.Metadata,
        })]);
        var sessions = new List<ModelSession>();
        try
        {
            foreach (var (content, file) in contents.Zip(files)) sessions.Add(ModelSession.Load(content, file));
            StageRuns[] runs = [.. splits.Select(rows => new StageRuns(stages, sessions, rows))];
            var microseconds = runs[0].Microseconds(repeats, TimeProvider.System, CancellationToken.None);
            var said = stages.Select((stage, i) =>
            {
                Console.Error.WriteLine($"... {stage.Model} on val and test");
                return runs.Select(run => run.Probabilities(i, app.Labels.Count, _ => { }, CancellationToken.None)).ToArray();
            }).ToArray();
            var chain = new StageChain(stages);
            var pool = new TuningRows([.. said.Select(stage => (float[])[.. stage[0], .. stage[1]])], [.. splits[0].Labels, .. splits[1].Labels], app.Labels.Count, microseconds, chain);
            return (Split(0), Split(1), pool);

            TuningRows Split(int index) => new([.. said.Select(stage => stage[index])], splits[index].Labels, app.Labels.Count, microseconds, chain);
        }
        finally
        {
            foreach (var session in sessions) session.Leave();
        }
    }

    private static string Points(double points) => Report.Number(points, "0.##");

    private static string Name(double points) => "e" + Report.Number(points, "0.00");

    /// <summary>A share as percentage points.</summary>
    private static string Hundred(double share) => (100 * share).ToString("0.00", CultureInfo.InvariantCulture);
}
