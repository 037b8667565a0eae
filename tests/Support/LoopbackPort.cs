using System.Net;
using System.Net.Sockets;

namespace Skiff.Support;

/// <summary>Ports for programs that must be told one.</summary>
public static class LoopbackPort
{
    /// <summary>A port that is free now; another can take it before it is used.</summary>
    public static int Free()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
