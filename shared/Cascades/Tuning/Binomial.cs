namespace Skiff.Cascades.Tuning;

/// <summary>Binomial probabilities and the Clopper–Pearson interval, through the regularized incomplete beta function.</summary>
public static class Binomial
{
    // Lanczos, g = 7, nine terms: 1e-15 relative.
    private static readonly double[] Lanczos =
    [
        0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
        12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
    ];

    /// <summary>P(X ≤ <paramref name="k"/>) for X ~ Binomial(<paramref name="n"/>, <paramref name="p"/>): I(1 − p; n − k, k + 1).</summary>
    public static double Cumulative(long k, long n, double p) => k < 0 ? 0 : k >= n ? 1 : IncompleteBeta(n - k, k + 1, 1 - p);

    /// <summary>ln P(X = <paramref name="k"/>), -∞ where that is impossible.</summary>
    public static double LogProbability(long k, long n, double p)
    {
        if (k < 0 || k > n) return double.NegativeInfinity;
        var successes = k == 0 ? 0 : k * Math.Log(p);
        var failures = k == n ? 0 : (n - k) * double.LogP1(-p);
        return LogGamma(n + 1) - LogGamma(k + 1) - LogGamma(n - k + 1) + successes + failures;
    }

    /// <summary>The largest p under which <paramref name="k"/> or fewer of <paramref name="n"/> are not rarer than <paramref name="alpha"/> (Clopper and Pearson 1934).</summary>
    public static double Upper(long k, long n, double alpha) => k >= n ? 1 : BetaQuantile(k + 1, n - k, 1 - alpha);

    /// <summary>The smallest p under which <paramref name="k"/> or more of <paramref name="n"/> are not rarer than <paramref name="alpha"/>.</summary>
    public static double Lower(long k, long n, double alpha) => k <= 0 ? 0 : BetaQuantile(k, n - k + 1, alpha);

    /// <summary>I(x; a, b), a, b &gt; 0: the continued fraction of DLMF 8.17.22 by Lentz's method, on the side of the mean where it converges in O(√max(a, b)) steps.</summary>
    public static double IncompleteBeta(double a, double b, double x)
    {
        if (x <= 0) return 0;
        if (x >= 1) return 1;
        return x <= (a + 1) / (a + b + 2) ? Fraction(a, b, x) : 1 - Fraction(b, a, 1 - x);
    }

    /// <summary>x with I(x; a, b) = <paramref name="probability"/>, by bisection until doubles run out: sure to end, and where it ends is right.</summary>
    public static double BetaQuantile(double a, double b, double probability)
    {
        if (probability <= 0) return 0;
        if (probability >= 1) return 1;
        double low = 0, high = 1;
        while (true)
        {
            var middle = low + (high - low) / 2;
            if (middle <= low || middle >= high) return middle;
            if (IncompleteBeta(a, b, middle) < probability) low = middle;
            else high = middle;
            if (high - low <= 1e-15 * high) return middle;
        }
    }

    /// <summary>ln Γ(x) for x ≥ 0.5.</summary>
    public static double LogGamma(double x)
    {
        x -= 1;
        var sum = Lanczos[0];
        for (var i = 1; i < Lanczos.Length; i++) sum += Lanczos[i] / (x + i);
        var t = x + 7.5;
        return 0.5 * Math.Log(2 * Math.PI) + (x + 0.5) * Math.Log(t) - t + Math.Log(sum);
    }

    private static double Fraction(double a, double b, double x)
    {
        const double tiny = 1e-300;
        var front = Math.Exp(a * Math.Log(x) + b * double.LogP1(-x) + LogGamma(a + b) - LogGamma(a) - LogGamma(b)) / a;
        var c = 1.0;
        var d = 1 / NotZero(1 - (a + b) * x / (a + 1));
        var value = d;
        for (var m = 1; m < 100_000; m++)
        {
            var even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 / NotZero(1 + even * d);
            c = NotZero(1 + even / c);
            value *= d * c;
            var odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
            d = 1 / NotZero(1 + odd * d);
            c = NotZero(1 + odd / c);
            value *= d * c;
            if (Math.Abs(d * c - 1) < 1e-15) break;
        }
        return Math.Clamp(front * value, 0, 1);

        static double NotZero(double value) => Math.Abs(value) < tiny ? tiny : value;
    }
}
