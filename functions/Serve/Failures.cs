using System.Net.Sockets;
using Skiff.Apps;
using Skiff.Serving;
using Skiff.Store;

namespace Skiff.Serve;

/// <summary>What a command says when it can't do what it was asked: one line for people, exit code 1. Anything else is a bug and keeps its stack trace.</summary>
internal static class Failures
{
    public static async Task<int> ReportAsync(Func<Task<int>> run)
    {
        try
        {
            return await run();
        }
        catch (Exception e) when (e is SettingException or StoreException or PublishException or InvalidNameException or ArgumentException or FormatException)
        {
            return Say(e.Message);
        }
        catch (OperationCanceledException)
        {
            return 130;
        }
        catch (IOException e) when (e.InnerException is Microsoft.AspNetCore.Connections.AddressInUseException)
        {
            return Say($"{e.Message.TrimEnd('.')}. Stop the other server or choose another address with --urls");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or SocketException)
        {
            return Say(e.Message);
        }
    }

    private static int Say(string message)
    {
        Console.Error.WriteLine($"skiff: {message}");
        return 1;
    }
}
