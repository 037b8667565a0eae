using Skiff.Aws;

namespace Skiff.Benchmarks.Suites;

/// <summary>A line of a bill.</summary>
internal sealed record BillLine(string Service, string What, double Usd);

/// <summary>Prices times usage. Rates are predictions a second; feedback comes in proportion.</summary>
/// <param name="Memory">Megabytes of each function.</param>
/// <param name="RoundTripMs">What a call to a service takes.</param>
/// <param name="FeedbackShare">Feedback a prediction.</param>
internal sealed record Bill(Usage Usage, int Memory, string Architecture, double RoundTripMs, double FeedbackShare)
{
    private const double SecondsPerMonth = AwsPrices.HoursPerMonth * 3600;

    /// <summary>An instance of a function is replaced about that often, however busy.</summary>
    public const double InstanceHours = 2;

    /// <summary>Share of its processor that an instance is planned for, so that peaks fit.</summary>
    public const double Utilisation = 0.5;

    // Requests don't come evenly: instances beyond the mean.
    private const double Burst = 2;

    private const int LookSeconds = 1, ServeLookSeconds = 10;

    // A model of Lambda's: memory buys processor up to one core, and these requests use no second.
    private double Slower => Math.Max(1, Planning.Prices.GigabytesPerCore * 1000 / Memory);

    private double Gigabytes => Memory / 1024.0;

    /// <summary>What an event of a kind is billed, milliseconds: each invocation is rounded up.</summary>
    public double BilledMs(Use use) => use.Milliseconds.Sum(ms => Math.Ceiling(ms * Slower + use.WaitsEach * RoundTripMs)) / use.Events;

    public double ColdSeconds => Usage.ColdSeconds * Slower + Usage.ColdWaits * RoundTripMs / 1000;

    public double Lambda(Use use) => AwsPrices.Lambda(BilledMs(use) / 1000 * Gigabytes, use.InvocationsEach, Architecture);

    /// <summary>Requests at a rate that lasts as long as they take.</summary>
    public IReadOnlyList<BillLine> Functions(double predictions, double feedbacks, double rate, bool httpApi)
    {
        var seconds = predictions / rate;
        var instances = Instances(rate);
        // A look comes with the first request that is more than a second after the last.
        var looks = instances * seconds / (LookSeconds + instances / rate);
        var colds = Math.Min(predictions, instances * seconds / (InstanceHours * 3600) + 1);
        return
        [
            new("Lambda", "predictions", predictions * Lambda(Usage.Prediction)),
            new("Lambda", "feedback, taken in", feedbacks * Lambda(Usage.Accept)),
            new("Lambda", "feedback, learnt", feedbacks * Lambda(Usage.Learn)),
            new("Lambda", $"cold starts ({colds:0})", colds * AwsPrices.Lambda(ColdSeconds * Gigabytes, 0, Architecture)),
            new("API Gateway", httpApi ? "HTTP API" : "none: function URL", httpApi ? (predictions + feedbacks) * AwsPrices.HttpApiRequest : 0),
            new("S3", "reads: cold starts, looks at aliases", (colds * Usage.ColdReads + looks * Usage.LookReads) * AwsPrices.BucketGet),
            .. Shared(predictions, feedbacks, seconds),
        ];
    }

    /// <summary>The same for instances that are always on: two for availability, more where the rate asks for them.</summary>
    public IReadOnlyList<BillLine> AlwaysOn(InstancePrice price, double rate)
    {
        var count = Count(price, rate);
        var seconds = SecondsPerMonth;
        var balanced = price.Service != "SageMaker";
        var gigabytesPerHour = rate * (Usage.BytesIn + Usage.BytesOut) * 3600 / 1e9;
        return
        [
            new(price.Service, $"{count} × {price.Name}", count * price.Hour * AwsPrices.HoursPerMonth),
            new("EC2", "addresses, disks", price.Service == "EC2" ? count * (AwsPrices.PublicAddressHour * AwsPrices.HoursPerMonth + 8 * AwsPrices.DiskGigabyteMonth) : 0),
            new("ELB", "load balancer, two addresses", balanced
                ? AwsPrices.HoursPerMonth * (AwsPrices.LoadBalancerHour + 2 * AwsPrices.PublicAddressHour + gigabytesPerHour * AwsPrices.LoadBalancerUnitHour)
                : 0),
            new("S3", "looks at aliases", count * seconds / ServeLookSeconds * Usage.LookReads * AwsPrices.BucketGet),
            .. Shared(rate * seconds, rate * seconds * FeedbackShare, seconds),
        ];
    }

    public int Count(InstancePrice price, double rate) => Math.Max(2, (int)Math.Ceiling(rate * Usage.ServeCpuSeconds / (price.Cores * Utilisation)));

    /// <summary>A month of functions at a rate.</summary>
    public double FunctionsMonth(double rate, bool httpApi) => Functions(rate * SecondsPerMonth, rate * SecondsPerMonth * FeedbackShare, rate, httpApi).Sum(line => line.Usd);

    public double AlwaysOnMonth(InstancePrice price, double rate) => AlwaysOn(price, rate).Sum(line => line.Usd);

    /// <summary>The least rate at which always on is no dearer; null where that is beyond 10,000 a second.</summary>
    public double? BreakEven(InstancePrice price, bool httpApi)
    {
        bool IsCheaper(double rate) => AlwaysOnMonth(price, rate) <= FunctionsMonth(rate, httpApi);

        var (low, high) = (0.001, 0.001);
        while (!IsCheaper(high))
        {
            if (high > 10_000) return null;
            (low, high) = (high, high * 1.1);
        }
        for (var i = 0; i < 40; i++)
        {
            var middle = (low + high) / 2;
            if (IsCheaper(middle)) high = middle;
            else low = middle;
        }
        return high;
    }

    private double Instances(double rate) => Math.Max(1, Math.Ceiling(Burst * rate * Usage.Prediction.Milliseconds.Average() * Slower / 1000));

    /// <summary>What both pay: state, queue, what goes out, what lies there.</summary>
    private IEnumerable<BillLine> Shared(double predictions, double feedbacks, double seconds)
    {
        var months = seconds / SecondsPerMonth;
        return
        [
            new("DynamoDB", "reads and writes of learning", feedbacks * AwsPrices.Table(Usage.LearnUnits)),
            new("SQS", "send, receive, delete", feedbacks * (Usage.QueueSends + Usage.QueueReceives) * AwsPrices.QueueRequest),
            new("transfer", "answers to the internet", predictions * Usage.BytesOut / 1e9 * AwsPrices.OutGigabyte),
            new("storage", "models; feedback of 30 days", (Usage.ModelBytes * AwsPrices.BucketGigabyteMonth + feedbacks / Math.Max(1, months) * Usage.FeedbackBytes * AwsPrices.TableGigabyteMonth) / 1e9 * months),
        ];
    }
}
