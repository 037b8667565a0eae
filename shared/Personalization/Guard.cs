using Skiff.Apps;

namespace Skiff.Personalization;

/// <summary>What a guard says of one example.</summary>
public enum Verdict
{
    /// <summary>It is learnt as it is.</summary>
    Accept,

    /// <summary>It is learnt with its features scaled down.</summary>
    Clip,

    /// <summary>It is kept and not learnt, until somebody has looked at it.</summary>
    Quarantine,
}

/// <summary>A verdict and its reason; the reason is null where there is nothing to say.</summary>
/// <param name="Scale">What the features are multiplied by before they are learnt; 1 unless clipped.</param>
public readonly record struct Judgement(Verdict Verdict, string? Reason, float Scale = 1)
{
    public static readonly Judgement Accepted = new(Verdict.Accept, null);
}

/// <summary>What a guard remembers of a user. All float32 and integers, so that it is the same whether or not it was stored in between.</summary>
public record struct GuardMemory
{
    /// <summary>Examples that were measured.</summary>
    public int Count { get; internal set; }

    /// <summary>The running median of ln |φ|.</summary>
    public float LogNorm { get; internal set; }

    /// <summary>The running mean of the squared standardised residual.</summary>
    public float Scale { get; internal set; }

    /// <summary>What this user has said lately.</summary>
    public TokenBucket Said { get; internal set; }
}

/// <summary>
/// Keeps single examples and single users from moving a head further than they should: pure functions over what is remembered of a user, the same in a replay.
/// Constants are conservative: the <c>poison</c> benchmark counts how much honest feedback they keep out.
/// </summary>
public static class Guard
{
    // Fewer examples than these say too little of what is usual.
    private const int LeastResiduals = 10;
    // Below, what was measured is rounding, and says nothing of the noise: a user who has said only what was expected may say something else.
    private const float LeastScale = 1e-12f;
    private const float MedianStep = 0.5f, LeastMedianStep = 0.005f, ScaleMemory = 200;

    /// <summary>Takes one from what a user may say in an hour.</summary>
    public static Judgement Admit(GuardDocument guards, ref GuardMemory memory, DateTimeOffset at)
    {
        if (guards.PerUserHour is not { } most) return Judgement.Accepted;
        var said = memory.Said;
        var admitted = said.TryTake(at, most);
        memory.Said = said;
        return admitted ? Judgement.Accepted : new Judgement(Verdict.Quarantine, $"{AcceptedFeedback.Guarded}more than {most:g4} an hour from this user");
    }

    /// <summary>
    /// |φ| against its running median over the user (stochastic approximation; what is clipped counts as the median): beyond so many times it, φ is scaled down to the median itself rather than to the limit,
    /// so that an inflated example weighs like any other.
    /// </summary>
    /// <param name="typicalNorm">The population's |φ|, or NaN where it is not known; then the user's first example is taken for usual.</param>
    public static Judgement Measure(GuardDocument guards, ref GuardMemory memory, float norm, float typicalNorm)
    {
        var log = MathF.Log(MathF.Max(norm, 1e-30f));
        if (memory.Count == 0) memory.LogNorm = float.IsNaN(typicalNorm) ? log : MathF.Log(typicalNorm);
        memory.Count = memory.Count == int.MaxValue ? memory.Count : memory.Count + 1;
        var usual = memory.LogNorm;
        var isClipped = guards.NormClip is { } most && log - usual > MathF.Log((float)most);
        if (!isClipped) memory.LogNorm += MathF.Max(MedianStep / memory.Count, LeastMedianStep) * MathF.Sign(log - usual);
        return isClipped ? new Judgement(Verdict.Clip, $"clip: features of norm {norm:g3}, usual are {MathF.Exp(usual):g3}", MathF.Exp(usual - log)) : Judgement.Accepted;
    }

    /// <summary>The gate on how far an example is from what the head expected, in deviations of what was usual for this user; what is gated moves what is usual as far as the gate's edge would, so a gate reopens.</summary>
    /// <param name="squared">|e|²/(1 + φᵀPφ), from before the update.</param>
    /// <param name="floor">A squared residual that is never out of the way: 2 for classes, whose plain contradiction is √2; 0 for regressions.</param>
    public static Judgement Gate(GuardDocument guards, ref GuardMemory memory, float squared, float floor)
    {
        if (guards.ResidualGate is not { } most) return Judgement.Accepted;
        var limit = memory.Scale > LeastScale ? MathF.Max((float)(most * most) * memory.Scale, floor) : float.MaxValue;
        var isGated = memory.Count > LeastResiduals && squared > limit;
        memory.Scale += (MathF.Min(squared, memory.Count > LeastResiduals ? limit : float.MaxValue) - memory.Scale) * MathF.Max(1f / memory.Count, 1 / ScaleMemory);
        return isGated ? new Judgement(Verdict.Quarantine, $"{AcceptedFeedback.Guarded}{MathF.Sqrt(squared / memory.Scale):g3} deviations from what the head expected") : Judgement.Accepted;
    }
}
