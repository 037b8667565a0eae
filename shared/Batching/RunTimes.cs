namespace Skiff.Batching;

/// <summary>
/// What a run costs by its rows. The mean of rows alone and of rows in company tells whether sharing pays at all; t = c + a·n, fitted as runs come in (least squares with exponential forgetting), tells how
/// many rows make a run worth its fixed part.
/// </summary>
public sealed class RunTimes(double overheadMicroseconds)
{
    private const double Keep = 0.99;
    private const double Outlier = 3; // times what was expected: somebody else had the core
    private const int Enough = 16;
    private const int MostWorthARun = 32;
    private const double MostWorthAThought = 10; // times the overhead: a run that takes longer hardly feels it
    private const int LookAgainAfter = 16_384;

    // Sums over runs, each older one weighing less: of 1, n, t, n², n·t.
    private double _weight;
    private double _n;
    private double _t;
    private double _nn;
    private double _nt;
    private int _runs;
    private int _bypassed;
    private double _alone; // µs a row, moving means; 0 for not known
    private double _together;

    /// <summary>Microseconds of a run, however few rows it has.</summary>
    public double Fixed { get; private set; }

    /// <summary>Microseconds of each row.</summary>
    public double PerRow { get; private set; }

    /// <summary>Whether waiting in line costs a row more than sharing saves it.</summary>
    public bool IsBypassed { get; private set; }

    /// <summary>Rows from which on the fixed part is a fifth of a run at most: fewer are no reason to run beside another batch.</summary>
    public int WorthARun { get; private set; } = 1;

    public void Ran(int rows, double microseconds)
    {
        if (rows == 1) Move(ref _alone, microseconds);
        else Move(ref _together, microseconds / rows);
        if (IsBypassed && ++_bypassed >= LookAgainAfter) (IsBypassed, _bypassed, _together) = (false, 0, 0);
        else IsBypassed |= _runs > Enough && _alone > 0 && _together > 0 && _alone - _together < overheadMicroseconds && _alone < MostWorthAThought * overheadMicroseconds;
        if (_runs > Enough && microseconds > Outlier * (Fixed + PerRow * rows)) microseconds = Outlier * (Fixed + PerRow * rows);
        _weight = Keep * _weight + 1;
        _n = Keep * _n + rows;
        _t = Keep * _t + microseconds;
        _nn = Keep * _nn + (double)rows * rows;
        _nt = Keep * _nt + rows * microseconds;
        _runs++;
        var spread = _weight * _nn - _n * _n;
        // All of one size say nothing about another.
        if (_runs < Enough || spread < 0.01 * _n * _n) return;
        PerRow = Math.Max((_weight * _nt - _n * _t) / spread, 1e-3);
        Fixed = Math.Max((_t - PerRow * _n) / _weight, 0);
        WorthARun = (int)Math.Clamp(4 * Fixed / PerRow, 1, MostWorthARun);
    }

    private static void Move(ref double mean, double value) => mean = mean == 0 ? value : mean + 0.05 * (value - mean);
}
