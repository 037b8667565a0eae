using Skiff.Routing;
using Skiff.Selection;

namespace Skiff.Planning.Simulation;

/// <summary>A request on its way.</summary>
internal sealed class Job
{
    public double Came;
    public int User, Model, Instance;
    public bool Counts;
    public Lease Lease;
    public Job? Next;
    public Tier? Tier;
}

/// <summary>Instances of one kind while they run: where requests go, how long they take there, and what they find in memory.</summary>
internal sealed class Tier
{
    private readonly TierOptions _options;
    private readonly SimulatedTime _time;
    private readonly Instance[] _instances;
    private readonly ulong[] _userKeys, _modelKeys;
    private readonly Router? _router;
    private readonly Dictionary<Replica, int> _indexes = [];
    private readonly LoadOrder? _order;
    private readonly Line _line = new();
    private readonly Stack<int> _idle = new();
    private SeededRandom _random;
    private int _turn;

    public Tier(TierOptions options, Arrivals arrivals, SimulatedTime time, ulong seed)
    {
        (_options, _time, _random) = (options, time, new SeededRandom(seed));
        _instances = [.. Enumerable.Range(0, options.Instances).Select(i => new Instance(options, i < options.Provisioned))];
        _userKeys = options.ByModel ? [] : [.. Enumerable.Range(0, arrivals.Users).Select(user => RouteKey.OfUser(Tenant, App, arrivals.UserName(user)))];
        _modelKeys = [.. Enumerable.Range(0, arrivals.Models).Select(model => RouteKey.OfModel(Tenant, arrivals.ModelName(model)))];
        switch (options.Placement)
        {
            case Placement.LeastLoaded:
                _order = new LoadOrder(options.Instances);
                break;
            case Placement.Platform:
                for (var i = options.Instances; i-- > 0;)
                {
                    for (var k = 0; k < options.Concurrency; k++) _idle.Push(i);
                }
                break;
            case Placement.Hash or Placement.Bounded or Placement.Warm:
                _router = new Router(new RouterOptions
                {
                    Slack = options.Placement == Placement.Hash ? double.PositiveInfinity : options.Slack,
                    PrefersWarm = options.Placement == Placement.Warm,
                }, time);
                _router.Replace(options.Addresses ?? [.. Enumerable.Range(0, options.Instances).Select(index => new Uri($"http://replica-{index:D5}"))]);
                foreach (var replica in _router.Replicas.Replicas) _indexes.Add(replica, _indexes.Count);
                break;
        }
    }

    /// <summary>What users and models belong to; a real run that uses the same keys and addresses gets the same choices.</summary>
    internal const string Tenant = "default", App = "simulated";

    public TierOptions Options => _options;
    public long Lookups { get; private set; }
    public long Hits { get; private set; }
    public long Loads { get; private set; }
    public long ColdStarts { get; private set; }
    public double Busy { get; private set; }
    public double BusyProvisioned { get; private set; }

    public IEnumerable<long> Served => _instances.Select(instance => instance.Served);

    /// <summary>A request comes: it is begun, or waits.</summary>
    /// <returns>When it will be done; NaN while it waits.</returns>
    public double Come(Job job)
    {
        job.Tier = this;
        if (_options.Placement == Placement.Platform && _idle.Count == 0)
        {
            _line.Add(job);
            return double.NaN;
        }
        var index = Choose(job);
        ref var instance = ref _instances[job.Instance = index];
        if (job.Counts) instance.Served++;
        _order?.Add(index);
        if (instance.Running == _options.Concurrency)
        {
            instance.Line.Add(job);
            return double.NaN;
        }
        return Begin(job, ref instance);
    }

    /// <summary>A request is done.</summary>
    /// <returns>The next in line, which begins, and when it will be done.</returns>
    public (Job? Next, double Done) End(Job job)
    {
        ref var instance = ref _instances[job.Instance];
        instance.Running--;
        instance.IdleSince = _time.Now;
        _order?.Remove(job.Instance);
        if (_router is not null)
        {
            if (_options.Placement == Placement.Warm) _router.Say(job.Lease.Replica, instance.Report);
            job.Lease.End(Outcome.Answered);
        }
        Job? next;
        if (_options.Placement == Placement.Platform)
        {
            if ((next = _line.Take()) is null) _idle.Push(job.Instance);
            else if (next.Counts) instance.Served++;
        }
        else
        {
            next = instance.Line.Take();
        }
        if (next is null) return (null, double.NaN);
        next.Instance = job.Instance;
        return (next, Begin(next, ref instance));
    }

    private int Choose(Job job)
    {
        switch (_options.Placement)
        {
            case Placement.Random:
                return (int)(_random.NextDouble() * _instances.Length);
            case Placement.RoundRobin:
                return _turn++ % _instances.Length;
            case Placement.LeastLoaded:
                return _order!.At((int)(_random.NextDouble() * _order.Least().Count));
            case Placement.Platform:
                return _idle.Pop();
            default:
                var model = _modelKeys[job.Model];
                if (!_router!.TryTake(_options.ByModel ? model : _userKeys[job.User], model, null, out job.Lease)) throw new InvalidOperationException("the router has nobody to ask");
                return _indexes[job.Lease.Replica];
        }
    }

    private double Begin(Job job, ref Instance instance)
    {
        var time = _options.Distribution == ServiceTime.Constant ? _options.Service : -Math.Log(1 - _random.NextDouble()) * _options.Service;
        if (!instance.IsAlive(_time.Now, _options.KeepAlive))
        {
            instance.Start();
            time += _options.ColdStart;
            if (job.Counts) ColdStarts++;
        }
        instance.Running++;
        if (!instance.Models.Touch(job.Model))
        {
            time += _options.Load;
            if (job.Counts) Loads++;
            if (_options.Placement == Placement.Warm) instance.Report = new ReplicaReport { Warm = [.. instance.Models.Values().Select(model => _modelKeys[model])] };
        }
        var hit = instance.Users.Touch(job.User);
        if (!hit) time += _options.Miss;
        if (job.Counts)
        {
            Lookups++;
            if (hit) Hits++;
            if (instance.IsProvisioned) BusyProvisioned += time;
            else Busy += time;
        }
        return _time.Now + time;
    }

    private struct Instance(TierOptions options, bool isProvisioned)
    {
        public readonly LruSet Users = new(options.CachedUsers), Models = new(options.LoadedModels);
        public readonly Line Line = new();
        public readonly bool IsProvisioned = isProvisioned;
        public ReplicaReport Report = new() { Warm = [] };
        public double IdleSince;
        public int Running;
        public long Served;
        private bool _started = isProvisioned;

        public readonly bool IsAlive(double now, double keepAlive) => IsProvisioned || (_started && (Running > 0 || now - IdleSince <= keepAlive));

        public void Start()
        {
            _started = true;
            Users.Clear();
            Models.Clear();
        }
    }

    /// <summary>First come, first served.</summary>
    private sealed class Line
    {
        private Job? _first, _last;

        public void Add(Job job)
        {
            job.Next = null;
            if (_last is null) _first = job;
            else _last.Next = job;
            _last = job;
        }

        public Job? Take()
        {
            var job = _first;
            if (job is null) return null;
            _first = job.Next;
            if (_first is null) _last = null;
            return job;
        }
    }
}

/// <summary>The simulation's clock, for the router.</summary>
internal sealed class SimulatedTime : TimeProvider
{
    /// <summary>Seconds.</summary>
    public double Now { get; set; }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => (long)(Now * TimeSpan.TicksPerSecond);

    public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch.AddSeconds(Now);
}
