using System.CommandLine;
using Skiff.Serving;

namespace Skiff.Serve;

/// <summary><c>skiff key new</c>: makes a key and shows it, this once.</summary>
internal static class KeyCommand
{
    public static void Add(RootCommand root, Option<string> tenant)
    {
        var scope = new Option<string>("--scope") { Description = "predict, feedback, admin, joined by commas", DefaultValueFactory = _ => "predict,feedback" };
        var create = new Command("new", "Make a key: it is shown once, the server is given its entry") { scope };
        create.SetAction((arguments, _) => Failures.ReportAsync(() =>
        {
            var (key, entry) = ApiKeys.Create(arguments.GetRequiredValue(tenant), ApiKeys.ParseScopes(arguments.GetRequiredValue(scope)));
            Console.WriteLine($"key (for the caller, shown this once)  {key}");
            Console.WriteLine($"entry (for SKIFF_API_KEYS)             {entry}");
            return Task.FromResult(0);
        }));
        root.Add(new Command("key", "Keys of callers") { create });
    }
}
