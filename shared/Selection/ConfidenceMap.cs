namespace Skiff.Selection;

/// <summary>
/// From a score, such as the share of members that agree, to the chance of being right: a map that never falls, fitted on held-out data by isotonic regression (pool adjacent violators; Zadrozny and Elkan 2002),
/// straight between its points and level beyond them. In an app document it is a list of numbers: score, chance, score, chance, …
/// </summary>
public sealed class ConfidenceMap
{
    private readonly double[] _scores;
    private readonly double[] _chances;

    private ConfidenceMap(double[] scores, double[] chances) => (_scores, _chances) = (scores, chances);

    /// <summary>The chance of being right at a score.</summary>
    public double Chance(double score)
    {
        var above = Array.BinarySearch(_scores, score);
        if (above >= 0) return _chances[above];
        above = ~above;
        if (above == 0) return _chances[0];
        if (above == _scores.Length) return _chances[^1];
        var part = (score - _scores[above - 1]) / (_scores[above] - _scores[above - 1]);
        return _chances[above - 1] + part * (_chances[above] - _chances[above - 1]);
    }

    /// <param name="scores">N; rounded to six decimals.</param>
    /// <param name="correct">N.</param>
    /// <param name="groups">The most groups of scores that are told apart; where there are more different scores, neighbours are put together in groups of about N/groups.</param>
    public static ConfidenceMap Fit(ReadOnlySpan<double> scores, ReadOnlySpan<bool> correct, int groups = 32)
    {
        if (scores.IsEmpty || scores.Length != correct.Length) throw new ArgumentException($"{scores.Length} scores don't go with {correct.Length} outcomes", nameof(scores));
        var sorted = new double[scores.Length];
        for (var i = 0; i < sorted.Length; i++) sorted[i] = double.IsFinite(scores[i]) ? Math.Round(scores[i], 6) : throw new ArgumentException($"score {i} is {scores[i]}", nameof(scores));
        var hits = correct.ToArray();
        Array.Sort(sorted, hits);
        var pools = Pool(Gather(sorted, hits, groups));

        var points = new List<(double Score, double Chance)>();
        foreach (var pool in pools)
        {
            // Rounding keeps the order.
            var chance = Math.Round(pool.Mean, 4);
            points.Add((pool.First, chance));
            if (pool.Last > pool.First) points.Add((pool.Last, chance));
        }
        return new ConfidenceMap([.. points.Select(point => point.Score)], [.. points.Select(point => point.Chance)]);
    }

    /// <summary>The map as an app document lists it.</summary>
    public double[] ToNumbers() => [.. _scores.Zip(_chances).SelectMany(point => new[] { point.First, point.Second })];

    /// <exception cref="FormatException">The numbers are no map: not pairs, scores that don't rise, chances that fall or are not in [0, 1].</exception>
    public static ConfidenceMap FromNumbers(ReadOnlySpan<double> numbers)
    {
        if (numbers.IsEmpty || numbers.Length % 2 != 0) throw new FormatException($"a confidence map is a list of score, chance, score, chance, …; here are {numbers.Length} numbers");
        var scores = new double[numbers.Length / 2];
        var chances = new double[scores.Length];
        for (var i = 0; i < scores.Length; i++)
        {
            (scores[i], chances[i]) = (numbers[2 * i], numbers[2 * i + 1]);
            if (!double.IsFinite(scores[i]) || (i > 0 && !(scores[i] > scores[i - 1]))) throw new FormatException($"a confidence map's scores rise; number {2 * i} is {scores[i]}");
            if (!(chances[i] is >= 0 and <= 1) || (i > 0 && chances[i] < chances[i - 1])) throw new FormatException($"a confidence map's chances lie in [0, 1] and never fall; number {2 * i + 1} is {chances[i]}");
        }
        return new ConfidenceMap(scores, chances);
    }

    /// <summary>Equal scores stay together; beyond <paramref name="groups"/> different ones, neighbours too.</summary>
    private static List<Cluster> Gather(double[] sorted, bool[] hits, int groups)
    {
        var overall = (double)hits.Count(hit => hit) / hits.Length;
        var different = 1;
        for (var i = 1; i < sorted.Length; i++)
        {
            if (sorted[i] != sorted[i - 1]) different++;
        }
        var size = different <= groups ? 1 : (sorted.Length + groups - 1) / groups;
        var made = new List<Cluster>();
        for (var start = 0; start < sorted.Length;)
        {
            var end = Math.Min(start + size, sorted.Length);
            while (end < sorted.Length && sorted[end] == sorted[end - 1]) end++;
            var sum = 0.0;
            var right = 0;
            for (var i = start; i < end; i++)
            {
                sum += sorted[i];
                if (hits[i]) right++;
            }
            // One answer more of average quality, so that three out of three is not certainty.
            var score = Math.Round(sum / (end - start), 6);
            made.Add(new Cluster(score, score, right + overall, end - start + 1));
            start = end;
        }
        return made;
    }

    /// <summary>Pools neighbours until no mean is below the one before it.</summary>
    private static List<Cluster> Pool(List<Cluster> groups)
    {
        var pools = new List<Cluster>();
        foreach (var group in groups)
        {
            var pool = group;
            while (pools.Count > 0 && pools[^1].Mean >= pool.Mean)
            {
                pool = new Cluster(pools[^1].First, pool.Last, pools[^1].Right + pool.Right, pools[^1].Weight + pool.Weight);
                pools.RemoveAt(pools.Count - 1);
            }
            pools.Add(pool);
        }
        return pools;
    }

    private readonly record struct Cluster(double First, double Last, double Right, double Weight)
    {
        public double Mean => Right / Weight;
    }
}
