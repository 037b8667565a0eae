using Amazon.Runtime;
using Skiff.Aws;
using Skiff.Support;

namespace Skiff.Hosts;

internal static class DynoxideTables
{
    /// <summary>Makes a table for state.</summary>
    /// <returns>Its name.</returns>
    public static async Task<string> MakeTableAsync(this Dynoxide dynoxide)
    {
        var table = $"skiff-{Guid.NewGuid():n}";
        using var client = DynamoClient.Connect(DynamoOptions.Default, config =>
        {
            config.ServiceURL = dynoxide.Address.AbsoluteUri;
            config.DefaultAWSCredentials = new BasicAWSCredentials("test", "test");
        });
        await new DynamoStateStore(client, table, DynamoOptions.Default, TimeProvider.System, new Random(1)).EnsureTableAsync(CancellationToken.None);
        return table;
    }
}
