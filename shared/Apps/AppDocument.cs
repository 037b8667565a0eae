using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Caching;
using Skiff.Cascades;
using Skiff.Models;
using Skiff.Personalization;
using Skiff.Selection;
using Skiff.Store;

namespace Skiff.Apps;

/// <summary>
/// What callers ask, as the document that is published says it. Fields that are not known are refused: a typing error must not become a default.
/// Optional fields have setters, not initialisers: generated deserialization would overwrite their defaults.
/// </summary>
public sealed record AppDocument
{
    public required string Name { get; init; }
    /// <summary>Of every app but one that ranks, which takes features by name and has none.</summary>
    public InputDocument Input { get; set; } = null!;

    /// <summary>Names of the classes, in the order of the model's scores; none for a regression.</summary>
    public IReadOnlyList<string> Labels { get; set; } = [];

    /// <summary>The latency that the app aims at, in ms.</summary>
    public double ObjectiveMs { get; set; } = 20;

    [JsonIgnore]
    public TimeSpan Objective => TimeSpan.FromMilliseconds(ObjectiveMs);

    /// <summary>What is answered, marked as the default, when nothing better can be had in time.</summary>
    public DefaultDocument Default { get; set; } = new();

    /// <summary>Whether the cascade's answers may come from the prediction cache.</summary>
    public CacheDocument Cache { get; set; } = CacheDocument.Off;

    public DecisionStorage Decisions { get; set; } = DecisionStorage.Sealed;

    /// <summary>Whether feedback keeps the input that it brings along, so that a replay can move heads to another feature model.</summary>
    public bool KeepInputs { get; set; }

    /// <summary>From the cheapest to the heaviest; every stage but the last has a gate, or is what a later one continues from.</summary>
    public IReadOnlyList<StageDocument> Cascade { get; set; } = [];

    /// <summary>Models that answer together, in place of a cascade.</summary>
    public EnsembleDocument? Ensemble { get; set; }

    public HeadDocument? Head { get; set; }

    /// <summary>What counts as feedback beside what callers say outright.</summary>
    public FeedbackDocument? Feedback { get; set; }

    /// <summary>Makes it an app that ranks actions, and nothing else.</summary>
    public RankDocument? Rank { get; set; }

    /// <exception cref="FormatException">The document is not a valid app; the message names the field and what it takes.</exception>
    public static AppDocument Parse(ReadOnlySpan<byte> json)
    {
        AppDocument app;
        try
        {
            app = JsonSerializer.Deserialize(json, AppJson.Default.AppDocument) ?? throw new FormatException("the app document is null");
        }
        catch (JsonException e)
        {
            throw new FormatException($"not a valid app document: {e.Message}", e);
        }
        app.Validate();
        return app;
    }

    private void Validate()
    {
        Names.Check("app", Name);
        if (Rank is { } rank)
        {
            rank.Validate(this);
            return;
        }
        Require(Input is not null, "'input' is missing: it takes the name, type and shape of what the models take");
        Require(Input!.Name is { Length: > 0 }, "'input.name' is missing");
        Require(DataTypes.TryParse(Input.Type, out var type) && type is not (DataType.Bytes or DataType.Bf16),
            $"'input.type' is '{Input.Type}': it takes one of BOOL, UINT8 to UINT64, INT8 to INT64, FP16, FP32, FP64");
        Require(Input.Shape.All(dimension => dimension > 0) && Shapes.Count(Input.Shape) is > 0 and <= 1 << 24,
            "'input.shape' takes positive dimensions, at most 16,777,216 elements a row, without the rows themselves");
        Require(ObjectiveMs > 0, $"'objective_ms' is {ObjectiveMs}: it takes a positive number of milliseconds");
        // What the annotations say of a list's elements, the reader does not check.
        Require(Labels.All(label => label is not null), "'labels' has a null: it takes names");
        Require(Cascade.All(stage => stage is not null), "'cascade' has a null: it takes stages");
        Require(Labels.Distinct().Count() == Labels.Count, "'labels' names a class twice");
        Require(Default.Label is not { } label || (label >= 0 && label < Labels.Count), $"'default.label' is {Default.Label}: it takes null, or the index of one of the {Labels.Count} labels");
        Require(Cascade.Count > 0 || Ensemble is not null || Head is not null, "an app needs a 'cascade', a 'head', or both; an 'ensemble' may stand in the cascade's place; or 'rank' alone");
        Require(Decisions == DecisionStorage.Sealed, "'decisions' takes \"sealed\"");
        for (var i = 0; i < Cascade.Count; i++)
        {
            Names.Check("model", Cascade[i].Model);
            var isLast = i == Cascade.Count - 1;
            Require(i > 0 || Cascade[i].From is null, $"stage 0 of 'cascade' has 'from': there is no stage before it to continue from");
            Require(Cascade[i].From is null or { Length: > 0 }, $"stage {i} of 'cascade' has an empty 'from': it takes the name of an earlier stage's output");
            Require(isLast || Cascade[i].Gate is not null || Cascade.Skip(i + 1).Any(later => later.From is not null), $"stage {i} of 'cascade' has no 'gate': every stage but the last needs one, or it would answer everything");
            Require(!isLast || Cascade[i].Gate is null, "the last stage of 'cascade' has a 'gate': there is nobody left to ask");
            if (Cascade[i].Gate is { } gate) Validate(i, gate);
        }
        Require(Cascade.Count == 0 || Labels.Count > 1, "a 'cascade' needs 'labels', one for each of the model's scores");
        Ensemble?.Validate(this);
        Head?.Validate(this);
        Feedback?.Validate(this);
        Cache.Validate(this);
    }

    private void Validate(int stage, Gate gate)
    {
        Require(gate.At is >= 0 and <= 1, $"the gate of stage {stage} is at {gate.At}: it takes a confidence from 0 to 1");
        Require(gate.Temperature is null or > 0, $"the gate of stage {stage} has a 'temperature' of {gate.Temperature}: it takes a positive number");
        var count = gate.Weights?.Count ?? 0;
        if (gate.On == GateOn.Learned)
        {
            Require(count == LearnedGate.Count(Labels.Count),
                $"the gate of stage {stage} is learned and has {count} 'weights': for {Labels.Count} labels it takes {LearnedGate.Count(Labels.Count)}");
        }
        else
        {
            Require(gate.Weights is null, $"the gate of stage {stage} has 'weights': only a gate on \"learned\" takes them");
        }
    }

    /// <summary>The document as it would be published: indented JSON that <see cref="Parse"/> reads back to the same.</summary>
    public byte[] ToJson()
    {
        var readable = new JsonSerializerOptions(AppJson.Default.Options)
        {
            WriteIndented = true,
            DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        };
        return JsonSerializer.SerializeToUtf8Bytes(this, new AppJson(readable).AppDocument);
    }

    internal static void Require(bool holds, string otherwise)
    {
        if (!holds) throw new FormatException(otherwise);
    }
}

/// <summary>The cache: <c>true</c>, <c>false</c>, or an object that says more, <c>{"approximate":{…}}</c>.</summary>
[JsonConverter(typeof(CacheConverter))]
public sealed record CacheDocument(bool IsOn, ApproximateDocument? Approximate)
{
    /// <summary>Numbers that an app's hyperplanes may have together: 16 MiB of them.</summary>
    private const long MostNumbers = 1 << 22;

    public static CacheDocument Off { get; } = new(false, null);

    public static CacheDocument On { get; } = new(true, null);

    internal void Validate(AppDocument app)
    {
        AppDocument.Require(!IsOn || app.Cascade.Count > 0, "'cache' keeps what a 'cascade' answers, and this app has none: leave it out");
        if (Approximate is not { } approximate) return;
        AppDocument.Require(app.Input.Type == DataType.Fp32.WireName(), $"'cache.approximate' measures distances between inputs of type FP32; 'input.type' is '{app.Input.Type}'");
        AppDocument.Require(approximate.Distance > 0 && double.IsFinite(approximate.Distance), $"'cache.approximate.distance' is {approximate.Distance}: it takes a positive number, Euclidean, in the input's units");
        AppDocument.Require(approximate.Bits is >= 1 and <= 64, $"'cache.approximate.bits' is {approximate.Bits}: it takes 1 to 64");
        AppDocument.Require(approximate.Tables is >= 1 and <= ApproximateCache.MostTables, $"'cache.approximate.tables' is {approximate.Tables}: it takes 1 to {ApproximateCache.MostTables}");
        var numbers = Shapes.Count(app.Input.Shape) * approximate.Bits * approximate.Tables;
        AppDocument.Require(numbers <= MostNumbers, $"'cache.approximate' takes at most {MostNumbers} for bits × tables × elements of a row; here it is {numbers}");
    }
}

/// <summary>An answer for a row nearby will do.</summary>
public sealed record ApproximateDocument
{
    /// <summary>Up to which rows are near: Euclidean, in the input's units.</summary>
    public required double Distance { get; init; }

    /// <summary>Of a table's code: more of them find less and cost less to look through.</summary>
    public int Bits { get; set; } = 16;

    /// <summary>More of them find more.</summary>
    public int Tables { get; set; } = 4;
}

/// <summary>The long form of <see cref="CacheDocument"/>.</summary>
internal sealed record CacheObjectDocument
{
    public ApproximateDocument? Approximate { get; set; }
}

internal sealed class CacheConverter : JsonConverter<CacheDocument>
{
    public override CacheDocument Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) => reader.TokenType switch
    {
        JsonTokenType.True => CacheDocument.On,
        JsonTokenType.False => CacheDocument.Off,
        JsonTokenType.StartObject => new CacheDocument(true, JsonSerializer.Deserialize(ref reader, AppJson.Default.CacheObjectDocument)!.Approximate),
        _ => throw new JsonException("'cache' takes true, false, or an object with 'approximate'"),
    };

    public override void Write(Utf8JsonWriter writer, CacheDocument value, JsonSerializerOptions options)
    {
        if (value.Approximate is null) writer.WriteBooleanValue(value.IsOn);
        else JsonSerializer.Serialize(writer, new CacheObjectDocument { Approximate = value.Approximate }, AppJson.Default.CacheObjectDocument);
    }
}

public sealed record InputDocument
{
    public required string Name { get; init; }
    public required string Type { get; init; }

    /// <summary>Of one row.</summary>
    public long[] Shape { get; set; } = [];
}

public sealed record DefaultDocument
{
    public int? Label { get; init; }
    public double? Output { get; init; }
}

/// <summary>Where what was decided waits for its feedback.</summary>
public enum DecisionStorage
{
    /// <summary>In its own id, encrypted.</summary>
    Sealed,

    /// <summary>In the state store.</summary>
    Stored,
}

/// <summary>Where a stage's model runs.</summary>
public enum Tier
{
    Function,

    /// <summary>On the provisioned tier where there is one, otherwise here.</summary>
    Heavy,
}

public sealed record StageDocument
{
    public required string Model { get; init; }

    /// <summary>The output of an earlier stage that this one continues from, by its name: of the nearest that gives it. Null for the app's input.</summary>
    public string? From { get; set; }

    /// <summary>None for the last stage, and for one that only computes what a later one continues from.</summary>
    public Gate? Gate { get; set; }
    public Tier Tier { get; set; }
}

public enum HeadKind
{
    Classes,
    Regression,

    /// <summary>A reward for each candidate: one head over φ(x, a), whatever candidates there are.</summary>
    Ranking,
}

/// <summary>The personal head.</summary>
public sealed record HeadDocument
{
    /// <summary>The model whose first output is φ.</summary>
    public required string Features { get; init; }

    public required HeadKind Kind { get; init; }

    /// <summary>The population's head that users start from; without one they start from nothing.</summary>
    public string? Prior { get; set; }

    /// <summary>κ in P₀ = (κ G)⁻¹: how stubborn the prior is.</summary>
    public double PriorStrength { get; set; } = 1;

    /// <summary>How the prior gives way as a user's own labels come.</summary>
    public PriorFadeDocument? PriorFade { get; set; }

    /// <summary>γ: what an example still counts one example later; 1 = every example counts for ever.</summary>
    public double Forgetting { get; set; } = 1;

    /// <summary>Whether a head is opened anew when its user is seen to have changed.</summary>
    public bool DetectChanges { get; set; }

    /// <summary>How much of the covariance is kept; null leaves it to the number of dimensions.</summary>
    public HeadForm? Form { get; set; }

    /// <summary>How long a process may answer with a head that another may have taught meanwhile.</summary>
    public HeadCacheDocument Cache { get; set; } = HeadCacheDocument.On;

    /// <summary>What keeps single examples and users from doing harm: <c>true</c> by default, <c>false</c>, or an object that tunes it.</summary>
    public GuardDocument Guards { get; set; } = GuardDocument.Default;

    internal void Validate(AppDocument app)
    {
        Names.Check("model", Features);
        if (Prior is not null) Names.Check("prior", Prior);
        AppDocument.Require(PriorStrength > 0, $"'head.prior_strength' is {PriorStrength}: it takes a positive number");
        AppDocument.Require(Forgetting is > 0 and <= 1, $"'head.forgetting' is {Forgetting}: it takes a number above 0, up to 1");
        AppDocument.Require(PriorFade is not { By: not (>= 1 and <= 1000) }, $"'head.prior_fade.by' is {PriorFade?.By}: it takes 1 to 1000");
        AppDocument.Require(PriorFade is not { Labels: not (>= 1 and <= 10_000) }, $"'head.prior_fade.labels' is {PriorFade?.Labels}: it takes 1 to 10000");
        Guards.Validate();
        Cache.Validate();
        AppDocument.Require(Kind != HeadKind.Classes || app.Labels.Count > 1, "a head of kind 'classes' needs 'labels'");
        AppDocument.Require(Kind == HeadKind.Classes || (app.Labels.Count == 0 && app.Cascade.Count == 0), $"a head of kind '{Kind.ToString().ToLowerInvariant()}' takes neither 'labels' nor a 'cascade'");
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectNullableAnnotations = true,
    UseStringEnumConverter = true,
    Converters = [typeof(SnakeCaseEnum<GateOn>), typeof(SnakeCaseEnum<DecisionStorage>), typeof(SnakeCaseEnum<Tier>), typeof(SnakeCaseEnum<HeadKind>), typeof(SnakeCaseEnum<HeadForm>), typeof(SnakeCaseEnum<ImplicitAnswer>),
        typeof(SnakeCaseEnum<CombineBy>), typeof(SnakeCaseEnum<PolicyPer>), typeof(SnakeCaseEnum<PolicyKind>),
        typeof(SnakeCaseEnum<RankMode>), typeof(SnakeCaseEnum<RewardAggregation>), typeof(SnakeCaseEnum<ExplorationKind>)])]
[JsonSerializable(typeof(AppDocument))]
[JsonSerializable(typeof(GuardObjectDocument))]
[JsonSerializable(typeof(CacheObjectDocument))]
[JsonSerializable(typeof(HeadCacheObjectDocument))]
internal sealed partial class AppJson : JsonSerializerContext;

internal sealed class SnakeCaseEnum<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false)
    where T : struct, Enum;
