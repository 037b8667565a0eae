using Microsoft.AspNetCore.Http;

namespace Skiff.Serving;

/// <summary>Where a server is told to listen with <c>--urls</c>, checked before it starts: what the web server refuses then, it refuses with a stack trace, and an empty list means its own port 5000.</summary>
public static class ListenAddresses
{
    /// <param name="urls">Addresses as ASP.NET has them, joined by semicolons.</param>
    /// <exception cref="SettingException">There is none, or one isn't an address to listen on.</exception>
    public static IReadOnlyList<(string Url, BindingAddress Address)> Parse(string urls)
    {
        var each = urls.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return each.Length > 0 ? [.. each.Select(url => (url, ParseOne(url)))] : throw new SettingException("--urls is empty: it takes addresses like http://127.0.0.1:8080, joined by semicolons");
    }

    private static BindingAddress ParseOne(string url)
    {
        const string form = "addresses like http://127.0.0.1:8080, joined by semicolons";
        BindingAddress address;
        try
        {
            address = BindingAddress.Parse(url);
        }
        catch (Exception e) when (e is FormatException or ArgumentException)
        {
            throw Refused(form);
        }
        if (address.Scheme != "http") throw Refused("http addresses; put a proxy in front for https");
        if (address.IsUnixPipe) return address;
        // What is no name ("127.0.0.1:80?x=1" among them) the web server takes for one, and listens everywhere.
        if (address.Host is not ("*" or "+") && Uri.CheckHostName(address.Host.Trim('[', ']')) == UriHostNameType.Unknown) throw Refused(form);
        if (address.Port is < 0 or > 65535) throw Refused("a port from 0 to 65535");
        if (address.Port == 0 && address.Host.Equals("localhost", StringComparison.OrdinalIgnoreCase)) throw Refused("127.0.0.1 or [::1] for a free port (0), not localhost");
        return address.PathBase.Length == 0 ? address : throw Refused("an address without a path");

        SettingException Refused(string takes) => new($"--urls has '{url}': it takes {takes}");
    }
}
