namespace Skiff.Batching;

/// <summary>
/// Threads for runs that may take long, apart from the pool's, which is no larger than the machine: a few slow runs there, and nobody would be left to answer those whose deadline has come.
/// A thread is made when all are busy, and ends when it has had nothing to do for a while. They go after the pool's: who reads, answers and refuses requests takes little of a core and must have it at once, or
/// what waits would wait where nobody sees it.
/// </summary>
internal static class RunThreads
{
    private const int Most = 256;
    private static readonly TimeSpan IdleTime = TimeSpan.FromSeconds(20);

    private static readonly object Gate = new(); // guards the rest
    private static readonly Queue<IThreadPoolWorkItem> Waiting = new();
    private static int _threads;
    private static int _idle;

    /// <param name="work">Must not throw.</param>
    public static void Queue(IThreadPoolWorkItem work)
    {
        lock (Gate)
        {
            Waiting.Enqueue(work);
            if (Waiting.Count <= _idle || _threads == Most)
            {
                Monitor.Pulse(Gate);
                return;
            }
            _threads++;
        }
        new Thread(Work) { IsBackground = true, Name = "skiff run" }.Start();
    }

    private static void Work()
    {
        ThreadNiceness.Yield();
        while (Next() is { } work) work.Execute();
    }

    private static IThreadPoolWorkItem? Next()
    {
        lock (Gate)
        {
            while (true)
            {
                if (Waiting.TryDequeue(out var work)) return work;
                _idle++;
                var wasWoken = Monitor.Wait(Gate, IdleTime);
                _idle--;
                if (wasWoken || Waiting.Count > 0) continue;
                _threads--;
                return null;
            }
        }
    }
}
