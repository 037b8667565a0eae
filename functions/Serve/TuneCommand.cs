using System.CommandLine;
using System.Globalization;
using Skiff.Apps;
using Skiff.Cascades;
using Skiff.Cascades.Tuning;
using Skiff.Models;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>
/// <c>skiff tune</c>: runs every stage of an app's cascade once over labelled rows, chooses the thresholds jointly, publishes the app with them and draws what there was to choose from.
/// <c>--data</c> are the rows here, as everybody would expect; the stores' folder is <c>--store</c>, or <c>--data</c> before the command's name.
/// </summary>
internal static class TuneCommand
{
    private const int TimedRuns = 400;

    public static void Add(RootCommand root, Option<string> folder, Option<string> tenant)
    {
        var app = new Argument<string>("APP") { Description = "The app's name" };
        var data = new Option<string[]>("--data")
        {
            Description = "Labelled rows that no stage was trained on: a folder, DIR/val for the files DIR/val-*, a JSON Lines file ({\"input\":[…],\"label\":…}), or idx files of inputs and of labels",
            HelpName = "DIR|FILES",
            Required = true,
            AllowMultipleArgumentsPerToken = true,
        };
        var epsilon = new Option<double>("--epsilon") { Description = "Percentage points of accuracy that may be lost against the heaviest stage", Required = true, HelpName = "E" };
        var confidence = new Option<double>("--confidence") { Description = "With which the loss stays below that", DefaultValueFactory = _ => 0.95, HelpName = "C" };
        var gate = new Option<string>("--gate") { Description = "What the gates look at", DefaultValueFactory = _ => "margin" };
        gate.AcceptOnlyFromAmong("max_softmax", "margin", "entropy", "learned");
        var calibrate = new Option<bool>("--calibrate") { Description = "Temper the gates' probabilities where that makes the labels likelier; as with learned gates, three rows of ten then fit and certify nothing" };
        var scale = new Option<double>("--scale") { Description = "A byte of an idx file becomes (byte - offset) / scale", DefaultValueFactory = _ => 255 };
        var offset = new Option<double>("--offset") { Description = "See --scale", DefaultValueFactory = _ => 0 };
        var dryRun = new Option<bool>("--dry-run") { Description = "Publish nothing" };
        var picture = new Option<string?>("--picture") { Description = "Where to draw accuracy against run time, an SVG (./APP-frontier.svg)", HelpName = "FILE" };
        var store = new Option<string?>("--store") { Description = "Folder of the embedded stores (./.skiff)", HelpName = "DIR" };
        var tune = new Command("tune", "Choose a cascade's thresholds on labelled rows: least cost at a bounded loss of accuracy")
        {
            app, data, epsilon, confidence, gate, calibrate, scale, offset, dryRun, picture, store,
        };
        tune.SetAction((arguments, cancellation) => Failures.ReportAsync(() =>
        {
            var options = new TuningOptions
            {
                // Points become a share without a rounding error to print: 0.25 / 100 is 0.0025.
                Epsilon = arguments.GetRequiredValue(epsilon) / 100,
                Confidence = arguments.GetValue(confidence),
                On = Enum.Parse<GateOn>(arguments.GetRequiredValue(gate).Replace("_", ""), ignoreCase: true),
                Calibrate = arguments.GetValue(calibrate),
            };
            options.Validate();
            if (!double.IsNormal(arguments.GetValue(scale))) throw new ArgumentException("--scale takes a number other than 0");
            var settings = Settings.Read(arguments.GetValue(store) ?? arguments.GetRequiredValue(folder), null, Environment.GetEnvironmentVariables(), listens: false);
            var name = arguments.GetRequiredValue(app);
            return RunAsync(new Request(
                new ModelStore(Stores.OpenObjects(settings), TimeProvider.System), arguments.GetRequiredValue(tenant), Names.Check("app", name),
                arguments.GetRequiredValue(data), arguments.GetValue(scale), arguments.GetValue(offset), options,
                arguments.GetValue(dryRun), arguments.GetValue(picture) ?? $"{name}-frontier.svg"), cancellation);
        }));
        root.Add(tune);
    }

    private sealed record Request(ModelStore Store, string Tenant, string App, string[] Data, double Scale, double Offset, TuningOptions Options, bool DryRun, string Picture);

    private static async Task<int> RunAsync(Request request, CancellationToken cancellation)
    {
        var (document, stages, version) = await ReadAppAsync(request, cancellation);
        if (stages.Count == 0) throw new FormatException($"app '{document.Name}' has no cascade: there is nothing to tune");
        if (stages.Count == 1) throw new FormatException($"app '{document.Name}' has one stage, '{stages[0].Model}': there is nothing to tune; a cascade has cheaper stages before the heaviest");
        var paths = request.Data.SelectMany(LabelledRows.Find).ToArray();
        var rows = LabelledRows.Read(paths, document, request.Scale, request.Offset);
        var needed = CascadeTuner.RowsNeeded(request.Options, stages.Count);
        if (rows.Count < needed)
        {
            var asked = Invariant($"a loss below {100 * request.Options.Epsilon:0.####} points with confidence {request.Options.Confidence}");
            throw new FormatException(Invariant($"{rows.Count:N0} rows are too few: to certify {asked} takes at least {needed:N0}, even if not one answer is lost"));
        }

        var sessions = new List<ModelSession>();
        try
        {
            foreach (var stage in stages) sessions.Add(await LoadAsync(request, stage.Model, cancellation));
            var runs = new StageRuns(stages, sessions, rows);
            var probabilities = stages.Select((stage, i) =>
            {
                using var progress = new Progress(stage.Model, rows.Count);
                return runs.Probabilities(i, document.Labels.Count, progress.Report, cancellation);
            }).ToArray();
            Console.Error.WriteLine($"timing {stages.Count} stages, one row at a time");
            var microseconds = runs.Microseconds(TimedRuns, TimeProvider.System, cancellation);
            Console.Error.WriteLine("testing thresholds");
            var tuning = CascadeTuner.Run(new TuningRows(probabilities, rows.Labels, document.Labels.Count, microseconds, new StageChain(stages)), request.Options);

            string[] models = [.. stages.Select(stage => stage.Model)];
            Console.WriteLine($"app {document.Name}, version {version}, on {string.Join(" and ", paths.Select(Path.GetFileName))}");
            TuningReport.Write(Console.Out, models, tuning, document.Head is not null);
            await File.WriteAllTextAsync(request.Picture, FrontierPicture.Draw(document.Name, models, tuning), cancellation);
            Console.WriteLine($"picture     {request.Picture}");
            return await PublishAsync(request, document, tuning, cancellation);
        }
        finally
        {
            foreach (var session in sessions) session.Leave();
        }
    }

    private static async Task<(AppDocument Document, IReadOnlyList<Stage> Stages, int Version)> ReadAppAsync(Request request, CancellationToken cancellation)
    {
        var version = await request.Store.ResolveAsync(request.Tenant, ArtifactKind.App, request.App, ModelStore.Live, cancellation)
            ?? throw new FormatException($"there is no app '{request.App}' in {request.Store.Location}: 'skiff app push FILE' publishes one, and the first 'skiff serve' the samples");
        var manifest = await request.Store.ManifestAsync(request.Tenant, ArtifactKind.App, request.App, version, cancellation)
            ?? throw new StoreException($"version {version} of app '{request.App}' is missing in {request.Store.Location}");
        var (document, _, stages) = await App.ReadAsync(request.Tenant, await request.Store.ContentAsync(request.Tenant, manifest, cancellation), request.Store, cancellation);
        return (document, stages, version);
    }

    private static async Task<ModelSession> LoadAsync(Request request, string model, CancellationToken cancellation)
    {
        try
        {
            // That there is such a version was checked with the app.
            var version = await request.Store.ResolveAsync(request.Tenant, ArtifactKind.Model, model, ModelStore.Live, cancellation);
            var manifest = await request.Store.ManifestAsync(request.Tenant, ArtifactKind.Model, model, version ?? 0, cancellation)
                ?? throw new StoreException($"the live version of model '{model}' is missing in {request.Store.Location}");
            var content = await request.Store.ContentAsync(request.Tenant, manifest, cancellation);
            return ModelSession.Load(content, OnnxFile.Inspect(content, ModelLimits.Default));
        }
        catch (Exception e) when (e is ModelRejectedException or ModelFailedException)
        {
            throw new FormatException($"model '{model}' can't be loaded: {e.Message}", e);
        }
    }

    private static async Task<int> PublishAsync(Request request, AppDocument document, Tuning tuning, CancellationToken cancellation)
    {
        var tuned = document with { Cascade = [.. tuning.Cascade.Select(stage => document.Cascade[stage.Stage] with { Gate = stage.Gate })] };
        if (request.DryRun)
        {
            Console.WriteLine("dry run: nothing was published");
            return 0;
        }
        var (manifest, alias) = await new Publisher(request.Store, ModelLimits.Default).PushAppAsync(request.Tenant, tuned.ToJson(), cancellation);
        Console.WriteLine($"{manifest.Name}: version {manifest.Version}, {manifest.Bytes} bytes, sha256 {manifest.Sha256}");
        Console.WriteLine($"{alias} is version {manifest.Version}; 'skiff alias {manifest.Name} {manifest.Parent} --kind app' goes back");
        return 0;
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>Where a stage is, on standard error: one line that is written over on a terminal, otherwise one when it is done.</summary>
    private sealed class Progress(string what, int rows) : IDisposable
    {
        private int _shown = -1;

        public void Report(int done)
        {
            var percent = 100 * done / rows;
            if (Console.IsErrorRedirected || percent == _shown) return;
            _shown = percent;
            Console.Error.Write($"\r{what}: {percent}% of {rows} rows");
        }

        public void Dispose() => Console.Error.WriteLine(Console.IsErrorRedirected ? $"{what}: {rows} rows" : "");
    }
}
