using System.Runtime.InteropServices;

namespace Skiff.Models;

/// <summary>
/// Gives what the C library's allocator holds after an unload back to the operating system: glibc keeps freed memory in its arenas, which looks like a leak
/// to whoever watches the process and counts against a function's memory.
/// </summary>
internal static partial class NativeMemoryTrim
{
    private static bool _available = OperatingSystem.IsLinux();

    public static void Run()
    {
        if (!_available) return;
        try
        {
            _ = Trim(0);
        }
        catch (EntryPointNotFoundException)
        {
            // musl has no such function, and no such habit.
            _available = false;
        }
        catch (DllNotFoundException)
        {
            _available = false;
        }
    }

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int Trim(nuint pad);
}
