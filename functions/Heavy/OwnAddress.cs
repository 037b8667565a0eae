using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Skiff.Serving;

namespace Skiff.Heavy;

/// <summary>Where callers on other machines reach this process.</summary>
internal static class OwnAddress
{
    /// <param name="listened">Where it listens, ports filled in.</param>
    /// <exception cref="SettingException">It listens everywhere, and this machine has no address that others could know.</exception>
    public static Uri Of(IReadOnlyList<string> listened) => Of(listened, Machine());

    /// <param name="machine">The machine's addresses.</param>
    internal static Uri Of(IReadOnlyList<string> listened, IEnumerable<IPAddress> machine)
    {
        var address = new Uri(listened[0]);
        if (!IPAddress.TryParse(address.Host.Trim('[', ']'), out var host) || !(host.Equals(IPAddress.Any) || host.Equals(IPAddress.IPv6Any))) return address;
        // Not those that only this machine or its link knows; containers have some for their agent.
        var own = machine.FirstOrDefault(found => found.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(found) && found.GetAddressBytes() is not [169, 254, ..])
            ?? throw new SettingException($"this replica listens on {listened[0]} and this machine has no address of its own: say where callers reach it with SKIFF_ADDRESS=http://HOST:PORT");
        return new UriBuilder(address) { Host = own.ToString() }.Uri;
    }

    private static IEnumerable<IPAddress> Machine() =>
        from network in NetworkInterface.GetAllNetworkInterfaces()
        where network.OperationalStatus == OperationalStatus.Up
        from address in network.GetIPProperties().UnicastAddresses
        select address.Address;
}
