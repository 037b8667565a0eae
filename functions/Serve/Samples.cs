using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>The apps that come along, published into an empty store at the first start, so that there is something to call.</summary>
public static class Samples
{
    private static readonly (string File, string Name)[] Artifacts =
    [
        ("fashion/fm_small.onnx", "fm_small"),
        ("fashion/fm_medA.onnx", "fm_medA"),
        ("fashion/fm_big.onnx", "fm_big"),
        ("fashion/fm_medA2.onnx", "fm_medA2"),
        ("fashion/fm_medB.onnx", "fm_medB"),
        ("fashion/fm_mlp.onnx", "fm_mlp"),
        ("fashion/fm_exit1.onnx", "fm_exit1"),
        ("fashion/fm_exit2.onnx", "fm_exit2"),
        ("fashion/fm_exit3.onnx", "fm_exit3"),
        ("digits/digits-body-without-george.onnx", "digits_body"),
        ("digits/george-prior.json", "digits_prior"),
        ("films/mt_item_features.onnx", "mt_item_features"),
        ("films/mt_priors.json", "mt_priors"),
    ];

    private static readonly (string File, string Name)[] Apps =
    [
        ("fashion/app.json", "fashion"),
        ("fashion/exits.json", "fashion-exits"),
        ("fashion/ensemble.json", "fashion-ensemble"),
        ("digits/app.json", "digits"),
        ("films/app.json", "films"),
        ("personalizer/app.json", "personalizer"),
    ];

    /// <summary>Where the build puts them.</summary>
    public static string Folder => Path.Combine(AppContext.BaseDirectory, "samples");

    public static async Task PublishAsync(string folder, ModelStore store, IEnumerable<string> tenants, CancellationToken cancellation)
    {
        var publisher = new Publisher(store, ModelLimits.Default);
        foreach (var tenant in tenants)
        {
            // Apps of the user's own: not an empty store. Else what is missing is added: it may be that the first start was cut short, or that another process is at it.
            var present = await store.NamesAsync(tenant, ArtifactKind.App, cancellation);
            if (present.Except(Apps.Select(app => app.Name)).Any()) continue;
            foreach (var (file, name) in Artifacts)
            {
                var kind = file.EndsWith(".json", StringComparison.Ordinal) ? ArtifactKind.Prior : ArtifactKind.Model;
                if (!await IsLiveAsync(kind, name)) await publisher.AddAsync(tenant, await File.ReadAllBytesAsync(Path.Combine(folder, file), cancellation), name, cancellation);
            }
            foreach (var (file, name) in Apps)
            {
                if (!await IsLiveAsync(ArtifactKind.App, name)) await publisher.AddAppAsync(tenant, await File.ReadAllBytesAsync(Path.Combine(folder, file), cancellation), cancellation);
            }

            async Task<bool> IsLiveAsync(ArtifactKind kind, string name) => await store.ResolveAsync(tenant, kind, name, ModelStore.Live, cancellation) is not null;
        }
    }

    /// <summary>A line that calls an app, for pasting into a shell; null for apps that aren't ours.</summary>
    public static string? Curl(App app, string address, bool needsKey)
    {
        var key = needsKey ? " -H \"Authorization: Bearer $KEY\"" : "";
        var body = app.Name switch
        {
            "fashion" or "fashion-exits" or "fashion-ensemble" => $"@{Relative(Path.Combine(Folder, "fashion", "request.json"))}",
            "digits" => $"@{Relative(Path.Combine(Folder, "digits", "request.json"))}",
            "films" => """'{"user":"u1","input":[42]}'""",
            "personalizer" => """'{"context":{"time":"morning"},"candidates":[{"id":"coffee"},{"id":"tea"}]}'""",
            _ => null,
        };
        return body is null ? null : $"curl -s {address}/apps/{app.Name}/{(app.Document.Rank is null ? "predict" : "rank")}{key} -d {body}";
    }

    private static string Relative(string path)
    {
        var relative = Path.GetRelativePath(Environment.CurrentDirectory, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : relative;
    }
}
