using System.Diagnostics;

namespace Skiff.Benchmarks;

/// <summary>One core for the servers, one for this process, so that neither is measured at the other's expense.</summary>
internal sealed class Cores
{
    // Affinity masks; both 0 where nothing is pinned.
    private readonly nint servers;
    private readonly nint generator;

    private Cores(nint servers, nint generator, string description)
    {
        this.servers = servers;
        this.generator = generator;
        Description = description;
    }

    /// <summary>Nothing pinned: for suites that measure this process, whose threads may run anywhere.</summary>
    public static Cores Shared => new(0, 0, $"nothing pinned; {Environment.ProcessorCount} cores for everybody");

    /// <summary>What was pinned where, or why nothing was.</summary>
    public string Description { get; }

    public bool Pinned => servers != 0;

    /// <summary>
    /// Takes the first two cores this process may use and keeps the second for itself. On Linux the affinity of a process is that of its main thread and of the threads
    /// started from it later: call this first, on the main thread, and generate load there.
    /// </summary>
    public static Cores Split()
    {
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsWindows())
            return new Cores(0, 0, "nothing pinned: this operating system can't pin a process to a core");

        using var self = Process.GetCurrentProcess();
        var allowed = (ulong)self.ProcessorAffinity;
        var first = allowed & (~allowed + 1);
        var rest = allowed ^ first;
        var second = rest & (~rest + 1);
        if (second == 0)
            return new Cores(0, 0, "nothing pinned: fewer than two cores to choose from, so servers and load generator share what there is");

        self.ProcessorAffinity = (nint)second;
        return new Cores((nint)first, (nint)second,
            $"servers on core {ulong.TrailingZeroCount(first)}, load generator on core {ulong.TrailingZeroCount(second)}");
    }

    /// <summary>Starts a process on the servers' core. It inherits its affinity, so that no thread of it, however early, runs elsewhere.</summary>
    public Process Start(ProcessStartInfo info)
    {
        if (!Pinned || !(OperatingSystem.IsLinux() || OperatingSystem.IsWindows())) return Process.Start(info)!;

        using var self = Process.GetCurrentProcess();
        self.ProcessorAffinity = servers;
        try
        {
            return Process.Start(info)!;
        }
        finally
        {
            self.ProcessorAffinity = generator;
        }
    }
}
