using System.Collections.Concurrent;
using System.Diagnostics;
using Amazon.Runtime;
using Skiff.Store;

namespace Skiff.Benchmarks.Injection;

/// <summary>
/// How calls of the stores ended, and when. A call ends well, or fails clearly (a <see cref="StoreException"/>, within its deadline), or is counted as what it should not be.
/// </summary>
internal sealed class Tally
{
    // What still has not ended so long after its deadline is given up, so that a run ends.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(30);
    private const int Examples = 5;

    private readonly Lock gate = new();
    private readonly ConcurrentQueue<string> examples = new();
    private readonly ConcurrentDictionary<(string What, string Cause), int> failures = new();
    private int calls, unclear, late, wrong;
    private (TimeSpan Took, string What) slowest;

    public int Calls => calls;

    /// <summary>Failed clearly.</summary>
    public int Failed => failures.Sum(failure => failure.Value);

    /// <summary>Those, by the call and what was behind.</summary>
    public IReadOnlyDictionary<(string What, string Cause), int> Failures => failures;

    /// <summary>Ended with another exception, or not at all.</summary>
    public int Unclear => unclear;

    public int Late => late;

    /// <summary>Ended well and said what is not so.</summary>
    public int Wrong => wrong;

    public (TimeSpan Took, string What) Slowest => slowest;

    /// <summary>A few of the calls that ended as they should not.</summary>
    public IEnumerable<string> Oddities => examples;

    /// <param name="waits">Whether the call may be cancelled at its deadline, because it waits for what need not come: it has ended well then, with nothing.</param>
    /// <returns>Whether it ended well, and its result.</returns>
    public async Task<(bool Ended, T? Result)> CallAsync<T>(string what, TimeSpan deadline, Func<CancellationToken, ValueTask<T>> call, TimeSpan? waits = null)
    {
        Interlocked.Increment(ref calls);
        using var guard = new CancellationTokenSource(waits ?? deadline + Grace);
        var started = Stopwatch.GetTimestamp();
        try
        {
            return (true, await call(guard.Token));
        }
        catch (StoreException e)
        {
            failures.AddOrUpdate((what, CauseOf(e)), 1, (_, count) => count + 1);
            return (false, default);
        }
        catch (OperationCanceledException) when (waits is not null && guard.IsCancellationRequested)
        {
            return (true, default);
        }
        catch (Exception e)
        {
            Interlocked.Increment(ref unclear);
            Note($"{what}: {e.GetType().Name}: {e.Message}");
            return (false, default);
        }
        finally
        {
            var took = Stopwatch.GetElapsedTime(started);
            if (took > deadline)
            {
                Interlocked.Increment(ref late);
                Note($"{what}: {took.TotalSeconds:0.0} s, its deadline is {deadline.TotalSeconds:0} s");
            }
            lock (gate) slowest = took > slowest.Took ? (took, what) : slowest;
        }
    }

    public void CountWrong(string what)
    {
        Interlocked.Increment(ref wrong);
        Note(what);
    }

    private static string CauseOf(StoreException e) => e.InnerException switch
    {
        AmazonServiceException { ErrorCode: { Length: > 0 } code } => code,
        { } inner => inner.GetType().Name,
        null => "the store's own judgement",
    };

    private void Note(string what)
    {
        if (examples.Count < Examples) examples.Enqueue(what);
    }
}
