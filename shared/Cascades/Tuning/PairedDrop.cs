namespace Skiff.Cascades.Tuning;

/// <summary>
/// How much less often a cascade is right than its heaviest stage alone, both asked about the same rows: drop = P(only the heaviest is right) − P(only the cascade is right).
/// Rows on which both are right or both wrong say nothing about it.
/// </summary>
/// <param name="Lost">Rows that only the heaviest gets right.</param>
/// <param name="Won">Rows that only the cascade gets right.</param>
public readonly record struct PairedDrop(int Lost, int Won, int Rows)
{
    /// <summary>Of the 1 − γ interval for the share of rows that differ (Berger and Boos 1994): the nuisance parameter is sought within it, and γ is added to the p-value.</summary>
    private const double Gamma = 1e-6;

    /// <summary>Points at which the nuisance parameter is tried, evenly in its square root, where the interval is about 5/√n wide whatever it is: far finer than the p-value bends.</summary>
    private const int NuisancePoints = 64;

    /// <summary>Share of the rows, measured.</summary>
    public double Measured => (double)(Lost - Won) / Rows;

    /// <summary>
    /// Exact p-value of "the drop is <paramref name="epsilon"/> or more" (a share, in (0, 1)): the largest chance, over all true rates with that drop, of a table at least as favourable as
    /// this one by Tango's score (1998). For that statistic a larger drop is never likelier to pass than one of just ε (Sidik 2003). No normal approximation: chances are summed.
    /// </summary>
    /// <param name="enough">The sum may stop as soon as the p-value is known to be above this.</param>
    public double PValue(double epsilon, double enough = 1)
    {
        if (Score(Lost, Won, Rows, epsilon) <= 0) return 1;
        var differ = Lost + Won;
        var low = Math.Max(Binomial.Lower(differ, Rows, Gamma / 2), epsilon);
        var high = Math.Max(Binomial.Upper(differ, Rows, Gamma / 2), epsilon);
        var region = new Region(this, epsilon);
        var largest = 0.0;
        var (from, to) = (Math.Sqrt(low), Math.Sqrt(high));
        for (var i = 0; i < NuisancePoints && largest + Gamma <= enough; i++)
        {
            var root = from + (to - from) * i / (NuisancePoints - 1);
            largest = Math.Max(largest, region.Probability(root * root));
        }
        return Math.Min(1, largest + Gamma);
    }

    /// <summary>The smallest drop that the rows refute at level <paramref name="delta"/>: an upper bound on the true drop with confidence 1 − δ, for a point that was chosen without looking.</summary>
    public double Upper(double delta)
    {
        var (low, high) = (Math.Max(Measured, 0), 1.0);
        for (var i = 0; i < 40 && high - low > 1e-7; i++)
        {
            // Where the bound lies is not known: in the logarithm it is found in few steps.
            var middle = low > 0 && high > 4 * low ? Math.Sqrt(low * high) : (low + high) / 2;
            if (PValue(middle, delta) <= delta) high = middle;
            else low = middle;
        }
        return high;
    }

    /// <summary>The bound that needs the least theory: Clopper–Pearson for either rate at δ/2. Wider than <see cref="Upper"/>.</summary>
    public double ClopperPearsonUpper(double delta) => Binomial.Upper(Lost, Rows, delta / 2) - Binomial.Lower(Won, Rows, delta / 2);

    /// <summary>Below so many rows a drop of ε can't be refuted at level δ, even if not one was lost: (1 − ε)ⁿ must be small enough. A bound: a few more may be needed.</summary>
    public static int RowsNeeded(double epsilon, double delta) => (int)Math.Ceiling(Math.Log(delta - Gamma) / double.LogP1(-epsilon));

    /// <summary>How far the table is from a drop of ε, in standard errors under that hypothesis (the restricted maximum-likelihood one); positive on the good side.</summary>
    internal static double Score(double lost, double won, double rows, double epsilon)
    {
        // q: the most likely P(only the cascade is right) where P(only the heaviest is right) = q + ε; the larger root of Aq² + Bq + C.
        var a = 2 * rows;
        var b = (2 * rows - lost + won) * epsilon - lost - won;
        var c = -won * epsilon * (1 - epsilon);
        var q = (Math.Sqrt(b * b - 4 * a * c) - b) / (2 * a);
        return (rows * epsilon - (lost - won)) / Math.Sqrt(rows * (2 * q + epsilon * (1 - epsilon)));
    }

    /// <summary>All tables at least as favourable as the one seen. Given how many rows differ, those are the ones with few enough lost.</summary>
    private sealed class Region
    {
        private readonly int _rows;
        private readonly double _epsilon, _seen;
        private readonly List<int> _mostLost = [];

        public Region(PairedDrop drop, double epsilon)
        {
            (_rows, _epsilon) = (drop.Rows, epsilon);
            // A table must not drop out of its own region by rounding.
            _seen = Score(drop.Lost, drop.Won, drop.Rows, epsilon) - 1e-9;
        }

        /// <param name="differ">Share of rows on which one is right and the other wrong, at least ε.</param>
        /// <returns>P of the region where the drop is ε.</returns>
        public double Probability(double differ)
        {
            differ = Math.Min(differ, 1);
            var lostShare = Math.Min(1, (1 + _epsilon / differ) / 2);
            var mean = (int)Math.Min(_rows, _rows * differ);
            var total = 0.0;
            // From the mean outwards, until what is left can't matter.
            for (var count = mean; count <= _rows; count++)
            {
                var probability = Math.Exp(Binomial.LogProbability(count, _rows, differ));
                if (probability < 1e-13 && count > mean + 1) break;
                total += probability * Binomial.Cumulative(MostLost(count), count, lostShare);
            }
            for (var count = mean - 1; count >= 0; count--)
            {
                var probability = Math.Exp(Binomial.LogProbability(count, _rows, differ));
                if (probability < 1e-13 && count < mean - 1) break;
                total += probability * Binomial.Cumulative(MostLost(count), count, lostShare);
            }
            return total;
        }

        private int MostLost(int differ)
        {
            while (_mostLost.Count <= differ)
            {
                var count = _mostLost.Count;
                // One more row that differs moves the edge by at most one; begin a little beyond where it was.
                var lost = count == 0 ? 0 : Math.Min(count, _mostLost[^1] + 2);
                while (lost >= 0 && Score(lost, count - lost, _rows, _epsilon) < _seen) lost--;
                _mostLost.Add(lost);
            }
            return _mostLost[differ];
        }
    }
}
