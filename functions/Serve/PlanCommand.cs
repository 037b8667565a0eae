using System.CommandLine;
using Skiff.Planning;

namespace Skiff.Serve;

/// <summary><c>skiff plan</c>: the cheapest mix of functions and heavy replicas for a rate and an objective.</summary>
internal static class PlanCommand
{
    public static void Add(RootCommand root)
    {
        var rate = new Option<double>("--rate") { Description = "Requests a second, at the peak", HelpName = "X", Required = true };
        var objective = SimulateCommand.Real("--objective", "Answers within so many ms", 20);
        var quantile = SimulateCommand.Real("--quantile", "for this share of the requests", 0.99);
        var escalate = SimulateCommand.Real("--escalate", "Share of requests that the light model leaves to the heavy one", 0.13);
        var light = SimulateCommand.Real("--light", "Run time of the light model in a function, ms", 0.2);
        var heavy = SimulateCommand.Real("--heavy", "Run time of the heavy model in a function, ms", 5);
        var lightReplica = new Option<double?>("--light-on-replica") { Description = "The same on a replica, ms (as in a function)", HelpName = "X" };
        var heavyReplica = new Option<double?>("--heavy-on-replica") { Description = "The same on a replica, ms (as in a function)", HelpName = "X" };
        var workers = SimulateCommand.Number("--workers", "Requests that a replica runs at once", 1);
        var hop = SimulateCommand.Real("--hop", "From a function to a replica and back, ms", 1);
        var memory = SimulateCommand.Real("--memory", "A function's memory, GB", Prices.GigabytesPerCore);
        var hour = SimulateCommand.Real("--heavy-hour", "A replica on demand, dollars an hour", new TierPrices().ReplicaHour);
        var spot = SimulateCommand.Real("--spot-hour", "A replica on spot, dollars an hour", new TierPrices().SpotHour);
        var command = new Command("plan", "The cheapest mix of functions and heavy replicas for a rate, an objective and prices")
        {
            rate, objective, quantile, escalate, light, heavy, lightReplica, heavyReplica, workers, hop, memory, hour, spot,
        };
        command.SetAction((arguments, _) => Failures.ReportAsync(() =>
        {
            var question = new CapacityQuestion
            {
                Rate = arguments.GetValue(rate),
                Objective = arguments.GetValue(objective) / 1000,
                Quantile = arguments.GetValue(quantile),
                Escalated = arguments.GetValue(escalate),
                Light = arguments.GetValue(light) / 1000,
                Heavy = arguments.GetValue(heavy) / 1000,
                LightOnReplica = (arguments.GetValue(lightReplica) ?? arguments.GetValue(light)) / 1000,
                HeavyOnReplica = (arguments.GetValue(heavyReplica) ?? arguments.GetValue(heavy)) / 1000,
                Workers = arguments.GetValue(workers),
                Hop = arguments.GetValue(hop) / 1000,
                Prices = new TierPrices { FunctionGigabytes = arguments.GetValue(memory), ReplicaHour = arguments.GetValue(hour), SpotHour = arguments.GetValue(spot) },
            };
            return Task.FromResult(Write(question, CapacityPlanner.Plan(question)));
        }));
        root.Add(command);
    }

    private static int Write(CapacityQuestion question, IReadOnlyList<CapacityPlan> plans)
    {
        var asked = SimulateCommand.Invariant($"{question.Rate:0.###} requests a second, {100 * question.Quantile:0.###}% within {1000 * question.Objective:0.###} ms, {100 * question.Escalated:0.###}% to the heavy model");
        if (plans.Count == 0)
        {
            Console.WriteLine($"{asked}: nothing does that; the run times alone may be too long, or more than {CapacityPlanner.MostReplicas:N0} replicas would be needed");
            return 1;
        }
        Console.WriteLine(asked);
        Console.WriteLine();
        Console.WriteLine("                      on demand   spot    late %     $ an hour   $ a million");
        foreach (var plan in plans)
        {
            var shape = plan.Shape switch
            {
                CapacityShape.Functions => "functions alone",
                CapacityShape.Mixed => "functions, replicas",
                _ => "replicas alone",
            };
            Console.WriteLine(SimulateCommand.Invariant($"{shape,-20} {plan.OnDemand,10} {plan.Spot,6} {100 * plan.Late,9:0.000} {plan.DollarsAnHour,13:0.0000} {1e6 * plan.DollarsAnHour / (3600 * question.Rate),13:0.000}"));
        }
        Console.WriteLine();
        Console.WriteLine("assumes     Poisson arrivals, run times that don't vary, functions that are warm; should all spot replicas go, those on demand keep up, late");
        return 0;
    }
}
