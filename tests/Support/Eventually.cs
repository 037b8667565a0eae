using System.Diagnostics;

namespace Skiff.Support;

/// <summary>Waits for what happens in the background, by looking again and again until a deadline.</summary>
public static class Eventually
{
    private static readonly TimeSpan Often = TimeSpan.FromMilliseconds(20);

    /// <exception cref="TimeoutException">It did not come true.</exception>
    public static async Task HoldsAsync(string what, Func<Task<bool>> condition, double seconds = 20)
    {
        var started = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            if (Stopwatch.GetElapsedTime(started).TotalSeconds > seconds) throw new TimeoutException($"after {seconds} s it is still not so: {what}");
            await Task.Delay(Often);
        }
    }
}
