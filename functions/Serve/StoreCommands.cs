using System.CommandLine;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>The commands that publish, list and move versions. They work on the store alone; a running server notices within seconds.</summary>
internal static class StoreCommands
{
    public static void Add(RootCommand root, Option<string> data, Option<string> tenant)
    {
        var file = new Argument<string>("FILE") { Description = "Path of the file" };
        var name = new Option<string>("--name") { Description = $"The model's name: {Names.Rule}", Required = true };
        var alias = new Option<string?>("--alias") { Description = "Alias to move to the new version, such as live; a name's first version becomes live by itself" };
        var push = new Command("push", "Publish an ONNX model, or a prior (JSON), as the next version of a name") { file, name, alias };
        push.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            var content = await ReadAsync(arguments.GetRequiredValue(file), cancellation);
            var published = await Publisher(arguments).PushAsync(arguments.GetRequiredValue(tenant), content, arguments.GetRequiredValue(name), arguments.GetValue(alias), cancellation);
            return Say(published);
        }));
        root.Add(push);

        var app = new Command("app", "Apps");
        var pushApp = new Command("push", "Publish an app document (JSON) and make it live") { file };
        pushApp.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            var content = await ReadAsync(arguments.GetRequiredValue(file), cancellation);
            return Say(await Publisher(arguments).PushAppAsync(arguments.GetRequiredValue(tenant), content, cancellation));
        }));
        app.Add(pushApp);
        root.Add(app);

        var list = new Command("list", "List models, priors and apps, with their versions and aliases");
        list.SetAction((arguments, cancellation) => Failures.ReportAsync(() => ListAsync(Store(arguments), arguments.GetRequiredValue(tenant), cancellation)));
        root.Add(list);

        var of = new Argument<string>("NAME");
        var kind = new Option<ArtifactKind>("--kind") { Description = "model, prior or app", DefaultValueFactory = _ => ArtifactKind.Model };
        var versions = new Command("versions", "List the versions of a name") { of, kind };
        versions.SetAction((arguments, cancellation) => Failures.ReportAsync(() =>
            VersionsAsync(Store(arguments), arguments.GetRequiredValue(tenant), arguments.GetValue(kind), arguments.GetRequiredValue(of), cancellation)));
        root.Add(versions);

        var version = new Argument<int>("VERSION");
        var moved = new Option<string>("--alias") { Description = "Which alias", DefaultValueFactory = _ => ModelStore.Live };
        var move = new Command("alias", "Move an alias to a version, forward or back") { of, version, moved, kind };
        move.SetAction((arguments, cancellation) => Failures.ReportAsync(async () =>
        {
            var (which, to, label) = (arguments.GetRequiredValue(of), arguments.GetRequiredValue(version), arguments.GetRequiredValue(moved));
            var before = await Store(arguments).MoveAliasAsync(arguments.GetRequiredValue(tenant), arguments.GetValue(kind), which, label, to, cancellation);
            Console.WriteLine(before is null ? $"{which}: {label} is version {to}" : $"{which}: {label} moved from version {before} to {to}");
            return 0;
        }));
        root.Add(move);

        ModelStore Store(ParseResult arguments) => new(Stores.OpenObjects(Settings.Read(arguments.GetRequiredValue(data), null, Environment.GetEnvironmentVariables(), listens: false)), TimeProvider.System);
        Publisher Publisher(ParseResult arguments) => new(Store(arguments), ModelLimits.Default);
    }

    private static async Task<byte[]> ReadAsync(string path, CancellationToken cancellation)
    {
        var file = new FileInfo(path);
        if (!file.Exists) throw new PublishException($"there is no file '{path}'");
        if (file.Length > ModelLimits.Default.MaxBytes) throw new PublishException($"'{path}' has {file.Length} bytes; at most {ModelLimits.Default.MaxBytes} are taken");
        return await File.ReadAllBytesAsync(path, cancellation);
    }

    private static int Say((Manifest Manifest, string? Alias) published)
    {
        var (manifest, alias) = published;
        Console.WriteLine($"{manifest.Name}: version {manifest.Version}, {manifest.Bytes} bytes, sha256 {manifest.Sha256}");
        Console.WriteLine(alias is null
            ? $"no alias was moved; 'skiff alias {manifest.Name} {manifest.Version}' makes it live"
            : $"{alias} is version {manifest.Version}");
        return 0;
    }

    private static async Task<int> ListAsync(ModelStore store, string tenant, CancellationToken cancellation)
    {
        foreach (var kind in Enum.GetValues<ArtifactKind>())
        {
            foreach (var name in await store.NamesAsync(tenant, kind, cancellation))
            {
                var versions = await store.VersionsAsync(tenant, kind, name, cancellation);
                var aliases = await store.AliasesAsync(tenant, kind, name, cancellation);
                Console.WriteLine($"{kind.ToString().ToLowerInvariant(),-6} {name,-24} versions {string.Join(", ", versions),-12} {string.Join(", ", aliases.Select(pair => $"{pair.Key}={pair.Value}"))}");
            }
        }
        return 0;
    }

    private static async Task<int> VersionsAsync(ModelStore store, string tenant, ArtifactKind kind, string name, CancellationToken cancellation)
    {
        var versions = await store.VersionsAsync(tenant, kind, name, cancellation);
        if (versions.Count == 0) throw new ArgumentException($"there is no {kind.ToString().ToLowerInvariant()} '{name}'");
        var aliases = await store.AliasesAsync(tenant, kind, name, cancellation);
        foreach (var version in versions)
        {
            var manifest = await store.ManifestAsync(tenant, kind, name, version, cancellation) ?? throw new StoreException($"version {version} of '{name}' is missing");
            var named = string.Join(", ", aliases.Where(pair => pair.Value == version).Select(pair => pair.Key));
            Console.WriteLine($"{version,4}  {manifest.Created:u}  {manifest.Bytes,10} bytes  {manifest.Sha256[..12]}  by {manifest.By}  {named}");
        }
        return 0;
    }
}
