using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Store;
using Skiff.Support;

namespace Skiff.Hosts.Models;

/// <summary>Measures this whole process, so nothing else may run in it meanwhile.</summary>
[CollectionDefinition(nameof(NativeMemoryTests), DisableParallelization = true)]
public sealed class AloneInTheProcess;

[Collection(nameof(NativeMemoryTests))]
public sealed class NativeMemoryTests(ITestOutputHelper output)
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task TwoHundredLoadsAndUnloads_LeaveMemoryFlat()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "resident memory is read from /proc");
        using var folder = new ScratchFolder();
        var store = new ModelStore(new FileObjectStore(folder.Path), TimeProvider.System);
        await new Publisher(store, ModelLimits.Default).PushAsync("default", Multiplication(1024), "m", ModelStore.Live, Cancellation);
        var host = new ModelHost(store, new ModelHostOptions(), TimeProvider.System, NullLogger<ModelHost>.Instance);

        var resident = new Dictionary<int, long>();
        for (var cycle = 1; cycle <= 300; cycle++)
        {
            await host.LoadAsync("default", "m", Cancellation);
            Assert.True(host.UsedBytes > 4 << 20);
            await host.UnloadAsync("default", "m", Cancellation);
            // The first hundred fill the allocator's arenas, one for each thread that loads.
            if (cycle >= 100 && cycle % 50 == 0) resident[cycle] = ResidentKibibytes();
        }

        output.WriteLine(string.Join(", ", resident.Select(pair => $"{pair.Value} KiB after {pair.Key}")));
        Assert.Equal(0, host.UsedBytes);
        // A session is 8 MiB: one in fifty that stayed would show.
        Assert.True(resident[300] - resident[100] < 20 * 1024, string.Join(", ", resident));
    }

    /// <summary>x · W with W of n × n floats, which the runtime packs for its kernels.</summary>
    private static byte[] Multiplication(int n)
    {
        var random = new Random(1);
        return new OnnxBuilder()
            .Input("x", DataType.Fp32, -1, n)
            .Output("y", DataType.Fp32, -1, n)
            .Initializer("w", [.. Enumerable.Range(0, n * n).Select(_ => random.NextSingle())], n, n)
            .Node("MatMul", ["x", "w"], ["y"])
            .Build();
    }

    private static long ResidentKibibytes()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        GC.WaitForPendingFinalizers();
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        const string field = "VmRSS:";
        var line = File.ReadLines("/proc/self/status").First(line => line.StartsWith(field, StringComparison.Ordinal));
        return long.Parse(line[field.Length..].Replace("kB", ""), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture);
    }
}
