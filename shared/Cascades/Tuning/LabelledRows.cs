using System.Buffers.Binary;
using System.IO.Compression;
using System.Runtime.InteropServices;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Serving.Json;

namespace Skiff.Cascades.Tuning;

/// <summary>
/// An app's inputs with their right answers, from files: JSON Lines of <c>{"input":[…],"label":…}</c>, where a label is an index or a name, or a pair of idx files of bytes (inputs and labels, the format
/// of MNIST). Either may be gzipped; what a file is, its first bytes say.
/// </summary>
public sealed class LabelledRows
{
    private const string Kinds = "JSON Lines ({\"input\":[…],\"label\":…}) or a pair of idx files of bytes, inputs and labels";

    private LabelledRows(TensorBuffer buffer, Tensor input, int[] labels) => (Buffer, Input, Labels) = (buffer, input, labels);

    public TensorBuffer Buffer { get; }

    /// <summary>All rows, shape [N, …], in <see cref="Buffer"/>.</summary>
    public Tensor Input { get; }

    public int[] Labels { get; }
    public int Count => Labels.Length;

    /// <summary>Consecutive rows, in place.</summary>
    public Tensor Rows(int first, int count)
    {
        var rowBytes = Input.Length / Count;
        return new Tensor { Name = Input.Name, Type = Input.Type, Shape = [count, .. Input.Shape.AsSpan(1)], Offset = Input.Offset + first * rowBytes, Length = count * rowBytes };
    }

    /// <summary>The files that a path stands for: itself; what lies in a folder; or, for <c>DIR/val</c>, the files <c>DIR/val-*</c>.</summary>
    /// <exception cref="FormatException">There are none, or more than one data set.</exception>
    public static IReadOnlyList<string> Find(string path)
    {
        if (File.Exists(path)) return [path];
        var isFolder = Directory.Exists(path);
        var (folder, prefix) = isFolder ? (path, "") : (Path.GetDirectoryName(path) is { Length: > 0 } parent ? parent : ".", Path.GetFileName(path) + "-");
        string[] files = Directory.Exists(folder)
            ? [.. Directory.EnumerateFiles(folder).Where(file => Path.GetFileName(file) is var name && name.StartsWith(prefix, StringComparison.Ordinal) && IsData(name)).Order(StringComparer.Ordinal)]
            : [];
        if (files.Length == 0) throw new FormatException(isFolder ? $"'{path}' has no *.jsonl and no *-ubyte files: tuning takes {Kinds}" : $"there is no file or folder '{path}', and no '{path}-*'");
        var sets = files.Select(SetOf).Distinct().ToArray();
        if (sets.Length > 1) throw new FormatException($"'{path}' has {sets.Length} data sets, {string.Join(", ", sets)}: name one, as in --data {Path.Combine(path, sets[^1])}");
        return files;
    }

    /// <param name="paths">One JSON Lines file, or one idx file of inputs and one of labels in any order.</param>
    /// <param name="scale">A byte of an idx file becomes (byte − <paramref name="offset"/>) / scale.</param>
    /// <exception cref="FormatException">The files are not what the app takes; the message names file, line and what is wrong.</exception>
    public static LabelledRows Read(IReadOnlyList<string> paths, AppDocument app, double scale, double offset)
    {
        DataTypes.TryParse(app.Input.Type, out var type);
        var files = paths.Select(path => (Name: Path.GetFileName(path), Content: ReadWhole(path))).ToArray();
        if (files is [var lines] && !IsIdx(lines.Content)) return ReadLines(lines.Name, lines.Content, app, type);
        if (files.FirstOrDefault(file => !IsIdx(file.Content)) is { Name: { } odd }) throw new FormatException($"'{odd}' is no idx file of bytes: tuning takes {Kinds}");
        var labels = files.Where(file => file.Content[3] == 1).ToArray();
        var inputs = files.Where(file => file.Content[3] > 1).ToArray();
        if (labels.Length == 0) throw new FormatException($"{string.Join(", ", files.Select(file => $"'{file.Name}'"))}: the rows have no labels; an idx file of one dimension holds them");
        if (labels.Length > 1 || inputs.Length != 1) throw new FormatException($"tuning takes {Kinds}; here are {inputs.Length} idx files of inputs and {labels.Length} of labels");
        return ReadPair(inputs[0].Name, inputs[0].Content, labels[0].Name, labels[0].Content, app, type, scale, offset);
    }

    private static bool IsData(string name) => SetOf(name) != name;

    /// <summary>What a file's data set is called: <c>val</c> for <c>val-images-idx3-ubyte.gz</c> and <c>val.jsonl</c>; the name itself for any other file.</summary>
    private static string SetOf(string path)
    {
        var name = Path.GetFileName(path);
        var plain = name.EndsWith(".gz", StringComparison.Ordinal) ? name[..^3] : name;
        if (plain.EndsWith(".jsonl", StringComparison.Ordinal)) return plain[..^6];
        return plain.EndsWith("-ubyte", StringComparison.Ordinal) ? plain[..plain.IndexOf('-')] : name;
    }

    private static byte[] ReadWhole(string path)
    {
        using var file = File.OpenRead(path);
        Span<byte> magic = stackalloc byte[2];
        var isGzip = file.ReadAtLeast(magic, 2, throwOnEndOfStream: false) == 2 && magic is [0x1f, 0x8b];
        file.Position = 0;
        using var content = new MemoryStream();
        try
        {
            using Stream plain = isGzip ? new GZipStream(file, CompressionMode.Decompress) : file;
            plain.CopyTo(content);
        }
        catch (InvalidDataException e)
        {
            throw new FormatException($"'{path}' is a damaged gzip file: {e.Message}", e);
        }
        return content.ToArray();
    }

    private static bool IsIdx(byte[] content) => content is [0, 0, 8, > 0, ..];

    private static int[] Dimensions(string name, byte[] content)
    {
        var dimensions = new int[content[3]];
        var header = 4 + 4 * dimensions.Length;
        if (content.Length < header) throw new FormatException($"'{name}' ends within its header");
        for (var i = 0; i < dimensions.Length; i++) dimensions[i] = BinaryPrimitives.ReadInt32BigEndian(content.AsSpan(4 + 4 * i));
        var count = dimensions.Any(dimension => dimension < 0) ? -1 : Shapes.Count([.. dimensions.Select(dimension => (long)dimension)]);
        if (count != content.Length - header) throw new FormatException($"'{name}' says {string.Join(" × ", dimensions)} bytes and has {content.Length - header}");
        return dimensions;
    }

    private static LabelledRows ReadPair(string name, byte[] inputs, string labelName, byte[] labels, AppDocument app, DataType type, double scale, double offset)
    {
        var shape = Dimensions(name, inputs);
        var count = Dimensions(labelName, labels)[0];
        if (shape[0] != count) throw new FormatException($"'{name}' has {shape[0]} rows and '{labelName}' {count} labels");
        if (count == 0) throw new FormatException($"'{name}' has no rows");
        var elements = Shapes.Count([.. shape[1..].Select(dimension => (long)dimension)]);
        var row = Shapes.Count(app.Input.Shape);
        if (elements != row) throw new FormatException($"'{name}' has rows of {string.Join(" × ", shape[1..])} values; app '{app.Name}' takes {row} of {Shapes.Format(app.Input.Shape)}");
        var values = inputs.AsSpan(4 + 4 * shape.Length);
        var rows = Allocate(app, type, count, [.. labels.AsSpan(8).ToArray().Select((label, i) => CheckLabel(label, app, $"'{labelName}', row {i}"))]);
        var bytes = rows.Buffer.Span(rows.Input.Offset, rows.Input.Length);
        switch (type)
        {
            case DataType.Fp32:
                var floats = MemoryMarshal.Cast<byte, float>(bytes);
                for (var i = 0; i < floats.Length; i++) floats[i] = (float)((values[i] - offset) / scale);
                break;
            case DataType.UInt8 when scale == 1 && offset == 0:
                values.CopyTo(bytes);
                break;
            default:
                throw new FormatException($"idx files fill inputs of FP32, or of UINT8 with --scale 1; app '{app.Name}' takes {app.Input.Type}: write JSON Lines");
        }
        return rows;
    }

    private static LabelledRows ReadLines(string name, byte[] content, AppDocument app, DataType type)
    {
        var lines = new List<(int Number, Range Range)>();
        var number = 0;
        foreach (var range in content.AsSpan().Split((byte)'\n'))
        {
            number++;
            if (!content.AsSpan(range).Trim(" \t\r"u8).IsEmpty) lines.Add((number, range));
        }
        if (lines.Count == 0) throw new FormatException($"'{name}' has no rows: tuning takes {Kinds}");
        var rows = Allocate(app, type, lines.Count, new int[lines.Count]);
        var rowBytes = rows.Input.Length / lines.Count;
        for (var i = 0; i < lines.Count; i++)
        {
            var where = $"'{name}', line {lines[i].Number}";
            try
            {
                rows.Labels[i] = ReadLine(content.AsSpan(lines[i].Range), app, type, rows.Buffer.Span(rows.Input.Offset + i * rowBytes, rowBytes), where);
            }
            catch (RequestException e)
            {
                throw new FormatException($"{where}: {e.Message}", e);
            }
        }
        return rows;
    }

    private static int ReadLine(ReadOnlySpan<byte> line, AppDocument app, DataType type, Span<byte> destination, string where)
    {
        var (hasInput, label) = (false, default(int?));
        var cursor = new JsonCursor(line);
        cursor.BeginObject("the line", "an object {\"input\":[…],\"label\":…}");
        while (cursor.NextProperty(out var property))
        {
            if (property.SequenceEqual("input"u8))
            {
                TensorJson.Read(ref cursor, type, app.Input.Shape, destination, "'input'");
                hasInput = true;
            }
            else if (property.SequenceEqual("label"u8))
            {
                label = cursor.Peek() == JsonKind.String ? LabelOf(cursor.ReadString(), app, where) : CheckLabel(cursor.ReadInt64("'label'", "an index or a name"), app, where);
            }
            else
            {
                cursor.Skip();
            }
        }
        cursor.End();
        if (!hasInput) throw new FormatException($"{where} has no 'input'");
        return label ?? throw new FormatException($"{where} has no 'label': only rows whose answer is known can tune");
    }

    private static int LabelOf(string name, AppDocument app, string where)
    {
        for (var i = 0; i < app.Labels.Count; i++)
        {
            if (app.Labels[i] == name) return i;
        }
        throw new FormatException($"{where}: '{name}' is none of the labels of app '{app.Name}'");
    }

    private static int CheckLabel(long label, AppDocument app, string where) =>
        label >= 0 && label < app.Labels.Count ? (int)label : throw new FormatException($"{where}: label {label} is none of the {app.Labels.Count} of app '{app.Name}'");

    private static LabelledRows Allocate(AppDocument app, DataType type, int count, int[] labels)
    {
        var bytes = Shapes.Count(app.Input.Shape) * type.Size() * count;
        if (bytes > Array.MaxLength) throw new FormatException($"{count} rows take {bytes} bytes; at most {Array.MaxLength} are taken");
        var buffer = new TensorBuffer();
        var input = new Tensor { Name = app.Input.Name, Type = type, Shape = [count, .. app.Input.Shape], Length = (int)bytes };
        input.Offset = buffer.Allocate(input.Length);
        return new LabelledRows(buffer, input, labels);
    }
}
