using Skiff.Planning.Simulation;

namespace Skiff.Planning;

/// <summary>What instances cost, in dollars.</summary>
public sealed record TierPrices
{
    /// <summary>Memory of a function.</summary>
    public double FunctionGigabytes { get; init; } = Prices.GigabytesPerCore;

    /// <summary>A heavy replica by the hour, on demand.</summary>
    public double ReplicaHour { get; init; } = Prices.ReplicaHour;

    /// <summary>The same machine as long as nobody pays more for it.</summary>
    public double SpotHour { get; init; } = 0.30;

    /// <exception cref="ArgumentException">One is out of its range.</exception>
    public TierPrices Validate() =>
        FunctionGigabytes is > 0 and <= 1024 && ReplicaHour is >= 0 and < 1e6 && SpotHour is >= 0 and < 1e6
            ? this
            : throw new ArgumentException("memory is above 0 and at most 1,024 GB, and prices are at least 0 dollars an hour");

    /// <summary>Run time and requests, and provisioned instances for as long as they stand.</summary>
    public double Functions(TierResult tier) =>
        tier.BusySeconds * FunctionGigabytes * Prices.FunctionGigabyteSecond
        + tier.BusyProvisionedSeconds * FunctionGigabytes * Prices.ProvisionedRunGigabyteSecond
        + tier.Options.Provisioned * tier.Seconds * FunctionGigabytes * Prices.ProvisionedGigabyteSecond
        + tier.Requests * Prices.FunctionRequest;

    public double Replicas(int onDemand, int spot, double seconds) => (onDemand * ReplicaHour + spot * SpotHour) * seconds / 3600;
}
