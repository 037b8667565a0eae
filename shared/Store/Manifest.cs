using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Models;

namespace Skiff.Store;

/// <summary>What a version is made of; each kind has its own names and versions.</summary>
public enum ArtifactKind
{
    /// <summary>An ONNX file.</summary>
    Model,

    /// <summary>The population's head that users start from, a JSON document.</summary>
    Prior,

    /// <summary>An app document, JSON.</summary>
    App,
}

/// <summary>A version, written once and never changed.</summary>
public sealed record Manifest
{
    public required ArtifactKind Kind { get; init; }
    public required string Name { get; init; }
    public required int Version { get; init; }

    /// <summary>Of the content, lower-case hexadecimal; also the content's key.</summary>
    public required string Sha256 { get; init; }

    public required long Bytes { get; init; }
    public IReadOnlyList<TensorSpec> Inputs { get; init; } = [];
    public IReadOnlyList<TensorSpec> Outputs { get; init; } = [];
    public IReadOnlyDictionary<string, string> Metadata { get; init; } = new Dictionary<string, string>();

    /// <summary>The version that this one was published after, null for the first.</summary>
    public int? Parent { get; init; }

    public required DateTimeOffset Created { get; init; }

    /// <summary>The program that published it.</summary>
    public required string By { get; init; }
}

/// <summary>A name that moves: the document behind <c>live</c>.</summary>
public sealed record Alias
{
    public required int Version { get; init; }
    public required DateTimeOffset Moved { get; init; }

    /// <summary>A copy of the version's own, so that who asks what is live is told in one read. Null where the alias was moved before there were copies.</summary>
    public Manifest? Manifest { get; init; }
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, UseStringEnumConverter = true)]
[JsonSerializable(typeof(Manifest))]
[JsonSerializable(typeof(Alias))]
internal sealed partial class StoreJson : JsonSerializerContext;
