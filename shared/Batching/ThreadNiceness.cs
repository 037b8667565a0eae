using System.Runtime.InteropServices;

namespace Skiff.Batching;

/// <summary>Which of this process's threads go first where there are fewer cores than threads that have something to do. Linux takes a thread's niceness into account, and no priority of the framework's.</summary>
internal static partial class ThreadNiceness
{
    private const int OfThread = 0; // PRIO_PROCESS: to Linux a thread is one
    private const int Niceness = 3; // half the weight of a thread at 0

    /// <summary>Lets other threads of this process go before the one that calls, for as long as it lives.</summary>
    public static void Yield()
    {
        if (OperatingSystem.IsLinux()) _ = SetPriority(OfThread, 0, Niceness);
        else Thread.CurrentThread.Priority = ThreadPriority.BelowNormal;
    }

    /// <param name="thread">0 for the one that calls.</param>
    [LibraryImport("libc", EntryPoint = "setpriority")]
    private static partial int SetPriority(int which, uint thread, int niceness);
}
