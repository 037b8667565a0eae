namespace Skiff.Routing;

/// <summary>
/// Second attempts are a share of requests, so that a tier in trouble isn't asked twice as much: each request pays a little in, each second attempt takes one out. Some are there at the start
/// and are all that is saved up.
/// </summary>
internal sealed class RetryBudget(RouterOptions options)
{
    private const int One = 1_000_000;
    private readonly int _most = options.RetryReserve * One;
    private readonly int _payment = (int)(options.RetryShare * One);
    private int _saved = options.RetryReserve * One;

    public void Pay()
    {
        var saved = Volatile.Read(ref _saved);
        // Lost races lose a payment: never more than the share is spent.
        if (saved < _most) Interlocked.CompareExchange(ref _saved, Math.Min(_most, saved + _payment), saved);
    }

    public bool TrySpend()
    {
        while (true)
        {
            var saved = Volatile.Read(ref _saved);
            if (saved < One) return false;
            if (Interlocked.CompareExchange(ref _saved, saved - One, saved) == saved) return true;
        }
    }
}
