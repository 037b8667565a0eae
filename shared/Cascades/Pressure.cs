namespace Skiff.Cascades;

/// <summary>
/// How hard pressed an app is, as one number, found by control on how long its requests wait (all but its own part of the runs, measured, as a share of the objective and smoothed over some
/// 20 ms): above a half of it pressure rises, the faster the longer they stand, below a quarter it falls, and in between it stays, so that it settles instead of swinging. Without requests it falls by itself.
/// </summary>
/// <remarks>
/// From 0 to D, the number of gates, the cascade is dimmed: one unit lowers one gate from where the app has it down to nothing, the last first, so that of the rows that would be handed on those
/// leave first that lose least by it, until the stage behind it is dark. In the next unit a growing share of requests gets the app's default, and in the one after that 503; an app without a default
/// has 503 in the place of both. Requests of a lower priority are half a unit a level ahead of the others on that way, those of a higher priority behind.
/// </remarks>
/// <param name="gates">Stages less one; 0 without a cascade.</param>
/// <param name="objective">Within which the app answers.</param>
public sealed class Pressure(int gates, bool hasDefault, TimeSpan objective, TimeProvider time)
{
    private const double High = 0.5; // of the objective, spent in line
    private const double Low = 0.25;
    private const double RisePerSecond = 20; // units, for each share of the objective that it is above High
    private const double FallPerSecond = 4;
    private const double APriority = 0.5; // units
    private const double MostShed = 0.98; // somebody must be let in to learn that the pressure has gone
    private const double MostWait = 2; // in objectives: what is longer says no more
    private static readonly TimeSpan Smoothing = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LongestStep = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan Quiet = TimeSpan.FromMilliseconds(50);

    private readonly Lock _lock = new();
    private double _level; // this and the rest: guarded by _lock
    private double _waiting; // share of the objective, smoothed
    private long _last;
    private double _owedShed; // what was not yet shed of the share that should be
    private double _owedRefused;
    private long _defaults;
    private long _refusals;

    /// <summary>From 0, none, to <see cref="Most"/>.</summary>
    public double Level
    {
        get
        {
            lock (_lock)
            {
                Rest(time.GetTimestamp());
                return _level;
            }
        }
    }

    /// <summary>Requests that were shed with the default since the app was loaded.</summary>
    public long Defaults => Volatile.Read(ref _defaults);

    /// <summary>Requests that were refused.</summary>
    public long Refusals => Volatile.Read(ref _refusals);

    public double Most => gates + 1 + (hasDefault ? 1 : 0);

    /// <summary>What requests of a priority feel of it.</summary>
    public double For(int priority) => Level is > 0 and var level ? Math.Clamp(level + (priority - Batching.Priorities.Normal) * APriority, 0, Most) : 0;

    /// <summary>By how much a gate is lowered: 0 for not at all, 1 for all the way.</summary>
    /// <param name="level">What the request feels (<see cref="For"/>).</param>
    /// <param name="gate">From 0, that of the first stage.</param>
    public double Lowers(double level, int gate) => Math.Clamp(level - (gates - 1 - gate), 0, 1);

    /// <summary>Whether a request should be run at all, or be shed, and how. Of many, the right share, evenly spread.</summary>
    public Shedding Admit(int priority)
    {
        var share = For(priority) - gates;
        if (share <= 0) return Shedding.None;
        lock (_lock)
        {
            if (!Owes(ref _owedShed, Math.Min(share, MostShed))) return Shedding.None;
            if (hasDefault && !Owes(ref _owedRefused, Math.Clamp(share - 1, 0, 1)))
            {
                _defaults++;
                return Shedding.Default;
            }
            _refusals++;
            return Shedding.Refused;
        }
    }

    /// <summary>Tells how long a request waited: for its turn, and for what others of the same runs took.</summary>
    public void Waited(TimeSpan waited)
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            Rest(now);
            var step = _last == 0 ? LongestStep : time.GetElapsedTime(_last, now);
            if (step > LongestStep) step = LongestStep;
            _last = now;
            _waiting += (1 - Math.Exp(-step / Smoothing)) * (Math.Min(waited / objective, MostWait) - _waiting);
            if (_waiting > High) _level = Math.Min(Most, _level + RisePerSecond * (_waiting - High) * step.TotalSeconds);
            else if (_waiting < Low) Fall((1 - _waiting / Low) * step.TotalSeconds);
        }
    }

    /// <summary>Tells that a request was refused or given up, since it stood in line for too long or would have.</summary>
    public void GaveUp() => Waited(objective);

    /// <summary>When nobody asks, nobody stands in line.</summary>
    private void Rest(long now)
    {
        if (_last == 0 || time.GetElapsedTime(_last, now) - Quiet is not { Ticks: > 0 } rested) return;
        Fall(rested.TotalSeconds);
        _waiting *= Math.Exp(-rested / Smoothing);
        _last += (long)(rested.TotalSeconds * time.TimestampFrequency);
    }

    private void Fall(double seconds) => _level = Math.Max(0, _level - FallPerSecond * seconds);

    private static bool Owes(ref double owed, double share)
    {
        owed += share;
        if (owed < 1) return false;
        owed -= 1;
        return true;
    }
}

/// <summary>What becomes of a request that is not run.</summary>
public enum Shedding
{
    /// <summary>It is run.</summary>
    None,

    /// <summary>It gets the app's default answer.</summary>
    Default,

    /// <summary>It gets none.</summary>
    Refused,
}
