using Microsoft.ML.OnnxRuntime;

namespace Skiff.Models;

/// <summary>What runs a model's kernels.</summary>
public enum ExecutionProvider
{
    Cpu,

    /// <summary>The first GPU that CUDA shows. What its kernels lack runs on the CPU beside it.</summary>
    Cuda,
}

public static class ExecutionProviders
{
    /// <summary>The library that the runtime loads for CUDA; it stands beside the runtime's own.</summary>
    public const string CudaLibrary = "libonnxruntime_providers_cuda.so";

    private static readonly Lock Registering = new();
    private static bool s_isRegistered;

    // y = x, of one float: enough for the runtime to load CUDA and to find a device.
    private static readonly byte[] Identity =
    [
        0x08, 0x08, 0x42, 0x02, 0x10, 0x0D, // ir_version 8, opset 13
        0x3A, 0x30, // graph
        0x0A, 0x10, 0x0A, 0x01, (byte)'x', 0x12, 0x01, (byte)'y', 0x22, 0x08, .. "Identity"u8,
        0x12, 0x01, (byte)'g',
        0x5A, 0x0B, 0x0A, 0x01, (byte)'x', 0x12, 0x06, 0x0A, 0x04, 0x08, 0x01, 0x12, 0x00,
        0x62, 0x0B, 0x0A, 0x01, (byte)'y', 0x12, 0x06, 0x0A, 0x04, 0x08, 0x01, 0x12, 0x00,
    ];

    /// <summary>Makes sure that models can run there at all, by running one.</summary>
    /// <param name="folder">Where the runtime's libraries are.</param>
    /// <returns>Why they can't, in the words of whoever refused; null where they can.</returns>
    public static string? WhyNot(ExecutionProvider provider, string folder)
    {
        if (provider == ExecutionProvider.Cpu) return null;
        if (!File.Exists(Path.Combine(folder, CudaLibrary))) return $"this build has no {CudaLibrary}: build with -p:HeavyProvider=cuda, which fetches it (230 MB)";
        try
        {
            using var options = new Microsoft.ML.OnnxRuntime.SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
            Append(options, provider);
            using var session = new InferenceSession(Identity, options);
            float[] one = [1];
            using var input = OrtValue.CreateTensorValueFromMemory(one, []);
            using var run = new RunOptions();
            using var outputs = session.Run(run, ["x"], [input], ["y"]);
            return outputs[0].GetTensorDataAsSpan<float>()[0] == 1 ? null : "a first run gave a wrong result";
        }
        catch (Exception e) when (e is OnnxRuntimeException or ModelFailedException or DllNotFoundException or EntryPointNotFoundException)
        {
            return e.Message;
        }
    }

    internal static void Append(Microsoft.ML.OnnxRuntime.SessionOptions options, ExecutionProvider provider)
    {
        if (provider == ExecutionProvider.Cuda) options.AppendExecutionProvider(OrtEnv.Instance(), [FirstGpu()], new Dictionary<string, string>());
    }

    /// <summary>The runtime itself is one that knows no CUDA: it takes it from the library as a plug-in, registered once a process.</summary>
    /// <exception cref="OnnxRuntimeException">The library, or what it needs, can't be loaded.</exception>
    /// <exception cref="ModelFailedException">It has found no GPU.</exception>
    private static OrtEpDevice FirstGpu()
    {
        lock (Registering)
        {
            if (!s_isRegistered) OrtEnv.Instance().RegisterExecutionProviderLibrary("cuda", Path.Combine(AppContext.BaseDirectory, CudaLibrary));
            s_isRegistered = true;
        }
        return OrtEnv.Instance().GetEpDevices().FirstOrDefault(device => device.EpName == "CUDAExecutionProvider") ?? throw new ModelFailedException("CUDA is there, and the runtime finds no NVIDIA GPU on this machine");
    }
}
