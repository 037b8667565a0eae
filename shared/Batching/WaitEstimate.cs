namespace Skiff.Batching;

/// <summary>How long a request would wait, by how long rows have lately taken in company and alone. On a core that others use too they take longer, and the estimate with them.</summary>
public sealed class WaitEstimate
{
    private const double Keep = 0.9; // of what earlier runs weigh, a run
    private const double Outlier = 4; // times what was expected: somebody else had the core
    private const int Enough = 16;

    private double _runs;
    private double _rows;
    private double _microseconds;
    private int _seen;

    /// <summary>Microseconds; 0 before anything ran.</summary>
    public double PerRow => _rows > 0 ? _microseconds / _rows : 0;

    /// <summary>Microseconds of a run.</summary>
    public double PerRun => _runs > 0 ? _microseconds / _runs : 0;

    public void Ran(int rows, double microseconds)
    {
        if (++_seen > Enough) microseconds = Math.Min(microseconds, Outlier * PerRow * Math.Max(rows, _rows / _runs));
        _runs = Keep * _runs + 1;
        _rows = Keep * _rows + rows;
        _microseconds = Keep * _microseconds + microseconds;
    }

    /// <summary>Until the rows of a request that comes now have run.</summary>
    /// <param name="ahead">Rows that are run before its own.</param>
    /// <param name="running">Runs under way; each is half done, on average.</param>
    public TimeSpan Of(int ahead, int rows, int running, int workers) =>
        TimeSpan.FromMicroseconds((running > 0 ? PerRun / 2 : 0) + PerRow * ((double)ahead / workers + rows));
}
