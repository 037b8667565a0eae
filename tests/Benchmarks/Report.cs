using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Skiff.Benchmarks;

/// <summary>What a suite found: Markdown on standard output as it goes, and figures that <c>--json</c> writes at the end.</summary>
internal sealed class Report
{
    private readonly List<Figure> figures = [];

    public void Heading(string text) => Console.WriteLine($"\n## {text}\n");

    public void Text(string text) => Console.WriteLine(text);

    /// <summary>A Markdown table whose first <paramref name="labels"/> columns are words; the others are numbers and stand to the right.</summary>
    public void Table(int labels, string[] columns, IEnumerable<string[]> rows)
    {
        Console.WriteLine(Line(columns));
        Console.WriteLine(Line(columns.Select((_, index) => index < labels ? "---" : "---:")));
        foreach (var row in rows) Console.WriteLine(Line(row));

        static string Line(IEnumerable<string> cells) => $"| {string.Join(" | ", cells)} |";
    }

    public void Add(string name, double? value, string unit, Goal? goal = null) => figures.Add(new Figure(name, value, unit, goal));

    /// <summary>The figures that have a goal, met or not; nothing where none has one.</summary>
    public void Goals()
    {
        var withGoal = figures.Where(figure => figure.Goal is not null).ToArray();
        if (withGoal.Length == 0) return;
        Heading("Goals");
        Table(1, ["figure", "value", "goal", "met"],
            withGoal.Select(figure => new[] { figure.Name, Number(figure.Value, "0.000"), figure.Goal.ToString()!, figure.Met == true ? "yes" : "no" }));
    }

    public void WriteJson(string path)
    {
        var rows = figures.Select(figure => new FigureRow(figure.Name, figure.Value, figure.Unit, figure.Goal?.ToString(), figure.Met)).ToArray();
        File.WriteAllText(path, JsonSerializer.Serialize(rows, FigureJson.Readable.FigureRowArray) + "\n");
    }

    /// <summary>A number for a table, or n/a.</summary>
    public static string Number(double? value, string format) => value?.ToString(format, CultureInfo.InvariantCulture) ?? "n/a";

    private sealed record Figure(string Name, double? Value, string Unit, Goal? Goal)
    {
        /// <summary>Null where there is no goal; a goal on a value that could not be had is not met.</summary>
        public bool? Met => Goal is { } goal ? Value is { } value && goal.Admits(value) : null;
    }
}

/// <summary>A bound on a figure. It is reported, never asserted: a run that misses one still succeeds.</summary>
internal readonly record struct Goal
{
    private readonly bool upper;
    private readonly double limit;

    private Goal(bool upper, double limit) => (this.upper, this.limit) = (upper, limit);

    public static Goal AtMost(double limit) => new(upper: true, limit);

    public static Goal AtLeast(double limit) => new(upper: false, limit);

    public bool Admits(double value) => upper ? value <= limit : value >= limit;

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{(upper ? '≤' : '≥')} {limit}");
}

internal sealed record FigureRow(string Name, double? Value, string Unit, string? Goal, bool? Met);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(FigureRow[]))]
internal sealed partial class FigureJson : JsonSerializerContext
{
    /// <summary>Indented, with ≤ and µ as themselves.</summary>
    public static FigureJson Readable { get; } = new(new JsonSerializerOptions
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
    });
}
