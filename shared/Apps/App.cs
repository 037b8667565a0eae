using System.Collections.Concurrent;
using Skiff.Cascades;
using Skiff.Ensembles;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Ranking;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Apps;

/// <summary>A published app, checked against the models it names: an immutable snapshot that requests run on.</summary>
public sealed class App
{
    private const int MostColdAnswers = 16;

    private readonly Dictionary<string, int> _labels;
    private readonly ModelStore _store;
    private readonly ConcurrentDictionary<int, Head> _earlierHeads = new();
    private readonly bool _hasTier;
    private int _coldAnswers;

    private App(string tenant, Manifest manifest, AppDocument document, Head? head, Cascade? cascade, Ensemble? ensemble, ModelStore store, bool hasTier, TimeProvider time)
    {
        (_store, _hasTier) = (store, hasTier);
        Tenant = tenant;
        Version = manifest.Version;
        Document = document;
        Head = head;
        Cascade = cascade;
        Ensemble = ensemble;
        Models = [.. (document.Ensemble?.Members ?? document.Cascade.Where(stage => !RunsElsewhere(stage)).Select(stage => stage.Model)).Concat(document.Head is null ? [] : [document.Head.Features]).Distinct()];
        if (document.Rank is { } rank)
        {
            Space = rank.CreateSpace();
            Exploration = rank.Policy.Create();
        }
        else
        {
            DataTypes.TryParse(document.Input.Type, out var type);
            InputType = type;
            RowElements = (int)Shapes.Count(document.Input.Shape);
        }
        Pressure = new Pressure(Math.Max(document.Cascade.Count - 1, 0), HasDefault, document.Objective, time);
        _labels = document.Labels.Select((label, index) => (label, index)).ToDictionary(pair => pair.label, pair => pair.index);
    }

    public string Tenant { get; }
    public int Version { get; }
    public AppDocument Document { get; }
    public string Name => Document.Name;
    public DataType InputType { get; }

    /// <summary>Elements of one row of the input.</summary>
    public int RowElements { get; }

    public Cascade? Cascade { get; }
    public Ensemble? Ensemble { get; }
    public Head? Head { get; }

    /// <summary>Of an app that ranks: what its features become.</summary>
    internal FeatureSpace? Space { get; }

    /// <summary>Of an app that ranks: how it chooses.</summary>
    public Exploration? Exploration { get; }

    /// <summary>How hard pressed it is here.</summary>
    public Pressure Pressure { get; }

    /// <summary>Whether this version has answered within its objective in this process, or so often that it won't: what comes first takes longer.</summary>
    public bool IsWarm => Volatile.Read(ref _coldAnswers) >= MostColdAnswers;

    /// <summary>Tells how long an answer took.</summary>
    public void Answered(TimeSpan took)
    {
        if (IsWarm) return;
        if (took <= Document.Objective) Volatile.Write(ref _coldAnswers, MostColdAnswers);
        else Interlocked.Increment(ref _coldAnswers);
    }

    /// <summary>Whether it has an answer for those whom no model answers.</summary>
    public bool HasDefault => Document.Default is not { Label: null, Output: null };

    /// <summary>Names of the models that its answers may need here.</summary>
    public IReadOnlyList<string> Models { get; }

    /// <summary>How long feedback on an answer is waited for until silence says something; null where it says nothing, or there is nobody who would learn from it.</summary>
    /// <param name="answered">The label that was answered, -1 for none.</param>
    internal TimeSpan? SilenceAfter(string? user, string? context, int answered)
    {
        if (Document.Feedback?.Implicit is not { } rule || rule.Of(answered) == default) return null;
        var learns = user is { Length: > 0 } && (Head is not null || Ensemble?.Policy is { Per: PolicyPer.User }) || context is { Length: > 0 } && Ensemble?.Policy is { Per: PolicyPer.Context };
        return learns ? rule.After : null;
    }

    /// <returns>The index of a label by its name, or -1.</returns>
    public int LabelIndex(string name) => _labels.GetValueOrDefault(name, -1);

    /// <summary>Whether a stage of its cascade runs on the heavy tier.</summary>
    public bool RunsElsewhere(StageDocument stage) => _hasTier && stage.Tier == Tier.Heavy;

    /// <summary>Reads a published app and makes it ready to run.</summary>
    /// <param name="tier">Where its heavy stages run; null for here.</param>
    /// <exception cref="FormatException">The document is invalid or does not fit its models.</exception>
    public static async Task<App> LoadAsync(string tenant, Manifest manifest, ModelStore store, ModelHost models, TimeProvider time, CancellationToken cancellation, HeavyTier? tier = null)
    {
        var (document, head, stages) = await ReadAsync(tenant, await store.ContentAsync(tenant, manifest, cancellation), store, cancellation);
        return new App(tenant, manifest, document, head, stages.Count == 0 ? null : new Cascade(stages, document.Labels.Count, document.Objective, models, time, tier),
            document.Ensemble is null ? null : new Ensemble(document.Ensemble, document.Labels.Count, document.Objective, models, time), store, tier is not null, time);
    }

    /// <summary>The head of those who began from a version of the prior that need not be live any more: what it forgets, it forgets towards that one.</summary>
    /// <exception cref="FormatException">There is no such version, or it does not fit the app as it is now.</exception>
    public async ValueTask<Head> HeadFromAsync(int priorVersion, CancellationToken cancellation)
    {
        var head = Head ?? throw new InvalidOperationException($"app '{Name}' has no head");
        if (priorVersion == head.PriorVersion) return head;
        if (_earlierHeads.TryGetValue(priorVersion, out var earlier)) return earlier;
        if (priorVersion == 0) earlier = Head.WithoutPrior(head.Document, head.Width, head.Outputs);
        else
        {
            var manifest = await _store.ManifestAsync(Tenant, ArtifactKind.Prior, head.Document.Prior ?? "none", priorVersion, cancellation)
                ?? throw new FormatException($"the prior that this head began from, version {priorVersion} of '{head.Document.Prior}', is gone");
            earlier = await LoadHeadAsync(Tenant, head.Document, manifest, head.Width, head.Outputs, _store, cancellation);
        }
        return _earlierHeads.GetOrAdd(priorVersion, earlier);
    }

    /// <summary>The models of the cascade or the ensemble, which answer everybody alike.</summary>
    private static IEnumerable<string> Global(AppDocument document) => document.Ensemble?.Members ?? document.Cascade.Select(stage => stage.Model);

    /// <summary>Reads an app document and checks that its models are in the store, take its input and give what it needs.</summary>
    /// <exception cref="FormatException">The document is invalid or does not fit its models.</exception>
    public static async Task<(AppDocument Document, Head? Head, IReadOnlyList<Stage> Stages)> ReadAsync(string tenant, byte[] content, ModelStore store, CancellationToken cancellation)
    {
        var document = AppDocument.Parse(content);
        // All at once: a cold start waits for this.
        var models = Global(document).Select(model => LiveAsync(tenant, ArtifactKind.Model, model, store, cancellation)).ToArray();
        var head = document.Head is null ? null : LoadHeadAsync(tenant, document, document.Head, store, cancellation);
        await Task.WhenAll([.. models, head ?? Task.CompletedTask]);
        var manifests = await Task.WhenAll(models);
        var stages = StageChain.Resolve(document, manifests);
        foreach (var (name, model, continues) in Global(document).Zip(manifests, document.Ensemble is null ? stages.Select(stage => stage.From is not null) : manifests.Select(_ => false)))
        {
            if (!continues) CheckInput(document, model);
            var classes = model.Outputs[0].Shape is { Length: 2 } shape ? shape[1] : -2;
            AppDocument.Require(model.Outputs[0].Type == DataType.Fp32 && (classes == document.Labels.Count || classes == -1),
                $"the first output of model '{name}' is {model.Outputs[0]}; an app of {document.Labels.Count} labels needs FP32 [-1,{document.Labels.Count}]");
        }
        return (document, head is null ? null : await head, stages);
    }

    private static async Task<Head> LoadHeadAsync(string tenant, AppDocument app, HeadDocument head, ModelStore store, CancellationToken cancellation)
    {
        var features = await LiveAsync(tenant, ArtifactKind.Model, head.Features, store, cancellation);
        CheckInput(app, features);
        AppDocument.Require(features.Outputs[0].Type == DataType.Fp32 && features.Outputs[0].Shape is [_, > 0],
            $"the first output of feature model '{head.Features}' is {features.Outputs[0]}; a head needs FP32 [-1,d] with d fixed");
        var width = (int)features.Outputs[0].Shape[1];
        var outputs = head.Kind == HeadKind.Classes ? app.Labels.Count : 1;
        if (head.Prior is null) return Head.WithoutPrior(head, width, outputs);
        return await LoadHeadAsync(tenant, head, await LiveAsync(tenant, ArtifactKind.Prior, head.Prior, store, cancellation), width, outputs, store, cancellation);
    }

    private static async Task<Head> LoadHeadAsync(string tenant, HeadDocument head, Manifest manifest, int width, int outputs, ModelStore store, CancellationToken cancellation)
    {
        var prior = Prior.Parse(await store.ContentAsync(tenant, manifest, cancellation));
        AppDocument.Require(prior.Dimensions == width || prior.Dimensions == width + 1,
            $"prior '{head.Prior}' has {prior.Dimensions} dimensions; feature model '{head.Features}' gives {width}, so it takes {width}, or {width + 1} with a constant 1");
        AppDocument.Require(prior.Outputs == outputs, $"prior '{head.Prior}' has {prior.Outputs} outputs; the app needs {outputs}");
        try
        {
            return Head.FromPrior(head, width, manifest.Version, prior);
        }
        catch (ArgumentException e)
        {
            throw new FormatException($"prior '{head.Prior}' can't be used: {e.Message}", e);
        }
    }

    private static async Task<Manifest> LiveAsync(string tenant, ArtifactKind kind, string name, ModelStore store, CancellationToken cancellation)
    {
        var what = kind.ToString().ToLowerInvariant();
        return await store.LiveAsync(tenant, kind, name, cancellation)
            ?? throw new FormatException($"{what} '{name}' has no live version in the store: publish it with 'skiff push FILE --name {name} --alias live' first");
    }

    private static void CheckInput(AppDocument app, Manifest model)
    {
        var wanted = $"{app.Input.Type} {Shapes.Format([-1, .. app.Input.Shape])}";
        AppDocument.Require(model.Inputs.Count == 1, $"model '{model.Name}' takes {model.Inputs.Count} inputs; an app's model takes one, {wanted}");
        var input = model.Inputs[0];
        AppDocument.Require(input.Type.WireName() == app.Input.Type && input.Shape.Length > 0 && input.Shape[0] == -1 && input.Takes([1, .. app.Input.Shape]),
            $"model '{model.Name}' takes {input}; the app's input needs {wanted}");
    }
}
