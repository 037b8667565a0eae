namespace Skiff.Planning;

/// <summary>Waiting in closed form: Poisson arrivals, <c>c</c> workers, exponential service (M/M/c; Erlang 1917), or one worker and constant service (M/D/1; Pollaczek, Khinchine). Rates are a second, times seconds.</summary>
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
    public static double MeanWait(int workers, double rate, double service)
    {
        var load = rate * service;
        return load >= workers ? double.PositiveInfinity : ErlangC(workers, load) * service / (workers - load);
    }

    /// <summary>P(wait &gt; <paramref name="time"/>).</summary>
    public static double WaitsLonger(int workers, double rate, double service, double time)
    {
        var load = rate * service;
        if (time < 0 || load >= workers) return 1;
        return ErlangC(workers, load) * Math.Exp(-(workers - load) * time / service);
    }

    /// <summary>One worker whose service always takes as long: half of what it is with exponential service.</summary>
    public static double MeanWaitConstant(double rate, double service) => rate * service >= 1 ? double.PositiveInfinity : rate * service * service / (2 * (1 - rate * service));
}
