namespace Skiff.Cascades.Tuning;

/// <summary>
/// Chooses the thresholds of a cascade: least measured cost subject to accuracy ≥ the heaviest stage's − ε, by Learn-then-Test (Angelopoulos et al., arXiv 2110.01052). Each path is walked from safest to
/// boldest and "the drop is ε or more" tested at each point at the path's share of 1 − confidence; the first point that can't refute it ends the path, so that no correction for the number of points
/// is needed, only for that of the paths (Bonferroni). All points before it are certified, hence the cheapest of them may be chosen by looking.
/// </summary>
public static class CascadeTuner
{
    /// <summary>How many rows a certificate takes at least, if the cascade never lost a single one.</summary>
    public static int RowsNeeded(TuningOptions options, int stages)
    {
        var certify = PairedDrop.RowsNeeded(options.Epsilon, (1 - options.Confidence) * Paths(options, stages).Max(path => path.Share));
        return options.Fits ? (int)Math.Ceiling(certify / (1 - options.FitShare)) : certify;
    }

    /// <summary>Pure and deterministic: the same rows give the same thresholds.</summary>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    public static Tuning Run(TuningRows rows, TuningOptions options)
    {
        options.Validate();
        var (fit, certify) = options.Fits ? Split(rows.Count, options) : ([], [.. Enumerable.Range(0, rows.Count)]);
        var gates = Enumerable.Range(0, rows.Stages - 1).Select(stage => Fit(rows, stage, fit, options)).ToArray();
        var confidences = gates.Select((gate, stage) => Confidences(rows, stage, gate, certify)).ToArray();
        var points = Paths(options, rows.Stages).SelectMany(path => Walk(rows, path, confidences, certify, options)).ToArray();
        var chosen = points.Where(point => point.IsCertified && point.Microseconds < rows.Alone(rows.Stages - 1)).MinBy(point => point.Microseconds);
        return new Tuning
        {
            Options = options,
            Chosen = chosen,
            Points = points,
            Gates = gates,
            Rows = certify.Length,
            FittedOn = fit.Length,
            Accuracies = [.. Enumerable.Range(0, rows.Stages).Select(stage => Accuracy(rows, stage, certify))],
            Microseconds = [.. Enumerable.Range(0, rows.Stages).Select(rows.Alone)],
            Needed = rows.Needed(chosen?.Path.Stages ?? [rows.Stages - 1]),
        };
    }

    /// <summary>What a cascade with these stages and thresholds does on other rows than those it was tuned on.</summary>
    public static TuningPoint Apply(TuningRows rows, Tuning tuning, TuningPoint point)
    {
        int[] all = [.. Enumerable.Range(0, rows.Count)];
        var confidences = tuning.Gates.Select((gate, stage) => Confidences(rows, stage, gate, all)).ToArray();
        return Measure(rows, point.Path, point.Thresholds, confidences, all);
    }

    private static IReadOnlyList<ThresholdPath> Paths(TuningOptions options, int stages) => options.Paths ?? ThresholdPath.Through(stages);

    private static (int[] Fit, int[] Certify) Split(int rows, TuningOptions options)
    {
        // Files are often sorted by class or time, so the rows are drawn.
        var shuffled = Enumerable.Range(0, rows).ToArray();
        new Random(options.Seed).Shuffle(shuffled);
        var count = (int)(rows * options.FitShare);
        return ([.. shuffled[..count].Order()], [.. shuffled[count..].Order()]);
    }

    private static Gate Fit(TuningRows rows, int stage, int[] fit, TuningOptions options)
    {
        var gate = new Gate(options.On, 1);
        if (options.Calibrate && Fitting.Temperature(rows.Probabilities[stage], rows.Classes, rows.Labels, fit) is var temperature and not 1) gate = gate with { Temperature = temperature };
        if (options.On != GateOn.Learned) return gate;
        var helps = new bool[rows.Count];
        for (var row = 0; row < helps.Length; row++) helps[row] = rows.Right(rows.Stages - 1)[row] && !rows.Right(stage)[row];
        return gate with { Weights = Fitting.Weights(rows.Probabilities[stage], rows.Classes, helps, fit) };
    }

    private static float[] Confidences(TuningRows rows, int stage, Gate gate, int[] which)
    {
        var confidences = new float[which.Length];
        for (var i = 0; i < which.Length; i++) confidences[i] = gate.Confidence(rows.Probabilities[stage].AsSpan(which[i] * rows.Classes, rows.Classes));
        return confidences;
    }

    private static IEnumerable<TuningPoint> Walk(TuningRows rows, ThresholdPath path, float[][] confidences, int[] certify, TuningOptions options)
    {
        var level = (1 - options.Confidence) * path.Share;
        var isOpen = true;
        foreach (var boldness in ThresholdPath.Boldness)
        {
            var point = Measure(rows, path, path.Thresholds(boldness), confidences, certify);
            if (isOpen)
            {
                var p = point.Drop.PValue(options.Epsilon, level);
                isOpen = p <= level;
                point = point with { PValue = p, IsCertified = isOpen };
            }
            yield return point;
        }
    }

    private static TuningPoint Measure(TuningRows rows, ThresholdPath path, double[] thresholds, float[][] confidences, int[] which)
    {
        var reached = new int[path.Stages.Count];
        var heaviest = rows.Right(rows.Stages - 1);
        int lost = 0, won = 0, right = 0;
        for (var i = 0; i < which.Length; i++)
        {
            var k = 0;
            reached[0]++;
            while (k < thresholds.Length && !(confidences[path.Stages[k]][i] >= thresholds[k])) reached[++k]++;
            var (cascade, alone) = (rows.Right(path.Stages[k])[which[i]], heaviest[which[i]]);
            if (cascade) right++;
            if (alone && !cascade) lost++;
            if (cascade && !alone) won++;
        }
        double[] reach = [.. reached.Select(count => count / (double)which.Length)];
        var costs = rows.Costs(path.Stages);
        var cost = 0.0;
        for (var k = 0; k < reach.Length; k++) cost += reach[k] * costs[k];
        return new TuningPoint(path, thresholds, new PairedDrop(lost, won, which.Length), right / (double)which.Length, cost, reach, null);
    }

    private static double Accuracy(TuningRows rows, int stage, int[] which)
    {
        var right = 0;
        foreach (var row in which) right += rows.Right(stage)[row] ? 1 : 0;
        return right / (double)which.Length;
    }
}
