namespace Skiff.Planning;

/// <summary>List prices of functions in US dollars (us-east-1, x86), as published by November 2026. What an answer costs is counted as a function would be billed, wherever it runs; what its state costs, the state store says.</summary>
public static class Prices
{
    public const double FunctionGigabyteSecond = 0.0000166667;
    public const double FunctionRequest = 0.20 / 1_000_000;

    /// <summary>Of an instance that is kept ready: while it stands, and more while it runs.</summary>
    public const double ProvisionedGigabyteSecond = 0.0000041667;
    public const double ProvisionedRunGigabyteSecond = 0.0000097222;

    /// <summary>Of a replica of the heavy tier: a g6.xlarge, on demand.</summary>
    public const double ReplicaHour = 0.8048;

    /// <summary>The memory that comes with one virtual CPU, in GB.</summary>
    public const double GigabytesPerCore = 1.769;

    /// <param name="time">Of a replica.</param>
    public static double Replica(TimeSpan time) => time.TotalHours * ReplicaHour;

    /// <param name="runTime">Time on one core.</param>
    public static double Compute(TimeSpan runTime) => runTime.TotalSeconds * GigabytesPerCore * FunctionGigabyteSecond;
}
