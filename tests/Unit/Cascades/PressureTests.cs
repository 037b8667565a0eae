using Skiff.Cascades;
using Skiff.Unit.Batching;

namespace Skiff.Unit.Cascades;

/// <summary>Pressure by itself, told how long requests stood in line, and in a simulated server that it holds in balance.</summary>
public sealed class PressureTests
{
    private static readonly TimeSpan Objective = TimeSpan.FromMilliseconds(20);

    private readonly ManualTime _time = new();

    [Fact]
    public void NobodyWaits_NothingIsDimmed()
    {
        var pressure = Open();

        Wait(pressure, TimeSpan.Zero, seconds: 1);

        Assert.Equal(0, pressure.Level);
        Assert.Equal(0, pressure.For(5));
        Assert.Equal(Shedding.None, pressure.Admit(5));
    }

    [Fact]
    public void SingleLongWait_HardlyDims_AndIsForgotten()
    {
        var pressure = Open();

        pressure.Waited(TimeSpan.FromSeconds(1));
        Assert.InRange(pressure.Level, 0, 0.1);

        _time.Advance(TimeSpan.FromMilliseconds(100));
        Assert.Equal(0, pressure.Level);
    }

    [Fact]
    public void LongWaits_RaiseIt_AQuarterToAHalfOfTheObjectiveHoldsIt_ShortOnesLetItFall()
    {
        var pressure = Open();
        Wait(pressure, Objective, seconds: 0.2);
        var high = pressure.Level;
        Assert.True(high > 0.5, $"{high}");

        Wait(pressure, Objective * 0.4, seconds: 0.1); // what was measured before fades
        var held = pressure.Level;
        Wait(pressure, Objective * 0.4, seconds: 5);
        Assert.Equal(held, pressure.Level);

        Wait(pressure, TimeSpan.Zero, seconds: 1);
        Assert.Equal(0, pressure.Level);
    }

    [Fact]
    public void WhenNobodyAsksAnyMore_ItFallsByItself()
    {
        var pressure = Open();
        Wait(pressure, 2 * Objective, seconds: 1);
        Assert.Equal(pressure.Most, pressure.Level);

        _time.Advance(TimeSpan.FromSeconds(1.2));

        Assert.Equal(0, pressure.Level);
        pressure.Waited(TimeSpan.Zero);
        Assert.Equal(0, pressure.Level);
    }

    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(0.4, 0, 0.4)]
    [InlineData(1, 0, 1)]
    [InlineData(1.25, 0.25, 1)]
    [InlineData(2, 1, 1)]
    [InlineData(4, 1, 1)]
    public void LastGate_IsLoweredFirst(double level, double first, double second)
    {
        var pressure = Open();

        Assert.Equal((first, second), (pressure.Lowers(level, 0), pressure.Lowers(level, 1)));
    }

    [Fact]
    public void LowerPriorities_FeelMore_AndAreShedFirst()
    {
        var pressure = Open();
        Raise(pressure, to: 2.2);

        var felt = Enumerable.Range(1, 5).Select(pressure.For).ToList();
        Assert.Equal(felt.Order(), felt);
        Assert.Equal(pressure.Level, pressure.For(3));
        Assert.All(Enumerable.Range(0, 100), _ => Assert.Equal(Shedding.None, pressure.Admit(1)));
        Assert.InRange(Enumerable.Range(0, 100).Count(_ => pressure.Admit(5) != Shedding.None), 95, 100);
    }

    [Fact]
    public void AppWithADefault_GivesItFirst_AndThenRefuses()
    {
        var pressure = Open(hasDefault: true);
        Raise(pressure, to: 2.5);
        var some = Admit(pressure);
        Raise(pressure, to: 3.5);
        var more = Admit(pressure);

        Assert.InRange(some[Shedding.Default], 400, 650);
        Assert.Equal(0, some[Shedding.Refused]);
        Assert.InRange(more[Shedding.Default], 350, 600);
        Assert.InRange(more[Shedding.Refused], 350, 650);
        Assert.InRange(more[Shedding.None], 1, 50); // somebody is let in, or it would never be seen that the pressure has gone
        Assert.Equal(some[Shedding.Default] + more[Shedding.Default], pressure.Defaults);
        Assert.Equal(more[Shedding.Refused], pressure.Refusals);
    }

    [Fact]
    public void AppWithoutADefault_Refuses()
    {
        var pressure = Open();
        Raise(pressure, to: 2.5);

        var admitted = Admit(pressure);

        Assert.InRange(admitted[Shedding.Refused], 400, 650);
        Assert.Equal(0, admitted[Shedding.Default]);
    }

    [Theory]
    [InlineData(0.7, 0, 0.05)] // × capacity; least and most that the level is on average, when it has settled
    [InlineData(1.3, 0.05, 2)]
    [InlineData(2, 0.5, 2.5)]
    [InlineData(4, 2, 3)]
    public void SimulatedServer_SettlesWithoutSwinging_AndRecoversAtOnce(double load, double least, double most)
    {
        var server = new SimulatedServer(Open(), _time);

        server.Run(load, seconds: 2);
        server.Run(load, seconds: 3);

        Assert.InRange(server.Levels.Average(), least, most);
        // It holds around one place.
        Assert.InRange(server.Levels.Max() - server.Levels.Min(), 0, 1);
        Assert.InRange(server.Waits.Average(), 0, Objective.TotalSeconds);

        server.Run(0.3, seconds: 1.5);
        Assert.Equal(0, server.Levels[^1]);
    }

    private Pressure Open(bool hasDefault = false) => new(gates: 2, hasDefault, Objective, _time);

    private void Wait(Pressure pressure, TimeSpan waited, double seconds)
    {
        for (var i = 0; i < seconds * 500; i++)
        {
            _time.Advance(TimeSpan.FromMilliseconds(2));
            pressure.Waited(waited);
        }
    }

    private void Raise(Pressure pressure, double to)
    {
        while (pressure.Level < to) Wait(pressure, Objective, seconds: 0.002);
    }

    private static Dictionary<Shedding, int> Admit(Pressure pressure)
    {
        var counts = Enum.GetValues<Shedding>().ToDictionary(shedding => shedding, _ => 0);
        for (var i = 0; i < 1000; i++) counts[pressure.Admit(3)]++;
        return counts;
    }

    /// <summary>
    /// One core, first come first served: a request takes 2.5 ms with three stages, 1.8 without the last, 1 with the first alone, and in between in proportion. What would wait longer than the objective gives up.
    /// </summary>
    private sealed class SimulatedServer(Pressure pressure, ManualTime time)
    {
        private readonly Random _random = new(7);
        private double _free; // when the core has done with those who wait
        private double _now;

        public List<double> Levels { get; } = [];

        public List<double> Waits { get; } = [];

        public void Run(double load, double seconds)
        {
            Levels.Clear();
            Waits.Clear();
            var end = _now + seconds;
            var begun = new PriorityQueue<double, double>(); // waits, by when they are known
            while (_now < end)
            {
                _now += -Math.Log(1 - _random.NextDouble()) * 0.0025 / load;
                while (begun.TryPeek(out var waited, out var at) && at <= _now)
                {
                    begun.Dequeue();
                    MoveTo(at);
                    pressure.Waited(TimeSpan.FromSeconds(waited));
                    Levels.Add(pressure.Level);
                    Waits.Add(waited);
                }
                MoveTo(_now);
                if (pressure.Admit(3) != Shedding.None) continue;
                var wait = Math.Max(0, _free - _now);
                if (wait > Objective.TotalSeconds)
                {
                    pressure.GaveUp();
                    continue;
                }
                begun.Enqueue(wait, _now + wait);
                _free = Math.Max(_free, _now) + Cost(pressure.For(3));
            }
        }

        private void MoveTo(double seconds) => time.Now = Math.Max(time.Now, (long)(seconds * time.TimestampFrequency));

        private double Cost(double level) => 0.001 + 0.0008 * (1 - pressure.Lowers(level, 0)) + 0.0007 * (1 - pressure.Lowers(level, 1));
    }
}
