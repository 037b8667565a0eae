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

        var resident = new List<long>();
        for (var cycle = 1; cycle <= 400; cycle++)
        {
            await host.LoadAsync("default", "m", Cancellation);
            Assert.True(host.UsedBytes > 4 << 20);
            await host.UnloadAsync("default", "m", Cancellation);
            // The first two hundred fill the allocator's arenas, one for each thread that loads.
            if (cycle > 200 && cycle % 10 == 0) resident.Add(ResidentKibibytes());
        }

        output.WriteLine($"KiB every ten cycles after 200: {string.Join(", ", resident)}");
        Assert.Equal(0, host.UsedBytes);
        // A session is 8 MiB: one in fifty that stayed would show, and what single samples are off by does not.
        Assert.True(Median(resident[10..]) - Median(resident[..10]) < 10 * 1024, string.Join(", ", resident));
    }

    private static long Median(List<long> values) => values.Order().ElementAt(values.Count / 2);

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
