using Skiff.Planning;

namespace Skiff.Aws;

/// <summary>
/// List prices of AWS in US dollars, us-east-1, as published by November 2026: on demand, the first tier, without free allowances. Those that every answer counts with are in
/// <see cref="Prices"/>; no number is in both.
/// </summary>
public static class AwsPrices
{
    /// <summary>A month as AWS's calculator has it.</summary>
    public const double HoursPerMonth = 730;

    // Lambda
    public const double LambdaGigabyteSecond = Prices.FunctionGigabyteSecond;
    public const double LambdaArmGigabyteSecond = 0.0000133334;
    public const double LambdaRequest = Prices.FunctionRequest;

    // API Gateway, HTTP API; each 512 KB of a request are one. A function URL has no price of its own.
    public const double HttpApiRequest = 1.00 / 1_000_000;

    // S3 Standard
    public const double BucketGet = 0.0004 / 1000;
    public const double BucketPut = 0.005 / 1000; // lists too
    public const double BucketGigabyteMonth = 0.023;

    // DynamoDB Standard, on demand
    public const double TableReadUnit = 0.125 / 1_000_000; // 4 KB read consistently, or twice that a moment behind
    public const double TableWriteUnit = 0.625 / 1_000_000; // 1 KB; twice in a transaction
    public const double TableGigabyteMonth = 0.25;

    // SQS FIFO; each 64 KB of a request are one.
    public const double QueueRequest = 0.50 / 1_000_000;

    // Transfer to the internet, the first 10 TB of a month
    public const double OutGigabyte = 0.09;

    // What is always on, by the hour
    public const double LoadBalancerHour = 0.0225;
    public const double LoadBalancerUnitHour = 0.008; // one for each 25 new connections/s, 3,000 open ones or 1 GB/h, whichever is most
    public const double PublicAddressHour = 0.005;
    public const double DiskGigabyteMonth = 0.08; // gp3
    public const double FargateCoreHour = 0.04048;
    public const double FargateGigabyteHour = 0.004445;

    /// <summary>Instances to compare with.</summary>
    public static IReadOnlyList<InstancePrice> Instances { get; } =
    [
        new("t4g.small", "EC2", 0.0168, 0.4, 2, Architecture: "arm64"), // two cores in bursts, a fifth of each lastingly
        new("c7g.large", "EC2", 0.0725, 2, 4, Architecture: "arm64"),
        new("c7i.large", "EC2", 0.08925, 2, 4),
        new("Fargate 1 vCPU", "Fargate", FargateCoreHour + 2 * FargateGigabyteHour, 1, 2),
        new("ml.c7i.large", "SageMaker", 0.1071, 2, 4), // its endpoint balances by itself
        new("g6.xlarge", "EC2, a GPU", 0.8048, 4, 16),
        new("g5.xlarge", "EC2, a GPU", 1.006, 4, 16),
    ];

    public static double Table(CapacityUnits units) => units.Read * TableReadUnit + units.Write * TableWriteUnit;

    /// <param name="architecture"><c>x86_64</c> or <c>arm64</c>, as Lambda has them.</param>
    public static double Lambda(double gigabyteSeconds, double requests, string architecture = "x86_64") =>
        gigabyteSeconds * (architecture == "arm64" ? LambdaArmGigabyteSecond : LambdaGigabyteSecond) + requests * LambdaRequest;
}

/// <summary>An instance that is paid by the hour, whatever it does.</summary>
/// <param name="Cores">Virtual CPUs that it may use lastingly, hyperthreads on x86.</param>
public sealed record InstancePrice(string Name, string Service, double Hour, double Cores, int Gigabytes, string Architecture = "x86_64");
