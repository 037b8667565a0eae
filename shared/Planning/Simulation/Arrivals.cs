using System.Globalization;
using Skiff.Selection;

namespace Skiff.Planning.Simulation;

/// <summary>A request comes.</summary>
/// <param name="Time">Seconds.</param>
public readonly record struct Arrival(double Time, int User, int Model)
{
    /// <summary>Times are at most so far from 0: 1,600 years, which clocks can still tell.</summary>
    public const double MostSeconds = 5e10;
}

/// <summary>Requests in the order of their times, as often as one likes: each policy gets the same.</summary>
public abstract class Arrivals
{
    /// <summary>How many there are.</summary>
    public abstract long Count { get; }

    public abstract int Users { get; }

    public abstract int Models { get; }

    public abstract IEnumerable<Arrival> Read();

    /// <summary>What a user is called, for the router's key.</summary>
    public virtual string UserName(int user) => $"u{user}";

    public virtual string ModelName(int model) => $"m{model}";
}

/// <summary>Poisson arrivals whose rate swings with the day; users and models by Zipf's law, the first the most frequent. The same seed gives the same requests.</summary>
public sealed class GeneratedArrivals : Arrivals
{
    private const double MostSeconds = 1e10;

    private readonly long _count;
    private readonly double _rate, _swing, _day;
    private readonly ulong _seed;
    private readonly Zipf _users, _models;

    /// <param name="rate">Requests a second, on average.</param>
    /// <param name="swing">The rate moves between 1 − swing and 1 + swing of its mean; 0 for a steady one.</param>
    /// <param name="day">Seconds from peak to peak.</param>
    /// <exception cref="ArgumentException">One is out of its range.</exception>
    public GeneratedArrivals(long count, double rate, int users, double userSkew, int models, double modelSkew, double swing, double day, ulong seed)
    {
        if (count is < 1 or > 1_000_000_000) throw new ArgumentException("requests are from 1 to 1,000,000,000");
        if (!(rate is > 0 and <= 1e7)) throw new ArgumentException("the rate is above 0 and at most 10,000,000 requests a second");
        if (!(count / rate <= MostSeconds)) throw new ArgumentException("the rate is so low that all requests would take more than 10,000,000,000 seconds");
        if (swing is not (>= 0 and <= 1)) throw new ArgumentException("the swing is from 0 to 1");
        if (!(day is >= 1e-3 and <= 1e9)) throw new ArgumentException("the day is from 0.001 to 1,000,000,000 seconds");
        (_count, _rate, _swing, _day, _seed) = (count, rate, swing, day, seed);
        (_users, _models) = (new Zipf(users, userSkew), new Zipf(models, modelSkew));
    }

    public override long Count => _count;

    public override int Users => _users.Count;

    public override int Models => _models.Count;

    public override IEnumerable<Arrival> Read()
    {
        var random = new SeededRandom(_seed);
        var (time, days, moment, angle) = (0.0, 0L, 0.0, 0.0);
        for (var i = 0L; i < _count; i++)
        {
            var steady = -Math.Log(1 - random.NextDouble()) / _rate;
            if (_swing == 0)
            {
                time += steady;
            }
            else
            {
                // In a time that runs as fast as requests come they are a steady stream (Çınlar 1975); its angle back to the day's is Kepler's equation. Unlike thinning this takes as long whatever the rates.
                moment += Math.Tau / _day * steady;
                var whole = Math.Floor(moment / Math.Tau);
                (days, moment, angle) = (days + (long)whole, moment - whole * Math.Tau, whole > 0 ? 0 : angle);
                angle = Kepler(moment, _swing, angle);
                time = _day * (days + angle / Math.Tau);
            }
            yield return new Arrival(time, _users.Next(ref random), _models.Next(ref random));
        }
    }

    /// <summary>The x from 0 to 2π with x − e sin x = m, by Newton's steps where they stay between the bounds that are known, by halving where not.</summary>
    /// <param name="e">From 0 to 1.</param>
    /// <param name="from">Where to look first; not above x.</param>
    internal static double Kepler(double m, double e, double from)
    {
        var (low, high, x) = (from, Math.Min(Math.Tau, m + e), from);
        for (var step = 0; step < 100; step++)
        {
            var (sin, cos) = Math.SinCos(x);
            var over = x - e * sin - m;
            if (over <= 0) low = x;
            else high = x;
            var next = x - over / (1 - e * cos);
            if (!(next > low && next < high)) next = low + (high - low) / 2;
            if (Math.Abs(next - x) <= 1e-15 * high) return next;
            x = next;
        }
        return x;
    }
}

/// <summary>Requests as they were: CSV, one a line, <c>time,user,model</c>, time in seconds and never falling; the model may be missing. A first line whose first column is a word is a heading.</summary>
public sealed class TraceArrivals : Arrivals
{
    private readonly Arrival[] _arrivals;
    private readonly string[] _users, _models;

    private TraceArrivals(Arrival[] arrivals, string[] users, string[] models) => (_arrivals, _users, _models) = (arrivals, users, models);

    public override long Count => _arrivals.Length;

    public override int Users => _users.Length;

    public override int Models => _models.Length;

    /// <exception cref="FormatException">A line is none; the message names it.</exception>
    public static TraceArrivals Parse(TextReader text)
    {
        var (users, models) = (new Dictionary<string, int>(), new Dictionary<string, int>());
        var arrivals = new List<Arrival>();
        var last = double.NegativeInfinity;
        for (var line = 1; text.ReadLine() is { } row; line++)
        {
            if (string.IsNullOrWhiteSpace(row)) continue;
            var cells = row.Split(',', StringSplitOptions.TrimEntries);
            if (cells.Length is < 2 or > 3) throw new FormatException($"line {line}: '{row}' is no request; it takes time,user or time,user,model");
            if (!double.TryParse(cells[0], NumberStyles.Float, CultureInfo.InvariantCulture, out var time))
            {
                // Words above the columns; what begins like a number was meant for one.
                if (line == 1 && cells[0] is [not ('+' or '-' or '.' or (>= '0' and <= '9')), ..]) continue;
                throw NoTime();
            }
            if (!(Math.Abs(time) <= Arrival.MostSeconds)) throw NoTime();
            if (time < last) throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"line {line}: time {time} comes after {last}"));
            last = time;
            arrivals.Add(new Arrival(time, Number(users, cells[1]), Number(models, cells.Length == 3 ? cells[2] : "")));

            FormatException NoTime() => new($"line {line}: '{cells[0]}' is no time; it takes seconds like 12.5, from -50,000,000,000 to 50,000,000,000");
        }
        return arrivals.Count > 0 ? new TraceArrivals([.. arrivals], [.. users.Keys], [.. models.Keys]) : throw new FormatException("there is no request");

        static int Number(Dictionary<string, int> known, string name)
        {
            if (!known.TryGetValue(name, out var number)) known.Add(name, number = known.Count);
            return number;
        }
    }

    public override IEnumerable<Arrival> Read() => _arrivals;

    public override string UserName(int user) => _users[user];

    public override string ModelName(int model) => _models[model];
}

/// <summary>P(i) ∝ 1 / (i + 1)^s over n numbers, drawn in constant time by an alias table (Vose 1991).</summary>
internal sealed class Zipf
{
    private readonly double[] _keep;
    private readonly int[] _other;

    public Zipf(int count, double skew)
    {
        if (count is < 1 or > 1 << 26) throw new ArgumentException("users and models are from 1 to 67,108,864");
        if (skew is not (>= 0 and <= 10)) throw new ArgumentException("Zipf's exponent is from 0 to 10");
        (_keep, _other) = (new double[count], new int[count]);
        var sum = 0.0;
        for (var i = 0; i < count; i++) sum += _keep[i] = Math.Pow(i + 1, -skew);
        var (small, large) = (new Stack<int>(), new Stack<int>());
        for (var i = 0; i < count; i++)
        {
            _keep[i] *= count / sum;
            (_keep[i] < 1 ? small : large).Push(i);
        }
        while (small.Count > 0 && large.Count > 0)
        {
            var (less, more) = (small.Pop(), large.Pop());
            _other[less] = more;
            _keep[more] -= 1 - _keep[less];
            (_keep[more] < 1 ? small : large).Push(more);
        }
        // Rounding leaves some with next to nothing to give away.
        foreach (var rest in small.Concat(large)) _keep[rest] = 1;
    }

    public int Count => _keep.Length;

    public int Next(ref SeededRandom random)
    {
        var place = random.NextDouble() * _keep.Length;
        var i = (int)place;
        return place - i < _keep[i] ? i : _other[i];
    }
}
