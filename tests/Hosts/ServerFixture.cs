using Skiff.Support;

namespace Skiff.Hosts;

/// <summary>A server that the tests of a class share, with what they need already published.</summary>
public abstract class ServerFixture(params (string Name, string Value)[] environment) : IAsyncLifetime
{
    public SkiffServer Server { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Server = await SkiffServer.StartAsync(environment: environment);
        await PublishAsync();
    }

    public ValueTask DisposeAsync() => Server.DisposeAsync();

    protected abstract Task PublishAsync();
}
