using System.Text;

namespace Skiff.Monitoring;

/// <summary>The metrics of several processes as one text: the samples of a family stand together, each with a label that says whose it is.</summary>
public static class MergedMetrics
{
    /// <param name="label">Its name.</param>
    /// <param name="texts">In Prometheus' text format; an empty value leaves a process's samples as they are.</param>
    public static string Merge(string label, IEnumerable<(string Value, string Text)> texts)
    {
        var families = new Dictionary<string, (StringBuilder Head, StringBuilder Samples)>();
        var order = new List<string>();
        foreach (var (value, text) in texts)
        {
            var (family, isFirst) = ("", false);
            foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                if (line.StartsWith("# HELP ", StringComparison.Ordinal))
                {
                    family = line.Split(' ', 4)[2];
                    isFirst = families.TryAdd(family, (new StringBuilder(), new StringBuilder()));
                    if (isFirst) order.Add(family);
                }
                if (family.Length == 0) continue; // what stands before any family is none of ours
                if (line[0] != '#') AppendSample(families[family].Samples, line, label, value);
                else if (isFirst) families[family].Head.Append(line).Append('\n');
            }
        }
        var all = new StringBuilder();
        foreach (var name in order) all.Append(families[name].Head).Append(families[name].Samples);
        return all.ToString();
    }

    private static void AppendSample(StringBuilder text, string line, string label, string value)
    {
        if (value.Length == 0)
        {
            text.Append(line).Append('\n');
            return;
        }
        // A name, labels if it has any, and the number: 'name{a="b"} 1', 'name 1'. Names have neither brace nor space.
        var end = line.AsSpan().IndexOfAny('{', ' ');
        var hasLabels = line[end] == '{';
        text.Append(line, 0, end).Append('{').Append(label).Append("=\"").Append(value).Append('"').Append(hasLabels ? "," : "} ").Append(line, end + 1, line.Length - end - 1).Append('\n');
    }
}
