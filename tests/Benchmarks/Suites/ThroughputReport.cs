namespace Skiff.Benchmarks.Suites;

/// <summary>What was measured: a kind of body, so many connections, a server.</summary>
internal sealed record Cell(string Body, int Connections, string Server);

/// <summary>One round of a cell. CPU is the server's, user and kernel; "busy" is a share of one core.</summary>
internal sealed record Measurement(
    double CpuMicroseconds,
    double RequestsPerSecond,
    double P50Milliseconds,
    double P99Milliseconds,
    double? AllocatedBytes,
    double ServerBusy,
    double GeneratorBusy)
{
    /// <summary>Each figure's median by itself.</summary>
    public static Measurement Median(IReadOnlyCollection<Measurement> rounds) => new(
        Suite.Median(rounds.Select(round => round.CpuMicroseconds)),
        Suite.Median(rounds.Select(round => round.RequestsPerSecond)),
        Suite.Median(rounds.Select(round => round.P50Milliseconds)),
        Suite.Median(rounds.Select(round => round.P99Milliseconds)),
        rounds.All(round => round.AllocatedBytes is not null) ? Suite.Median(rounds.Select(round => round.AllocatedBytes!.Value)) : null,
        Suite.Median(rounds.Select(round => round.ServerBusy)),
        Suite.Median(rounds.Select(round => round.GeneratorBusy)));
}

/// <summary>The throughput suite's tables, figures and goals.</summary>
internal static class ThroughputReport
{
    private static readonly Column[] Columns =
    [
        new("cpu", "CPU µs/request", "µs", "0.0", cell => cell.CpuMicroseconds),
        new("rate", "requests/s", "1/s", "0", cell => cell.RequestsPerSecond),
        new("p50", "p50 ms", "ms", "0.000", cell => cell.P50Milliseconds),
        new("p99", "p99 ms", "ms", "0.000", cell => cell.P99Milliseconds),
        new("allocated", "allocated B/request", "B", "0", cell => cell.AllocatedBytes),
    ];

    // Ratios of Skiff to the baseline, 64 connections, JSON.
    private static readonly Dictionary<string, Goal> Goals = new()
    {
        ["cpu"] = Goal.AtMost(0.45),
        ["rate"] = Goal.AtLeast(2),
        ["p99"] = Goal.AtMost(0.5),
    };

    public static void Write(Report report, IReadOnlyDictionary<Cell, List<Measurement>> rounds)
    {
        var medians = rounds.ToDictionary(cell => cell.Key, cell => Measurement.Median(cell.Value));
        WriteCells(report, medians);
        WriteRatios(report, medians);
    }

    private static void WriteCells(Report report, Dictionary<Cell, Measurement> medians)
    {
        report.Heading("Medians of the rounds");
        report.Table(3, ["body", "connections", "server", .. Columns.Select(column => column.Title), "server busy", "generator busy"],
            medians.Select(cell => (string[])
            [
                .. Labels(cell.Key, cell.Key.Server),
                .. Columns.Select(column => Report.Number(column.Value(cell.Value), column.Format)),
                Report.Number(cell.Value.ServerBusy, "0%"),
                Report.Number(cell.Value.GeneratorBusy, "0%"),
            ]));

        var spread = medians.Where(cell => cell.Value.ServerBusy > 1.05).Select(cell => cell.Key.Server).Distinct().ToArray();
        if (spread.Length > 0)
            report.Text($"\n{string.Join(" and ", spread)} used more than one core. Where servers are pinned, a thread that sets its own affinity, as those of ONNX Runtime's pool do, gets away.");

        foreach (var (cell, median) in medians)
        {
            foreach (var column in Columns) report.Add($"throughput/{cell.Body}/{cell.Connections}/{cell.Server}/{column.Key}", column.Value(median), column.Unit);
        }
    }

    private static void WriteRatios(Report report, Dictionary<Cell, Measurement> medians)
    {
        var pairs =
            (from cell in medians.Keys
             where cell.Server == Servers.Skiff
             from other in new[] { Servers.Constant, Servers.Baseline }
             let beside = cell with { Server = other }
             where medians.ContainsKey(beside)
             select (Cell: cell, Beside: beside)).ToArray();
        if (pairs.Length == 0) return;

        report.Heading("Ratios");
        report.Table(3, ["body", "connections", "servers", .. Columns.Select(column => column.Title)],
            pairs.Select(pair => (string[])
            [
                .. Labels(pair.Cell, $"{pair.Cell.Server} / {pair.Beside.Server}"),
                .. Columns.Select(column => Report.Number(column.Value(medians[pair.Cell]) / column.Value(medians[pair.Beside]), "0.00")),
            ]));

        foreach (var (cell, beside) in pairs)
        {
            foreach (var column in Columns)
            {
                Goal? goal = cell is { Body: "json", Connections: 64 } && beside.Server == Servers.Baseline && Goals.TryGetValue(column.Key, out var found) ? found : null;
                report.Add($"throughput/{cell.Body}/{cell.Connections}/{cell.Server}:{beside.Server}/{column.Key}", column.Value(medians[cell]) / column.Value(medians[beside]), "ratio", goal);
            }
        }
    }

    private static string[] Labels(Cell cell, string server) => [cell.Body, $"{cell.Connections}", server];

    private sealed record Column(string Key, string Title, string Unit, string Format, Func<Measurement, double?> Value);
}
