namespace Skiff.Batching;

/// <summary>
/// Threads for runs that take a while, apart from the pool's, which is no larger than the machine: a few runs there, and nobody would be left to read, answer and refuse requests. That takes little of a core and must have
/// it at once, or what waits would wait where nobody sees it.
/// A thread is made when all are busy, up to a number; what finds none waits, and the nearest due goes first. A thread ends when it has had nothing to do for a while.
/// </summary>
internal sealed class RunThreads(int most)
{
    private static readonly TimeSpan IdleTime = TimeSpan.FromSeconds(20);

    private readonly object _gate = new(); // guards the rest
    private readonly PriorityQueue<IThreadPoolWorkItem, long> _waiting = new();
    private int _threads;
    private int _idle;

    /// <summary>As many as there are cores: side by side on one, runs of several models would only all be done later.</summary>
    public static RunThreads Cores { get; } = new(Environment.ProcessorCount);

    /// <summary>For what may take so long that nobody should wait behind it.</summary>
    public static RunThreads Many { get; } = new(256);

    /// <param name="work">Must not throw.</param>
    /// <param name="due">A timestamp.</param>
    public void Queue(IThreadPoolWorkItem work, long due)
    {
        lock (_gate)
        {
            _waiting.Enqueue(work, due);
            if (_waiting.Count <= _idle || _threads == most)
            {
                Monitor.Pulse(_gate);
                return;
            }
            _threads++;
        }
        new Thread(Work) { IsBackground = true, Name = "skiff run" }.Start();
    }

    private void Work()
    {
        while (Next() is { } work) work.Execute();
    }

    private IThreadPoolWorkItem? Next()
    {
        lock (_gate)
        {
            while (true)
            {
                if (_waiting.TryDequeue(out var work, out _)) return work;
                _idle++;
                var wasWoken = Monitor.Wait(_gate, IdleTime);
                _idle--;
                if (wasWoken || _waiting.Count > 0) continue;
                _threads--;
                return null;
            }
        }
    }
}
