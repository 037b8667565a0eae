namespace Skiff.Batching;

/// <summary>
/// How many batches of a model should run side by side: as many as do most rows a second, which depends on the model, the machine and what else it does. Measured while requests come in company;
/// each count in turn against its neighbour, now and then again.
/// </summary>
public sealed class WorkerTuner(int most)
{
    private const double WindowSeconds = 0.05;
    private const int WindowBatches = 8;
    private const double Better = 1.05; // what a neighbour must do to be more than chance

    private readonly double[] _rates = new double[most + 1]; // rows a second by count; 0 where not measured
    private double _rows;
    private double _seconds;
    private int _batches;
    private int _windows;
    private int _best = 1;

    /// <summary>Batches that may run at once now; from 1.</summary>
    public int Workers { get; private set; } = 1;

    /// <summary>A batch of several requests has ended, or one while others waited.</summary>
    /// <param name="rows">Its rows.</param>
    /// <param name="seconds">Since the last batch ended, of whichever worker.</param>
    public void Saturated(int rows, double seconds)
    {
        if (most == 1) return;
        _rows += rows;
        _seconds += seconds;
        if (++_batches < WindowBatches || _seconds < WindowSeconds) return;
        _rates[Workers] = _rows / _seconds;
        Restart();
        Choose();
    }

    /// <summary>A request came alone: what was measured so far was not the most that can be done.</summary>
    public void Restart() => (_rows, _seconds, _batches) = (0, 0, 0);

    private void Choose()
    {
        if (_rates[Workers] > _rates[_best] * (Workers > _best ? Better : 1)) _best = Workers;
        // After each round the neighbours are tried; when they have lost, less and less often.
        _windows++;
        var up = _best + 1;
        var down = _best - 1;
        if (up <= most && _rates[up] == 0) Workers = up;
        else if (down >= 1 && _rates[down] == 0) Workers = down;
        else if (Workers != _best) Workers = _best;
        else if (_windows % 64 == 0)
        {
            // The machine may have other things to do by now.
            if (up <= most) _rates[up] = 0;
            if (down >= 1) _rates[down] = 0;
        }
    }
}
