using System.Collections.Concurrent;

namespace Skiff.Stores;

/// <summary>A clock on which waits up to a limit take no time and are written down. Longer ones, which guard against hanging, are real.</summary>
internal sealed class HurriedTime(TimeSpan limit) : TimeProvider
{
    public ConcurrentQueue<TimeSpan> Waits { get; } = new();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        if (dueTime > limit) return base.CreateTimer(callback, state, dueTime, period);
        Waits.Enqueue(dueTime);
        return base.CreateTimer(callback, state, TimeSpan.Zero, period);
    }
}
