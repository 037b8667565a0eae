namespace Skiff.Planning;

/// <summary>
/// Waiting in one line before <c>c</c> workers, with Poisson arrivals (M/G/c), in closed form: of the service time only its mean and its variation, the squared coefficient of variation, matter (0: constant;
/// 1: as exponential). Exact for one worker (Pollaczek, Khinchine) and for exponential service (Erlang 1917), else the approximation of Lee and Longton (1959), which is Allen and Cunneen's with Poisson arrivals:
/// as many wait as with exponential service, but (1 + variation) / 2 times as long. Rates are a second, times seconds.
/// </summary>
public static class Queueing
{
    /// <summary>Probability that a request waits at all.</summary>
    /// <param name="load">Arrival rate × service time, below <paramref name="workers"/>.</param>
    public static double ErlangC(int workers, double load)
    {
        if (load >= workers) return 1;
        // Erlang B by its recursion, which neither overflows nor cancels; then C from B.
        var blocked = 1.0;
        for (var k = 1; k <= workers; k++) blocked = load * blocked / (k + load * blocked);
        return workers * blocked / (workers - load * (1 - blocked));
    }

    /// <summary>Mean wait before service begins.</summary>
    public static double MeanWait(int workers, double rate, double service, double variation = 1)
    {
        var load = rate * service;
        return load >= workers ? double.PositiveInfinity : ErlangC(workers, load) * MeanOfThoseWhoWait(workers, load, service, variation);
    }

    /// <summary>P(wait &gt; <paramref name="time"/>), those who wait taken to wait exponentially.</summary>
    public static double WaitsLonger(int workers, double rate, double service, double variation, double time)
    {
        var load = rate * service;
        if (time < 0 || load >= workers) return 1;
        return ErlangC(workers, load) * Math.Exp(-time / MeanOfThoseWhoWait(workers, load, service, variation));
    }

    private static double MeanOfThoseWhoWait(int workers, double load, double service, double variation) => service / (workers - load) * (1 + variation) / 2;
}
