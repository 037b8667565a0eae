namespace Skiff.Selection;

/// <summary>
/// SplitMix64 (Steele, Lea, Flood 2014). The framework's generator promises no sequence; a decision is to be replayed from its logged seed for as long as the log is kept.
/// </summary>
internal struct SeededRandom(ulong seed)
{
    private ulong _state = seed;

    /// <summary>Uniform in [0, 1), multiples of 2⁻⁵³.</summary>
    public double NextDouble()
    {
        _state += 0x9E3779B97F4A7C15;
        var z = _state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }

    /// <returns>An index, each with its probability; never one whose probability is 0.</returns>
    public int Pick(ReadOnlySpan<double> probabilities)
    {
        var rest = NextDouble();
        var last = 0;
        for (var i = 0; i < probabilities.Length; i++)
        {
            if (!(probabilities[i] > 0)) continue;
            if (rest < probabilities[i]) return i;
            rest -= probabilities[i];
            last = i;
        }
        // The sum was a rounding error short of 1.
        return last;
    }

    /// <summary>Beta(a, b) for a, b ≥ 1, as a ratio of gammas.</summary>
    public double NextBeta(double a, double b)
    {
        var x = NextGamma(a);
        return x / (x + NextGamma(b));
    }

    /// <summary>Gamma(shape, 1) for shape ≥ 1 (Marsaglia and Tsang 2000).</summary>
    private double NextGamma(double shape)
    {
        var d = shape - 1.0 / 3;
        var c = 1 / Math.Sqrt(9 * d);
        while (true)
        {
            var x = NextNormal();
            var v = 1 + c * x;
            if (v <= 0) continue;
            v = v * v * v;
            if (Math.Log(1 - NextDouble()) < 0.5 * x * x + d * (1 - v + Math.Log(v))) return d * v;
        }
    }

    /// <summary>N(0, 1) by Marsaglia's polar method; the second of each pair is thrown away, to keep the state one number.</summary>
    public double NextNormal()
    {
        while (true)
        {
            var x = 2 * NextDouble() - 1;
            var r = 2 * NextDouble() - 1;
            r = x * x + r * r;
            if (r is > 0 and < 1) return x * Math.Sqrt(-2 * Math.Log(r) / r);
        }
    }
}
