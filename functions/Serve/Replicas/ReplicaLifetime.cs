using System.Runtime.InteropServices;

namespace Skiff.Serve.Replicas;

/// <summary>A replica lives as long as whoever started it keeps its standard input open. Ctrl-C, which a terminal sends to both, is the other's business: this one still answers what that has begun.</summary>
internal sealed class ReplicaLifetime(IHostApplicationLifetime application) : IHostLifetime, IDisposable
{
    private readonly PosixSignalRegistration[] _signals =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => signal.Cancel = true),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal =>
        {
            signal.Cancel = true;
            application.StopApplication();
        }),
    ];

    public Task WaitForStartAsync(CancellationToken cancellationToken)
    {
        _ = Task.Run(() =>
        {
            using var input = Console.OpenStandardInput();
            while (input.ReadByte() >= 0)
            {
            }
            application.StopApplication();
        }, CancellationToken.None);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose()
    {
        foreach (var signal in _signals) signal.Dispose();
    }
}
