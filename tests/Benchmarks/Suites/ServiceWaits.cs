using System.Diagnostics;
using Microsoft.AspNetCore.Http;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// How long a function waited for services, and how often: calls that run side by side are one wait. What stands in for a service here is slower or faster than the service,
/// so its time is taken out of what was measured, and a round trip put in for each wait.
/// </summary>
internal sealed class ServiceWaits
{
    private readonly Lock _lock = new();
    private int _underWay;
    private long _since;
    private TimeSpan _waited;
    private int _waits;

    /// <summary>Counts a request, from now until its answer has gone.</summary>
    public void Track(HttpRequest request)
    {
        lock (_lock)
        {
            if (_underWay++ == 0) _since = Stopwatch.GetTimestamp();
        }
        request.HttpContext.Response.OnCompleted(() =>
        {
            lock (_lock)
            {
                if (--_underWay > 0) return Task.CompletedTask;
                _waited += Stopwatch.GetElapsedTime(_since);
                _waits++;
            }
            return Task.CompletedTask;
        });
    }

    /// <summary>What has come together since the last time this was asked.</summary>
    public (TimeSpan Waited, int Waits) Take()
    {
        lock (_lock)
        {
            var taken = (_waited, _waits);
            (_waited, _waits) = (TimeSpan.Zero, 0);
            return taken;
        }
    }
}
