namespace Skiff.Personalization;

/// <summary>How much somebody may still say: a bucket that holds an hour's allowance and fills at its rate, by the times that callers give. Times that run backwards fill nothing.</summary>
public record struct TokenBucket
{
    /// <summary>What has been taken and not yet filled up again; 0 is a full bucket.</summary>
    public float Taken { get; internal set; }

    /// <summary>UTC ticks of the latest time seen.</summary>
    public long Ticks { get; internal set; }

    /// <returns>False when nothing is left; then nothing was taken.</returns>
    public bool TryTake(DateTimeOffset at, double perHour)
    {
        var ticks = Math.Max(at.UtcTicks, Ticks);
        Taken = (float)Math.Max(0, Taken - (ticks - Ticks) * (perHour / TimeSpan.TicksPerHour));
        Ticks = ticks;
        if (Taken + 1 > perHour) return false;
        Taken++;
        return true;
    }
}
