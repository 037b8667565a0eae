using Skiff.Aws;

namespace Skiff.Benchmarks.Suites;

/// <summary>The cost suite's tables and figures.</summary>
internal static class CostReport
{
    private static readonly double[] Rates = [0.1, 10, 1000];

    public static void Write(Report report, Bill bill, double predictions, double feedbacks)
    {
        WriteUsage(report, bill);
        WriteBill(report, bill, predictions, feedbacks);
        WriteAnswers(report, bill);
        WriteRates(report, bill);
        WriteBreakEven(report, bill);
    }

    private static void WriteUsage(Report report, Bill bill)
    {
        var usage = bill.Usage;
        report.Text("# cost\n");
        report.Text($"- list prices of us-east-1, November 2026, no free allowances; functions of {bill.Memory} MB, {bill.Architecture}");
        report.Text($"- the functions' programs were measured on this machine beside services that speak the real protocols, whose time is left out; Lambda bills the wait for the real ones, {Number(bill.RoundTripMs, "0.#")} ms a call here");
        report.Heading("What was used");
        report.Table(1, ["each", "invocations", "ms of its own", "waits", "ms, billed", "read units", "write units", "queue requests"],
        [
            Row("prediction, fashion", usage.Prediction, default, 0),
            Row("personal prediction, digits", usage.Personal, usage.PersonalUnits, 0),
            Row("feedback taken in", usage.Accept, default, usage.QueueSends),
            Row("feedback learnt", usage.Learn, usage.LearnUnits, usage.QueueReceives),
        ]);
        report.Text($"\n- a cold start reads the bucket {usage.ColdReads} times and answers after {Number(bill.ColdSeconds, "0.00")} s (as the programs were built: --functions takes published ones); a look at the aliases reads it {usage.LookReads} times");
        report.Text($"- a prediction is {Number(usage.BytesIn, "0")} B in and {Number(usage.BytesOut, "0")} B out; in Serve it takes {Number(usage.ServeCpuSeconds * 1e6, "0")} µs of processor");

        string[] Row(string name, Use use, CapacityUnits units, double queue)
        {
            var key = $"cost/{name.Replace(", ", "-").Replace(' ', '-')}";
            report.Add($"{key}/billed", bill.BilledMs(use), "ms");
            report.Add($"{key}/read", units.Read, "units");
            report.Add($"{key}/write", units.Write, "units");
            return [name, Number(use.InvocationsEach, "0.00"), Number(use.Milliseconds.Sum() / use.Events, "0.00"), Number(use.WaitsEach * use.InvocationsEach, "0.00"), Number(bill.BilledMs(use), "0.00"), Number(units.Read, "0.0"), Number(units.Write, "0.0"), Number(queue, "0.00")];
        }
    }

    private static void WriteBill(Report report, Bill bill, double predictions, double feedbacks)
    {
        report.Heading($"The bill of {Number(predictions, "#,0")} predictions and {Number(feedbacks, "#,0")} feedbacks, spread over a month");
        var lines = bill.Functions(predictions, feedbacks, predictions / (AwsPrices.HoursPerMonth * 3600), httpApi: true);
        report.Table(2, ["service", "what", "USD"], lines.Append(new BillLine("sum", "", lines.Sum(line => line.Usd))).Select(line => (string[])[line.Service, line.What, Number(line.Usd, "0.0000")]));
        foreach (var service in lines.GroupBy(line => line.Service)) report.Add($"cost/bill/{service.Key}", service.Sum(line => line.Usd), "USD");
        report.Add("cost/bill/sum", lines.Sum(line => line.Usd), "USD");
    }

    private static void WriteAnswers(Report report, Bill bill)
    {
        var usage = bill.Usage;
        report.Heading("One of each, millionths of a dollar");
        report.Table(1, ["", "Lambda bills", "with state and queue", "with an HTTP API", "`cost_usd` says"],
        [
            Row("prediction, fashion", bill.Lambda(usage.Prediction), 0, 1, usage.SaidPrediction),
            Row("personal prediction, digits", bill.Lambda(usage.Personal), AwsPrices.Table(usage.PersonalUnits), 1, usage.SaidPersonal),
            Row("feedback, digits", bill.Lambda(usage.Accept) + bill.Lambda(usage.Learn),
                AwsPrices.Table(usage.LearnUnits) + (usage.QueueSends + usage.QueueReceives) * AwsPrices.QueueRequest, 1, null),
        ]);
        report.Text($"\n`cost_usd` counts the models' time on one core, a function's request and the state's reads; Lambda rounds a request up to a millisecond and counts decoding, routing and encoding too. "
            + $"Of an update's state Feedback's log says {Number(usage.SaidLearn * 1e6, "0.00")}, the units above {Number(AwsPrices.Table(usage.LearnUnits) * 1e6, "0.00")}.");

        string[] Row(string name, double lambda, double services, int api, double? said)
        {
            report.Add($"cost/each/{name.Split(',')[0]}", lambda + services, "USD");
            return [name, Number(lambda * 1e6, "0.000"), Number((lambda + services) * 1e6, "0.000"), Number((lambda + services + api * AwsPrices.HttpApiRequest) * 1e6, "0.000"), Number(said * 1e6, "0.000")];
        }
    }

    private static void WriteRates(Report report, Bill bill)
    {
        report.Heading($"A month at a steady rate, USD; {Number(bill.FeedbackShare, "0.##")} feedbacks a prediction");
        report.Table(1, ["", .. Rates.Select(rate => $"{Number(rate, "#,0.#")}/s")],
        [
            Row("functions, HTTP API", rate => bill.FunctionsMonth(rate, httpApi: true)),
            Row("functions, function URL", rate => bill.FunctionsMonth(rate, httpApi: false)),
            .. Small.Select(price => Row($"{price.Name} ({price.Service})", rate => bill.AlwaysOnMonth(price, rate), rate => $" ({bill.Count(price, rate)})")),
        ]);
        report.Text($"\nAlways on: at least two and a load balancer (in brackets how many), planned for {Number(Bill.Utilisation, "0%")} of their processors as if each core were one of this machine. Learning, which is as "
            + $"dear for both, is {Number(bill.FeedbackShare * AwsPrices.Table(bill.Usage.LearnUnits) * 1e6, "0.00")} USD of state a million predictions.");
        report.Text($"A GPU that is always on, one and without a second for availability: {string.Join(", ", AwsPrices.Instances.Except(Small).Select(price => $"{price.Name} {Number(price.Hour * AwsPrices.HoursPerMonth, "0")}"))} USD a month.");

        string[] Row(string name, Func<double, double> month, Func<double, string>? note = null)
        {
            foreach (var rate in Rates) report.Add($"cost/month/{name}/{Number(rate, "0.#")}", month(rate), "USD");
            return [name, .. Rates.Select(rate => Number(month(rate), "#,0.00") + note?.Invoke(rate))];
        }
    }

    private static void WriteBreakEven(Report report, Bill bill)
    {
        report.Heading("Above which rate functions lose, predictions a second");
        report.Table(1, ["against two or more", "HTTP API", "function URL"], Small.Select(price => (string[])[price.Name, Rate(price, httpApi: true), Rate(price, httpApi: false)]));

        var lost = Rates.Where(rate => Small.Any(price => bill.AlwaysOnMonth(price, rate) < bill.FunctionsMonth(rate, httpApi: false))).Select(rate => $"{Number(rate, "#,0.#")}/s").ToArray();
        report.Text(lost.Length == 0
            ? "\nAt none of the rates above is anything that is always on cheaper."
            : $"\nOf the rates above, something that is always on is cheaper than even a function URL at {string.Join(", ", lost)}.");

        string Rate(InstancePrice price, bool httpApi)
        {
            var rate = bill.BreakEven(price, httpApi);
            report.Add($"cost/break-even/{price.Name}/{(httpApi ? "api" : "url")}", rate, "1/s");
            return rate is null ? "never" : Number(rate, "0.0");
        }
    }

    private static IEnumerable<InstancePrice> Small => AwsPrices.Instances.Where(price => !price.Service.Contains("GPU", StringComparison.Ordinal));

    private static string Number(double? value, string format) => Report.Number(value, format);
}
