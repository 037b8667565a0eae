using Skiff.Apps;
using Skiff.Models;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Cascades;

/// <summary>Which stages of a cascade continue from which: parts of one network, so that a later exit does not compute again what an earlier one has.</summary>
/// <param name="stages">From the cheapest to the heaviest.</param>
public sealed class StageChain(IReadOnlyList<Stage> stages)
{
    public static StageChain Unlinked(int stages) => new([.. Enumerable.Range(0, stages).Select(_ => new Stage("", null))]);

    /// <summary>Themselves, and all that they continue from; ascending.</summary>
    public int[] Needed(IReadOnlyList<int> answering)
    {
        var needed = new SortedSet<int>();
        foreach (var stage in answering)
        {
            for (int? next = stage; next is { } one && needed.Add(one);) next = stages[one].From?.Stage;
        }
        return [.. needed];
    }

    /// <summary>Finds for each stage of a document what it continues from, and checks that it can.</summary>
    /// <param name="models">The model of each stage.</param>
    /// <exception cref="FormatException">No stage before it gives such an output, or the model takes another.</exception>
    public static IReadOnlyList<Stage> Resolve(AppDocument app, IReadOnlyList<Manifest> models)
    {
        var stages = app.Cascade.Select((stage, i) => new Stage(
            stage.Model, stage.Gate, stage.From is null ? null : Find(app, models, i, stage.From), stage.Tier == Tier.Heavy ? new TierModel(stage.Model, models[i].Inputs[0].Name, models[i].Outputs[0].Name) : null)).ToArray();
        for (var i = 0; i < stages.Length; i++)
        {
            // What a stage computed on the way to its answer stays where it ran.
            AppDocument.Require(stages[i].From is not { } from || (stages[i].Heavy is null && stages[from.Stage].Heavy is null),
                $"stage {i} of 'cascade' continues from another, and one of them has the tier \"heavy\": a heavy stage takes the app's input, and none continues from it");
            if (i == stages.Length - 1) break;
            AppDocument.Require(stages[i].Gate is not null || stages.Any(later => later.From?.Stage == i),
                $"stage {i} of 'cascade' has no 'gate' and no later stage continues from it: every stage but the last needs one, or it would be run for nothing");
        }
        return stages;
    }

    private static StageOutput Find(AppDocument app, IReadOnlyList<Manifest> models, int stage, string name)
    {
        for (var before = stage - 1; before >= 0; before--)
        {
            if (models[before].Outputs.FirstOrDefault(output => output.Name == name) is not { } output) continue;
            var gives = $"output {output} of model '{models[before].Name}'";
            AppDocument.Require(output.Type != DataType.Bytes && output.Shape is [-1, _, ..], $"stage {stage} of 'cascade' can't continue from {gives}: it takes numbers, a row for each row of the input");
            AppDocument.Require(models[stage].Inputs is [var input] && input.Type == output.Type && Takes(input, output),
                $"stage {stage} of 'cascade' can't continue from {gives}: model '{models[stage].Name}' takes {string.Join(", ", models[stage].Inputs)}");
            AppDocument.Require(NetworkOf(models[before]) == NetworkOf(models[stage]),
                $"stage {stage} of 'cascade' can't continue from {gives}: model '{models[stage].Name}' is a part of another network (metadata '{Network}')");
            return new StageOutput(before, name);
        }
        var given = models.Take(stage).SelectMany(model => model.Outputs).Select(output => $"'{output.Name}'").Distinct();
        throw new FormatException($"stage {stage} of 'cascade' continues from '{name}', which no stage before it gives; they give {string.Join(", ", given)}");
    }

    /// <summary>Metadata of a model that is a part of a network: parts go together where this says the same of them. Null for a model that has none.</summary>
    public static string? NetworkOf(Manifest model) => model.Metadata.GetValueOrDefault(Network);

    private const string Network = "skiff.network";

    /// <summary>Whether nothing that both fix differs.</summary>
    private static bool Takes(TensorSpec input, TensorSpec output) =>
        input.Shape is [-1, ..] && input.Shape.Length == output.Shape.Length && input.Shape.Zip(output.Shape).All(pair => pair.First < 0 || pair.Second < 0 || pair.First == pair.Second);
}
