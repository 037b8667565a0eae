using Skiff.Support;

namespace Skiff.Benchmarks;

/// <summary>S3 and SQS (moto, or what <c>AWS_ENDPOINT_URL</c> names) and DynamoDB (dynoxide) on loopback. An interrupted run takes them down too.</summary>
internal sealed class Emulators : IAsyncDisposable
{
    private readonly MotoServer? moto;
    private readonly Dynoxide? dynoxide;

    private Emulators(MotoServer? moto, Dynoxide? dynoxide)
    {
        this.moto = moto;
        this.dynoxide = dynoxide;
        AppDomain.CurrentDomain.ProcessExit += Stop; // moto ends by itself, with the pipe to it
    }

    public MotoServer Moto => moto!;

    public Uri Dynamo => dynoxide!.Address;

    /// <exception cref="BenchmarkException">One of those that are asked for can't run here; the message says what to install.</exception>
    public static async Task<Emulators> StartAsync(bool objects, bool state)
    {
        if (state && Dynoxide.Missing is { } missing) throw new BenchmarkException(missing);
        MotoServer? moto = null;
        try
        {
            if (objects)
            {
                moto = new MotoServer();
                if (moto.S3 is null) throw new BenchmarkException(MotoServer.Missing);
            }
            return new Emulators(moto, state ? await Dynoxide.StartAsync() : null);
        }
        catch (Exception e) when (e is InvalidOperationException or TimeoutException)
        {
            if (moto is not null) await moto.DisposeAsync();
            throw new BenchmarkException(e.Message);
        }
    }

    public async ValueTask DisposeAsync()
    {
        AppDomain.CurrentDomain.ProcessExit -= Stop;
        dynoxide?.Dispose();
        if (moto is not null) await moto.DisposeAsync();
    }

    private void Stop(object? sender, EventArgs args) => dynoxide?.Dispose();
}
