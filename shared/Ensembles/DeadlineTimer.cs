namespace Skiff.Ensembles;

/// <summary>
/// Calls back at a deadline, to the nearest millisecond. The framework's timers are up to two late, and hand over to the pool, which may be busy: here a thread of its own sleeps until the nearest deadline.
/// Callbacks run on it one after the other, so each must be short.
/// </summary>
internal sealed class DeadlineTimer : IDisposable
{
    private static readonly object Gate = new(); // guards the rest
    private static readonly PriorityQueue<DeadlineTimer, long> Timers = new();
    private static bool s_isStarted;

    private Action? _callback;
    private ITimer? _other;

    private DeadlineTimer(Action callback) => _callback = callback;

    /// <param name="deadline">A timestamp of <paramref name="time"/>.</param>
    public static DeadlineTimer Start(TimeProvider time, long deadline, Action callback)
    {
        var timer = new DeadlineTimer(callback);
        if (time != TimeProvider.System)
        {
            // A test's clock, which only it moves.
            var rest = TimeSpan.FromSeconds(Math.Max(0, deadline - time.GetTimestamp()) / (double)time.TimestampFrequency);
            timer._other = time.CreateTimer(state => ((DeadlineTimer)state!).Call(), timer, rest, Timeout.InfiniteTimeSpan);
            return timer;
        }
        lock (Gate)
        {
            if (!s_isStarted)
            {
                s_isStarted = true;
                new Thread(Watch) { IsBackground = true, Name = "skiff deadlines", Priority = ThreadPriority.Highest }.Start();
            }
            var isNearest = !Timers.TryPeek(out _, out var nearest) || deadline < nearest;
            Timers.Enqueue(timer, deadline);
            if (isNearest) Monitor.Pulse(Gate);
        }
        return timer;
    }

    /// <summary>It is no longer wanted; a callback that has begun goes on.</summary>
    public void Dispose()
    {
        Interlocked.Exchange(ref _callback, null);
        _other?.Dispose();
    }

    private void Call() => Interlocked.Exchange(ref _callback, null)?.Invoke();

    private static void Watch()
    {
        while (true) Next().Call();
    }

    /// <summary>Waits for a deadline to come.</summary>
    private static DeadlineTimer Next()
    {
        lock (Gate)
        {
            while (true)
            {
                var wait = Timeout.Infinite;
                while (Timers.TryPeek(out var timer, out var deadline))
                {
                    var rest = (deadline - TimeProvider.System.GetTimestamp()) * 1000.0 / TimeProvider.System.TimestampFrequency;
                    if (rest <= 0.5 || timer._callback is null)
                    {
                        Timers.Dequeue();
                        if (timer._callback is not null) return timer;
                        continue;
                    }
                    wait = (int)Math.Min(Math.Round(rest), int.MaxValue);
                    break;
                }
                Monitor.Wait(Gate, wait);
            }
        }
    }
}
