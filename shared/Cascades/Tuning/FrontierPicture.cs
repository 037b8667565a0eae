using System.Globalization;
using System.Net;
using System.Text;

namespace Skiff.Cascades.Tuning;

/// <summary>Accuracy against run time of everything that a tuning looked at, as an SVG: the paths, what of them is certified, the stages alone, the bound and what was chosen.</summary>
public static class FrontierPicture
{
    private const double Width = 800, Height = 500, Left = 78, Right = 24, Top = 64, Bottom = 62;

    /// <param name="models">The stages' names.</param>
    public static string Draw(string app, IReadOnlyList<string> models, Tuning tuning)
    {
        var heaviest = tuning.Accuracies[^1];
        var bound = heaviest - tuning.Options.Epsilon;
        var most = tuning.Points.Max(point => point.Microseconds);
        var all = tuning.Points.Select(point => point.Accuracy).Concat(tuning.Accuracies).Append(bound).ToArray();
        var x = new Axis(0, Math.Max(most, tuning.Heaviest) * 1.03, Left, Width - Right);
        var margin = Math.Max(1e-3, (all.Max() - all.Min()) * 0.06);
        var y = new Axis(100 * (all.Min() - margin), 100 * (all.Max() + margin), Height - Bottom, Top);
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {Height}" width="{Width}" height="{Height}" font-family="system-ui, sans-serif" font-size="13" fill="#222">
            <rect width="100%" height="100%" fill="#fff"/>
            <text x="{Left}" y="26" font-size="17" font-weight="600">{WebUtility.HtmlEncode(app)}: accuracy and run time</text>
            <text x="{Left}" y="46" fill="#666">{tuning.Rows:N0} rows; filled = accuracy above the bound with confidence {tuning.Options.Confidence}</text>

            """);
        DrawAxes(svg, x, y);

        Level(100 * heaviest, "#999", "2 3", $"{models[^1]} alone", above: true);
        Level(100 * bound, "#c0392b", "7 4", $"bound: {Points(tuning.Options.Epsilon)} points below", above: false);
        foreach (var path in tuning.Points.GroupBy(point => point.Path).Reverse())
        {
            var isWhole = path.Key.Stages.Count == models.Count;
            var colour = isWhole ? "#1f6f8b" : "#b9c6cc";
            var line = string.Join(" ", path.Select(point => Invariant($"{x.At(point.Microseconds)},{y.At(100 * point.Accuracy)}")));
            svg.Append(CultureInfo.InvariantCulture, $"<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{(isWhole ? 1.5 : 1)}\"/>\n");
            foreach (var point in path)
            {
                var (cx, cy, fill) = (x.At(point.Microseconds), y.At(100 * point.Accuracy), point.IsCertified ? colour : "#fff");
                svg.Append(CultureInfo.InvariantCulture, $"<circle cx=\"{cx}\" cy=\"{cy}\" r=\"{(isWhole ? 3 : 2)}\" fill=\"{fill}\" stroke=\"{colour}\"/>\n");
            }
        }
        for (var stage = 0; stage < models.Count; stage++)
        {
            var (cx, cy) = (x.At(tuning.Microseconds[stage]), y.At(100 * tuning.Accuracies[stage]));
            svg.Append(CultureInfo.InvariantCulture, $"<path d=\"M{cx - 5} {cy}L{cx} {cy - 5}L{cx + 5} {cy}L{cx} {cy + 5}Z\" fill=\"#e39a2d\" stroke=\"#fff\"/>\n");
            if (stage < models.Count - 1) svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{cx + 9}\" y=\"{cy + 16}\" fill=\"#8a5a0b\">{WebUtility.HtmlEncode(models[stage])}</text>\n");
        }
        if (tuning.Chosen is { } chosen)
        {
            const string halo = "stroke=\"#fff\" stroke-width=\"4\" paint-order=\"stroke\"";
            var (cx, cy) = (x.At(chosen.Microseconds), y.At(100 * chosen.Accuracy));
            svg.Append(CultureInfo.InvariantCulture, $"""
                <circle cx="{cx}" cy="{cy}" r="8" fill="none" stroke="#c0392b" stroke-width="2.5"/>
                <path d="M{cx + 6} {cy + 6}L{cx + 34} {cy + 84}" stroke="#c0392b" fill="none"/>
                <text x="{cx + 38}" y="{cy + 90}" font-weight="600" fill="#c0392b" {halo}>chosen: {100 * tuning.Saved:F1}% of the time saved</text>
                <text x="{cx + 38}" y="{cy + 107}" fill="#c0392b" {halo}>{Difference(chosen.Drop.Measured)}</text>

                """);
        }
        else
        {
            svg.Append(CultureInfo.InvariantCulture, $"""
                <text x="{Width - Right - 6}" y="{Height - Bottom - 14}" text-anchor="end" font-weight="600" fill="#c0392b">nothing cheaper is certified: {WebUtility.HtmlEncode(models[^1])} is called directly</text>

                """);
        }
        return svg.Append("</svg>\n").ToString();

        void Level(double value, string colour, string dashes, string says, bool above)
        {
            var at = y.At(value);
            svg.Append(CultureInfo.InvariantCulture, $"<path d=\"M{Left} {at}H{Width - Right}\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\"/>\n");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Width - Right - 6}\" y=\"{at + (above ? -7 : 16)}\" text-anchor=\"end\" fill=\"{colour}\">{WebUtility.HtmlEncode(says)}</text>\n");
        }
    }

    private static void DrawAxes(StringBuilder svg, Axis x, Axis y)
    {
        foreach (var tick in y.Ticks(6))
        {
            svg.Append(CultureInfo.InvariantCulture, $"<path d=\"M{Left} {y.At(tick)}H{Width - Right}\" stroke=\"#eee\"/>\n");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Left - 8}\" y=\"{y.At(tick) + 4.5}\" text-anchor=\"end\" fill=\"#666\">{tick:0.##}</text>\n");
        }
        foreach (var tick in x.Ticks(8))
        {
            svg.Append(CultureInfo.InvariantCulture, $"<path d=\"M{x.At(tick)} {Height - Bottom}v5\" stroke=\"#999\"/>\n");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{x.At(tick)}\" y=\"{Height - Bottom + 20}\" text-anchor=\"middle\" fill=\"#666\">{tick:0.##}</text>\n");
        }
        svg.Append(CultureInfo.InvariantCulture, $"""
            <path d="M{Left} {Top}V{Height - Bottom}H{Width - Right}" fill="none" stroke="#999"/>
            <text x="{(Left + Width - Right) / 2}" y="{Height - 16}" text-anchor="middle">mean run time of a row, one at a time, µs</text>
            <text transform="translate(22 {(Top + Height - Bottom) / 2}) rotate(-90)" text-anchor="middle">accuracy, %</text>

            """);
    }

    private static string Points(double share) => Invariant($"{100 * share:0.##}");

    private static string Difference(double drop) => drop == 0 ? "as accurate on these rows" : Invariant($"{Math.Abs(100 * drop):0.00} points {(drop > 0 ? "less" : "more")} accurate on these rows");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>Values from one bound to the other on pixels from one bound to the other.</summary>
    private readonly record struct Axis(double From, double To, double Start, double End)
    {
        public double At(double value) => Math.Round(Start + (value - From) / (To - From) * (End - Start), 1);

        /// <summary>Round values within the axis, about so many: 1, 2 or 5 times a power of ten apart.</summary>
        public IEnumerable<double> Ticks(int about)
        {
            var rough = (To - From) / about;
            var power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
            var step = power * (rough / power) switch { < 1.5 => 1, < 3.5 => 2, < 7.5 => 5, _ => 10 };
            for (var i = Math.Ceiling(From / step); i * step <= To; i++) yield return Math.Round(i * step, 10);
        }
    }
}
