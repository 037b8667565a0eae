using System.Diagnostics;
using Skiff.Benchmarks.Baseline;

namespace Skiff.Benchmarks;

/// <summary>The servers that suites compare. All of them answer <c>POST /v2/models/fm_mlp/infer</c>.</summary>
internal static class Servers
{
    public const string Constant = "constant";
    public const string Baseline = "baseline";
    public const string Skiff = "skiff";

    public static readonly string[] Names = [Constant, Baseline, Skiff];

    /// <summary>Starts the named server. <paramref name="scratch"/> is a folder that the caller deletes when the server has stopped.</summary>
    public static ServerProcess Start(string name, Cores cores, Samples samples, string scratch) => name switch
    {
        Constant => ServerProcess.Start(name, cores, ThisAssembly, port => ChildServer.Arguments(name, port, samples.ModelFile), ChildServer.ReadyPath),
        Baseline => ServerProcess.Start(name, cores, ThisAssembly, port => ChildServer.Arguments(name, port, samples.ModelFile), ChildServer.ReadyPath),
        Skiff => StartSkiff(cores, samples, Path.Combine(scratch, "skiff")),
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, $"expected one of {string.Join(", ", Names)}"),
    };

    private static string ThisAssembly => typeof(Servers).Assembly.Location;

    /// <summary>The real server, on a store of its own that holds nothing but the model.</summary>
    private static ServerProcess StartSkiff(Cores cores, Samples samples, string data)
    {
        var skiff = SkiffAssembly(samples.RepositoryRoot);
        Push(skiff, ["push", samples.ModelFile, "--name", Samples.ModelName, "--data", data]);
        return ServerProcess.Start(Skiff, cores, skiff, port => ["--data", data, "--urls", $"http://127.0.0.1:{port}"], $"/v2/models/{Samples.ModelName}/ready");
    }

    /// <summary>The real server with an app and its models, which lie in one folder.</summary>
    public static ServerProcess StartSkiffWithApp(Cores cores, string app, IEnumerable<string> modelFiles, string data) => StartSkiffWithApp(cores, app, modelFiles, data, []);

    /// <param name="options">More of the command line.</param>
    public static ServerProcess StartSkiffWithApp(Cores cores, string app, IEnumerable<string> modelFiles, string data, string[] options, params (string Name, string Value)[] environment)
    {
        var skiff = SkiffAssembly(Samples.FindRepositoryRoot());
        foreach (var file in modelFiles) Push(skiff, ["push", file, "--name", Path.GetFileNameWithoutExtension(file), "--data", data]);
        Push(skiff, ["app", "push", app, "--data", data]);
        return ServerProcess.Start(Skiff, cores, skiff, port => ["--no-samples", "--data", data, "--urls", $"http://127.0.0.1:{port}", .. options], "/healthz", environment);
    }

    /// <summary>A replica of the heavy tier on a server's models; whoever is on this machine is trusted.</summary>
    public static ServerProcess StartHeavy(Cores cores, string data, string preload) => ServerProcess.Start(
        "skiff-heavy", cores, SkiffAssembly(Samples.FindRepositoryRoot(), "Heavy", "skiff-heavy"), port => ["--urls", $"http://127.0.0.1:{port}"], "/v2/health/ready", ("SKIFF_MODEL_STORE", $"file://{data}/models"), ("SKIFF_PRELOAD", preload));

    /// <summary>What a program of this name answers for another model than the samples': the constant endpoint doesn't mind, the baseline serves it under the same address.</summary>
    public static ServerProcess StartChild(string name, Cores cores, string modelFile) =>
        ServerProcess.Start(name, cores, ThisAssembly, port => ChildServer.Arguments(name, port, modelFile), ChildServer.ReadyPath);

    private static void Push(string skiff, string[] arguments)
    {
        var push = new ProcessStartInfo(ServerProcess.DotnetHost, [skiff, .. arguments]) { RedirectStandardError = true, RedirectStandardOutput = true };
        using var process = Process.Start(push)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new BenchmarkException($"'skiff {string.Join(' ', arguments)}' failed with exit code {process.ExitCode}:\n{output}{error.GetAwaiter().GetResult()}");
    }

    /// <summary>The server that was built with this program: the same configuration and framework, in its own output folder.</summary>
    public static string SkiffAssembly(string repositoryRoot) => SkiffAssembly(repositoryRoot, "Serve", "skiff");

    private static string SkiffAssembly(string repositoryRoot, string folder, string name)
    {
        var framework = new DirectoryInfo(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory));
        var configuration = framework.Parent!.Name;
        var assembly = Path.Combine(repositoryRoot, "functions", folder, "bin", configuration, framework.Name, name + ".dll");
        return File.Exists(assembly)
            ? assembly
            : throw new BenchmarkException($"{assembly} is missing; `dotnet build -c {configuration} functions/{folder}` makes it, and `--only {Constant} {Baseline}` does without.");
    }
}
