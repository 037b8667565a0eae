using System.CommandLine;
using System.Globalization;
using Skiff.Planning;
using Skiff.Planning.Simulation;

namespace Skiff.Serve;

/// <summary><c>skiff simulate</c>: what each way of choosing an instance would have done with the same requests. Needs no store and no server.</summary>
internal static class SimulateCommand
{
    private static readonly Dictionary<string, Placement> Policies = new()
    {
        ["random"] = Placement.Random,
        ["round-robin"] = Placement.RoundRobin,
        ["least-loaded"] = Placement.LeastLoaded,
        ["hash"] = Placement.Hash,
        ["bounded"] = Placement.Bounded,
        ["warm"] = Placement.Warm,
        ["platform"] = Placement.Platform,
    };

    public static void Add(RootCommand root)
    {
        var policy = new Option<string[]>("--policy") { Description = $"How an instance is chosen, one or more of {string.Join(", ", Policies.Keys)}", HelpName = "P", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [.. Policies.Keys] };
        policy.AcceptOnlyFromAmong([.. Policies.Keys]);
        var instances = Number("--instances", "Instances that every request goes to first", 8);
        var by = new Option<string>("--by") { Description = "What the router's key is: user or model", DefaultValueFactory = _ => "user" };
        by.AcceptOnlyFromAmong("user", "model");
        var slack = Real("--slack", "An instance gets at most 1 + this of the mean", 0.2);
        var concurrency = Number("--concurrency", "Requests that an instance runs at once", 1);
        var service = Real("--service", "Mean run time with everything in memory, ms", 10);
        var constant = new Option<bool>("--constant") { Description = "Run times are always the mean; otherwise they are exponential" };
        var miss = Real("--miss", "More for a user who is not cached, ms", 20);
        var load = Real("--load", "More for a model that is not loaded, ms", 100);
        var cold = Real("--cold", "More where the instance must start, ms", 300);
        var keepAlive = Real("--keep-alive", "How long an idle instance lives, s", 300);
        var provisioned = Number("--provisioned", "Instances that are always there", 0);
        var cached = Number("--cached-users", "Users that an instance keeps", 1000);
        var loaded = Number("--loaded-models", "Models that an instance keeps", 1);
        var heavy = Number("--heavy", "Heavy replicas behind them", 0);
        var escalate = Real("--escalate", "Share of requests that go on to the heavy replicas", 0.13);
        var heavyService = Real("--heavy-service", "Mean run time there, ms", 10);
        var heavyConcurrency = Number("--heavy-concurrency", "Requests that a replica runs at once", 1);

        var trace = new Option<string?>("--trace") { Description = "Requests from a CSV file of time,user,model (seconds) instead of made ones", HelpName = "FILE" };
        var requests = new Option<long>("--requests") { Description = "How many", HelpName = "N", DefaultValueFactory = _ => 200_000 };
        var rate = Real("--rate", "Requests a second, on average", 400);
        var users = Number("--users", "How many there are", 10_000);
        var zipf = Real("--zipf", "Exponent of the users' frequencies", 1);
        var models = Number("--models", "How many there are", 1);
        var modelZipf = Real("--model-zipf", "Exponent of the models' frequencies", 1);
        var swing = Real("--swing", "The rate moves between 1 - this and 1 + this of its mean over a day", 0);
        var day = Real("--day", "Seconds a day", 86_400);
        var warmUp = Real("--warm-up", "Share of requests that fill the caches and are not counted", 0.1);
        var seed = new Option<ulong>("--seed") { Description = "The same seed gives the same figures", HelpName = "N", DefaultValueFactory = _ => 1 };

        var memory = Real("--memory", "A function's memory, GB", Prices.GigabytesPerCore);
        var hour = Real("--heavy-hour", "A heavy replica, dollars an hour", new TierPrices().ReplicaHour);

        var command = new Command("simulate", "What routing, caches, cold starts and a heavy tier would do with many requests, and what it costs")
        {
            policy, instances, by, slack, concurrency, service, constant, miss, load, cold, keepAlive, provisioned, cached, loaded, heavy, escalate, heavyService, heavyConcurrency,
            trace, requests, rate, users, zipf, models, modelZipf, swing, day, warmUp, seed, memory, hour,
        };
        command.SetAction((arguments, cancellation) => Failures.ReportAsync(() => Task.Run(() =>
        {
            var front = new TierOptions
            {
                Instances = arguments.GetValue(instances),
                ByModel = arguments.GetValue(by) == "model",
                Slack = arguments.GetValue(slack),
                Concurrency = arguments.GetValue(concurrency),
                Distribution = arguments.GetValue(constant) ? ServiceTime.Constant : ServiceTime.Exponential,
                Service = arguments.GetValue(service) / 1000,
                Miss = arguments.GetValue(miss) / 1000,
                Load = arguments.GetValue(load) / 1000,
                ColdStart = arguments.GetValue(cold) / 1000,
                KeepAlive = arguments.GetValue(keepAlive),
                Provisioned = arguments.GetValue(provisioned),
                CachedUsers = arguments.GetValue(cached),
                LoadedModels = arguments.GetValue(loaded),
            };
            var replicas = arguments.GetValue(heavy);
            if (replicas < 0) throw new ArgumentException("--heavy is at least 0");
            var options = new SimulationOptions
            {
                Front = front,
                // Replicas are there before the first request, and each has the one heavy model.
                Heavy = replicas == 0 ? null : front with
                {
                    Instances = replicas, Service = arguments.GetValue(heavyService) / 1000, Concurrency = arguments.GetValue(heavyConcurrency),
                    Miss = 0, Load = 0, ColdStart = 0, KeepAlive = double.PositiveInfinity, Provisioned = 0, LoadedModels = 1, Placement = Placement.Bounded, ByModel = false,
                },
                Escalated = replicas == 0 ? 0 : arguments.GetValue(escalate),
                WarmUp = arguments.GetValue(warmUp),
                Seed = arguments.GetValue(seed),
            };
            options.Validate();
            var prices = new TierPrices { FunctionGigabytes = arguments.GetValue(memory), ReplicaHour = arguments.GetValue(hour) }.Validate();
            Arrivals arrivals = arguments.GetValue(trace) is { } path
                ? ReadTrace(path)
                : new GeneratedArrivals(arguments.GetValue(requests), arguments.GetValue(rate), arguments.GetValue(users), arguments.GetValue(zipf),
                    arguments.GetValue(models), arguments.GetValue(modelZipf), arguments.GetValue(swing), arguments.GetValue(day), arguments.GetValue(seed));
            return Run(options, arrivals, prices, arguments.GetRequiredValue(policy).Distinct(), cancellation);
        }, cancellation)));
        root.Add(command);
    }

    internal static Option<double> Real(string name, string description, double otherwise) => new(name) { Description = description, HelpName = "X", DefaultValueFactory = _ => otherwise };

    internal static Option<int> Number(string name, string description, int otherwise) => new(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => otherwise };

    private static int Run(SimulationOptions options, Arrivals arrivals, TierPrices prices, IEnumerable<string> policies, CancellationToken cancellation)
    {
        Console.WriteLine(Invariant($"{arrivals.Count:N0} requests of {arrivals.Users:N0} users for {arrivals.Models:N0} models, to {options.Front.Instances:N0} instances{(options.Heavy is null ? "" : Invariant($" and {options.Heavy.Instances:N0} heavy replicas"))}, seed {options.Seed}"));
        Console.WriteLine();
        Console.WriteLine("policy         hit rate   p50 ms   p99 ms  max/mean load   busy  cold starts  model loads  $ a million");
        foreach (var name in policies)
        {
            SimulationResult result;
            using (var progress = new Progress(name, arrivals.Count))
            {
                result = Simulator.Run(options with { Front = options.Front with { Placement = Policies[name] } }, arrivals, progress.Report, cancellation);
            }
            var front = result.Front;
            Console.WriteLine(Invariant(
                $"{name,-13} {front.HitRate,9:0.000} {1000 * result.P50,8:0.0} {1000 * result.P99,8:0.0} {front.MaxOverMean,14:0.00} {front.Utilisation,6:0.00} {front.ColdStarts,12:N0} {front.Loads,12:N0} {1e6 * result.Cost(prices) / Math.Max(1, result.Requests),12:0.000}"));
        }
        return 0;
    }

    private static TraceArrivals ReadTrace(string path)
    {
        if (Directory.Exists(path)) throw new FormatException($"'{path}' is a folder; --trace takes a file");
        if (!File.Exists(path)) throw new FormatException($"there is no file '{path}'");
        using var text = File.OpenText(path);
        try
        {
            return TraceArrivals.Parse(text);
        }
        catch (FormatException e)
        {
            throw new FormatException($"{path}: {e.Message}", e);
        }
    }

    internal static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>Where a run is, on a terminal; a run of minutes must not look dead.</summary>
    private sealed class Progress(string what, long requests) : IDisposable
    {
        private long _shown = -1;

        public void Report(long came)
        {
            var percent = 100 * came / requests;
            if (Console.IsErrorRedirected || percent == _shown) return;
            _shown = percent;
            Console.Error.Write($"\r{what}: {percent}%");
        }

        public void Dispose()
        {
            if (_shown >= 0) Console.Error.Write("\r                              \r");
        }
    }
}
