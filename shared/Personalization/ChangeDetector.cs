namespace Skiff.Personalization;

/// <summary>
/// Page–Hinkley (Page, Biometrika 1954; Hinkley, Biometrika 1971) on how wrong a head was before each update: sums by how much the standardised residual exceeds its running mean and an allowance, never below
/// zero, and alarms when the sum passes a threshold. A learning head's residuals only fall, so that what is seen against their own past errs towards silence.
/// </summary>
/// <remarks>
/// With an allowance k = 0.5 and threshold h the mean run between false alarms over Gaussian residuals is (e^{2kb} − 2kb − 1)/2k², b = h + 1.166 (Siegmund 1985): 10⁶ for h = 12. The budget is one in 10⁴; the hundredfold is
/// for tails that are not Gaussian, and one residual counts 3 deviations at most, so at least five bad answers in a row are needed. The <c>drift</c> benchmark counts what comes of it.
/// 16 bytes of state, all float32 and int32, so that it is the same whether or not it was stored in between.
/// </remarks>
public record struct ChangeDetector
{
    private const int LeastCount = 30;
    private const float Allowance = 0.5f, Threshold = 12, MostDeviations = 3, Memory = 200;

    /// <summary>Residuals seen since it was opened.</summary>
    public int Count { get; internal set; }

    /// <summary>Of the residuals; running over the last 200 or so.</summary>
    public float Mean { get; internal set; }

    public float Variance { get; internal set; }

    /// <summary>The excess so far.</summary>
    public float Sum { get; internal set; }

    /// <param name="residual">|e|/√(1 + φᵀPφ), from before the update.</param>
    /// <returns>True when its user has changed; it then begins anew.</returns>
    public bool See(float residual)
    {
        if (Count >= LeastCount)
        {
            // A user who was always answered rightly has no deviation: a tenth of the mean is the least.
            var deviation = MathF.Max(MathF.Sqrt(Variance), 0.1f * Mean) + 1e-6f;
            Sum = MathF.Max(0, Sum + MathF.Min((residual - Mean) / deviation, MostDeviations) - Allowance);
            if (Sum > Threshold)
            {
                this = default;
                return true;
            }
        }
        Count = Count == int.MaxValue ? Count : Count + 1;
        var step = MathF.Max(1f / Count, 1 / Memory);
        var difference = residual - Mean;
        Mean += step * difference;
        Variance = (1 - step) * (Variance + step * difference * difference);
        return false;
    }
}
