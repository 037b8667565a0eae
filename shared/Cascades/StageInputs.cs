using Skiff.Models;

namespace Skiff.Cascades;

/// <summary>
/// What the stages of one request take: rows of the app's input, or of an output that an earlier stage computed. Of the outputs only those that a later stage continues from are read, and of these only the
/// rows that go on.
/// </summary>
/// <param name="input">All rows, shape [N, …].</param>
internal sealed class StageInputs(IReadOnlyList<Stage> stages, TensorBuffer buffer, Tensor input)
{
    private List<Kept>? _kept; // none for cascades whose stages all take the app's input

    public TensorBuffer Buffer => buffer;

    /// <summary>Rows of the app's input.</summary>
    public Tensor OfApp(int[] rows) => rows.Length == input.Shape[0] ? input : Cascade.Gather(buffer, input, rows);

    /// <param name="lease">Of the stage's model.</param>
    /// <param name="rows">Ascending.</param>
    /// <exception cref="RequestException">The version that is live no longer fits what it continues from.</exception>
    public Tensor Of(int stage, ModelLease lease, int[] rows)
    {
        if (stages[stage].From is not { } from) return OfApp(rows);
        if (_kept?.Find(kept => kept.Output == from) is not { } kept) throw lease.Misfit($"continues from '{from.Name}', which model '{stages[from.Stage].Model}' no longer gives");
        // What a new version computes may look the same and mean something else.
        if (kept.Network != StageChain.NetworkOf(lease.Manifest)) throw lease.Misfit($"continues from '{from.Name}' of model '{stages[from.Stage].Model}', whose live version is a part of another network");
        return kept.Rows.Length == rows.Length ? kept.Tensor : Cascade.Gather(buffer, kept.Tensor, Positions(kept.Rows, rows));
    }

    /// <summary>Keeps what later stages continue from, of the rows that go on.</summary>
    /// <param name="rows">Those that ran.</param>
    /// <param name="open">Those of them that go on.</param>
    public void Keep(int stage, ModelLease lease, ModelOutputs outputs, int[] rows, int[] open)
    {
        if (open.Length == 0) return;
        for (var later = stage + 1; later < stages.Count; later++)
        {
            if (stages[later].From is not { } from || from.Stage != stage || _kept?.Exists(kept => kept.Output == from) == true) continue;
            var index = IndexOf(outputs, from.Name);
            if (index < 0 || outputs.Spec(index).Type == DataType.Bytes || outputs.Shape(index) is not [var count, ..] || count != rows.Length) continue;
            (_kept ??= []).Add(new Kept(from, Copy(buffer, outputs, index, open.Length == rows.Length ? null : Positions(rows, open)), open, StageChain.NetworkOf(lease.Manifest)));
        }
    }

    /// <returns>-1 where there is no output of this name.</returns>
    internal static int IndexOf(ModelOutputs outputs, string name)
    {
        for (var i = 0; i < outputs.Count; i++)
        {
            if (outputs.Spec(i).Name == name) return i;
        }
        return -1;
    }

    /// <summary>Some rows of an output, one behind the other.</summary>
    /// <param name="rows">Null for all.</param>
    internal static Tensor Copy(TensorBuffer buffer, ModelOutputs outputs, int index, int[]? rows)
    {
        var shape = outputs.Shape(index);
        var bytes = outputs.Bytes(index);
        var rowBytes = bytes.Length / (int)shape[0];
        if (rows is not null) shape[0] = rows.Length;
        var tensor = new Tensor { Name = outputs.Spec(index).Name, Type = outputs.Spec(index).Type, Shape = shape, Length = (int)shape[0] * rowBytes };
        tensor.Offset = buffer.Allocate(tensor.Length);
        var to = buffer.Span(tensor.Offset, tensor.Length);
        if (rows is null) bytes.CopyTo(to);
        for (var i = 0; i < rows?.Length; i++) bytes.Slice(rows[i] * rowBytes, rowBytes).CopyTo(to[(i * rowBytes)..]);
        return tensor;
    }

    /// <summary>Where some of the rows stand among all; both ascend.</summary>
    private static int[] Positions(int[] all, int[] some)
    {
        var positions = new int[some.Length];
        for (int i = 0, at = 0; i < some.Length; i++, at++)
        {
            while (all[at] != some[i]) at++;
            positions[i] = at;
        }
        return positions;
    }

    /// <param name="Rows">Which of the request's rows it holds.</param>
    private sealed record Kept(StageOutput Output, Tensor Tensor, int[] Rows, string? Network);
}
