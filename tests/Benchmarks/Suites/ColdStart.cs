using System.CommandLine;
using System.Diagnostics;
using System.IO.Compression;
using System.Runtime.InteropServices;
using Skiff.Support;

namespace Skiff.Benchmarks.Suites;

/// <summary>
/// How long a caller waits whose request finds no instance: from the start of the process to the first answer, which must be right, through the Runtime API, with the model in
/// S3 and nothing on the disk. The executables are published as they are deployed.
/// </summary>
internal static class ColdStart
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    public static Command Command()
    {
        var rounds = new Option<int>("--rounds") { Description = "Starts of each kind, by turns; the median is reported", HelpName = "N", DefaultValueFactory = _ => 11 };
        var published = new Option<string?>("--published") { Description = "Keep what is published in this folder, and use what is there already", HelpName = "DIR" };
        Suite.RequirePositive(rounds);
        return Suite.Create("coldstart", "Process start to first answer through the Runtime API, model from S3: NativeAOT, JIT, a plain endpoint.", [rounds, published],
            (parsed, report) => RunAsync(parsed.GetValue(rounds), parsed.GetValue(published), report).GetAwaiter().GetResult());
    }

    private static async Task RunAsync(int rounds, string? published, Report report)
    {
        await using var moto = new MotoServer();
        var deployment = await Deployment.MakeAsync(moto);
        using var scratch = new ScratchFolder();
        var folder = published is null ? scratch.Path : Path.GetFullPath(published);
        Published[] kinds = [Published.Aot, Published.Jit9, Published.Jit10, Published.Baseline];
        foreach (var kind in kinds) await kind.MakeAsync(folder);

        report.Text("# coldstart\n");
        report.Text($"- {RuntimeInformation.OSDescription.Trim()}, {Environment.ProcessorCount} cores, nothing pinned: an instance that starts has its cores to itself");
        report.Text($"- {Deployment.Model} ({new FileInfo(deployment.ModelFile).Length >> 10} KiB) in moto's S3; one request of one image; the logits are compared with ONNX Runtime's here");
        report.Text($"- {rounds} starts each, by turns, after one that isn't counted; medians");
        var starts = kinds.ToDictionary(kind => kind, _ => new List<Start>());
        for (var round = 0; round <= rounds; round++)
        {
            Console.Error.WriteLine($"... round {round} of {rounds}");
            foreach (var kind in kinds)
            {
                var start = await StartAsync(kind, kind.ProgramIn(folder), deployment);
                if (round > 0) starts[kind].Add(start);
            }
        }

        report.Heading("Start to first answer");
        var rows = kinds.Select(kind => (Kind: kind, Time: Suite.Median(starts[kind].Select(start => start.Milliseconds)), Memory: Suite.Median(starts[kind].Select(start => start.PeakMebibytes)),
            Package: Zipped(kind.FolderIn(folder)))).ToArray();
        report.Table(2, ["what", "framework", "ms", "fastest", "slowest", "peak memory, MiB", "package, MB zipped"], rows.Select(row => new[]
        {
            row.Kind.Name, row.Kind.Framework, Report.Number(row.Time, "0"), Report.Number(starts[row.Kind].Min(start => start.Milliseconds), "0"),
            Report.Number(starts[row.Kind].Max(start => start.Milliseconds), "0"), Report.Number(row.Memory, "0"), Report.Number(row.Package, "0.0"),
        }));
        var aot = rows[0];
        report.Add("NativeAOT / same code, JIT net9.0: time", aot.Time / rows[1].Time, "ratio", Goal.AtMost(0.35));
        report.Add("NativeAOT / same code, JIT net10.0: time", aot.Time / rows[2].Time, "ratio", Goal.AtMost(0.35));
        report.Add("NativeAOT / baseline, JIT net10.0: time", aot.Time / rows[3].Time, "ratio", Goal.AtMost(0.35));
        report.Add("NativeAOT / same code, JIT net10.0: peak memory", aot.Memory / rows[2].Memory, "ratio", Goal.AtMost(0.6));
        report.Add("NativeAOT / baseline, JIT net10.0: peak memory", aot.Memory / rows[3].Memory, "ratio", Goal.AtMost(0.6));
        report.Add("NativeAOT package, zipped without symbols", aot.Package, "MB", Goal.AtMost(25));
    }

    private static async Task<Start> StartAsync(Published kind, string program, Deployment deployment)
    {
        await using var api = await LambdaRuntimeApi.StartAsync();
        var invocation = api.Queue(deployment.Event);
        var info = new ProcessStartInfo(program) { RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = Path.GetDirectoryName(program) };
        // The disk of a new instance is empty.
        using var disk = new ScratchFolder();
        info.Environment["TMPDIR"] = disk.Path;
        info.Environment["AWS_LAMBDA_RUNTIME_API"] = api.Address;
        foreach (var (name, value) in kind == Published.Baseline ? deployment.BaselineSettings : deployment.Settings) info.Environment[name] = value;
        var started = Stopwatch.GetTimestamp();
        using var process = Process.Start(info)!;
        try
        {
            var report = await invocation.ReportAsync().WaitAsync(Limit);
            var elapsed = Stopwatch.GetElapsedTime(started);
            deployment.Verify(kind.Name, report);
            return new Start(elapsed.TotalMilliseconds, PeakMebibytes(process.Id));
        }
        catch (TimeoutException)
        {
            process.Kill();
            throw new BenchmarkException($"{kind.Name} gave no answer within {Limit.TotalSeconds} s:\n{await process.StandardOutput.ReadToEndAsync()}{await process.StandardError.ReadToEndAsync()}");
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    /// <summary>The most that was resident at any time, as the kernel keeps it.</summary>
    private static double PeakMebibytes(int process) =>
        File.ReadLines($"/proc/{process}/status").Where(line => line.StartsWith("VmHWM:", StringComparison.Ordinal)).Select(line => double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)[1]) / 1024).Single();

    /// <returns>10⁶ bytes.</returns>
    private static double Zipped(string folder)
    {
        using var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
            {
                if (Path.GetExtension(file) is not (".dbg" or ".pdb")) zip.CreateEntryFromFile(file, Path.GetRelativePath(folder, file), CompressionLevel.Optimal);
            }
        }
        return stream.Length / 1e6;
    }

    private readonly record struct Start(double Milliseconds, double PeakMebibytes);
}
