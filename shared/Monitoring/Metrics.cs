using System.Globalization;
using System.Text;
using Skiff.Apps;
using Skiff.Caching;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Personalization;

namespace Skiff.Monitoring;

/// <summary>The metrics of this process in Prometheus' text format, under the names that dashboards of other inference servers already use, with histograms.</summary>
public sealed class Metrics(ModelHost models, AppHost apps, FeedbackStatistics feedback, CacheStatistics caches, PredictionCache cache, IStateStore? state, TimeProvider time)
{
    /// <summary>Null where nobody has a head.</summary>
    public HeadCache? Heads { get; init; }

    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    /// <param name="tenant">Whose models are shown.</param>
    public string Write(string tenant)
    {
        var text = new StringBuilder();
        var all = models.Statistics().Where(entry => entry.Tenant == tenant)
            .Select(entry => (Labels: $"model=\"{entry.Manifest.Name}\",version=\"{entry.Manifest.Version}\"", entry.Statistics)).ToList();

        Family("nv_inference_request_success", "counter", "Requests answered", s => s.Success);
        Family("nv_inference_request_failure", "counter", "Requests refused or failed", s => s.Failure);
        Family("nv_inference_count", "counter", "Rows inferred", s => s.Rows);
        Family("nv_inference_exec_count", "counter", "Runs of the session", s => s.Executions);
        Family("nv_inference_request_duration_us", "counter", "Time of answered requests", s => Microseconds(s.SuccessTicks));
        Family("nv_inference_compute_input_duration_us", "counter", "Time spent decoding", s => Microseconds(s.InputTicks));
        Family("nv_inference_compute_infer_duration_us", "counter", "Time spent running the model", s => Microseconds(s.RunTicks));
        Family("nv_inference_compute_output_duration_us", "counter", "Time spent encoding and sending", s => Microseconds(s.OutputTicks));

        Family("nv_inference_queue_duration_us", "counter", "Time that requests waited for a run in company", s => Microseconds(s.QueueTicks));

        Head("skiff_batch_rows", "histogram", "Rows of each run");
        foreach (var (labels, statistics) in all) AppendHistogram(text, "skiff_batch_rows", labels, statistics.BatchRows);
        Head("skiff_batch_closed_total", "counter", "Runs, by why they had no more rows");
        foreach (var (labels, statistics) in all)
        {
            foreach (var reason in Enum.GetValues<BatchClosed>()) text.Append(CultureInfo.InvariantCulture, $"skiff_batch_closed_total{{{labels},reason=\"{reason.ToString().ToLowerInvariant()}\"}} {statistics.Closed(reason)}\n");
        }
        var batchers = models.Batchers().Where(entry => entry.Tenant == tenant).ToList();
        Gauge("skiff_batch_most_rows", "Rows that a run may have now", batcher => batcher.MostRows);
        Gauge("skiff_batch_workers", "Runs that may be under way at once now", batcher => batcher.Workers);
        Gauge("skiff_queued_rows", "Rows that wait for a run", batcher => batcher.QueuedRows);

        Gauge("skiff_expected_wait_seconds", "How long a row that came now would wait and run", batcher => batcher.ExpectedWait.TotalSeconds);
        Family("skiff_expired_requests_total", "counter", "Requests whose deadline passed before they were run", s => s.ExpiredRequests);
        Family("skiff_refused_requests_total", "counter", "Requests that would have waited too long, or found no place", s => s.RefusedRequests);
        Family("skiff_displaced_requests_total", "counter", "Requests whose place one of higher priority took", s => s.DisplacedRequests);

        Head("skiff_pressure", "gauge", "How far an app's cascade is dimmed, and beyond that its requests shed; 0 for not at all");
        foreach (var app in apps.Loaded(tenant)) text.Append(CultureInfo.InvariantCulture, $"skiff_pressure{{app=\"{app.Name}\"}} {app.Pressure.Level}\n");
        Head("skiff_shed_requests_total", "counter", "Requests of an app that no model was run for, by what they got");
        foreach (var app in apps.Loaded(tenant))
        {
            text.Append(CultureInfo.InvariantCulture, $"skiff_shed_requests_total{{app=\"{app.Name}\",got=\"default\"}} {app.Pressure.Defaults}\nskiff_shed_requests_total{{app=\"{app.Name}\",got=\"refusal\"}} {app.Pressure.Refusals}\n");
        }

        Head("skiff_request_duration_seconds", "histogram", "Time from arrival to answer");
        foreach (var (labels, statistics) in all) AppendHistogram(text, "skiff_request_duration_seconds", labels, statistics.RequestSeconds);

        Head("skiff_prediction_cache_rows_total", "counter", "Rows of apps that have a cache, by where their answers came from");
        foreach (var (app, counts) in caches.All(tenant))
        {
            foreach (var source in Enum.GetValues<AnswerSource>()) text.Append(CultureInfo.InvariantCulture, $"skiff_prediction_cache_rows_total{{app=\"{app}\",from=\"{source.ToString().ToLowerInvariant()}\"}} {counts.Rows(source)}\n");
        }
        Head("skiff_prediction_cache_evictions_total", "counter", "Kept answers that made room for others");
        foreach (var (app, counts) in caches.All(tenant)) text.Append(CultureInfo.InvariantCulture, $"skiff_prediction_cache_evictions_total{{app=\"{app}\"}} {counts.Evicted}\n");
        if (Heads is not null)
        {
            Head("skiff_head_reads_total", "counter", "Heads that were looked for, by where they came from: kept here, kept and their version checked, or the store");
            foreach (var (app, reads) in Heads.Reads(tenant))
            {
                foreach (var source in Enum.GetValues<HeadSource>()) text.Append(CultureInfo.InvariantCulture, $"skiff_head_reads_total{{app=\"{app}\",from=\"{source.ToString().ToLowerInvariant()}\"}} {reads[(int)source]}\n");
            }
            Single("skiff_head_cache_bytes", "gauge", "Memory that kept heads are counted as, of all tenants", Heads.UsedBytes);
        }
        Single("skiff_prediction_cache_bytes", "gauge", "Memory that kept answers are counted as, of all tenants", cache.UsedBytes);
        Single("skiff_model_memory_bytes", "gauge", "Memory that loaded models are counted as", models.UsedBytes);
        Single("skiff_feedback_accepted_total", "counter", "Feedback made durable", feedback.Of(tenant).Accepted);
        Single("skiff_feedback_learnt_total", "counter", "Feedback that changed a head", feedback.Of(tenant).Learnt);
        Single("skiff_feedback_kept_total", "counter", "Feedback kept without changing a head", feedback.Of(tenant).Kept);
        Single("skiff_feedback_duplicate_total", "counter", "Feedback that had been accepted before", feedback.Of(tenant).Duplicates);
        Single("skiff_feedback_quarantined_total", "counter", "Feedback put into quarantine, durable and not learnt", feedback.Of(tenant).Quarantined);
        Single("skiff_feedback_late_total", "counter", "Feedback kept whose decision's time was over", feedback.Of(tenant).Late);
        Single("skiff_feedback_erased_total", "counter", "Feedback dropped, its user having been erased after it was accepted", feedback.Of(tenant).Erased);
        Single("skiff_feedback_implicit_total", "counter", "Silence that counted as feedback", feedback.Of(tenant).Implicit);
        if (state is not null) Single("skiff_state_cost_usd_total", "counter", "What the state store's calls have cost in US dollars, for all tenants", state.SpentUsd);
        Single("dotnet_gc_allocated_bytes_total", "counter", "Managed memory allocated", GC.GetTotalAllocatedBytes());
        Single("process_resident_memory_bytes", "gauge", "Resident memory", Environment.WorkingSet);
        Single("process_cpu_seconds_total", "counter", "Processor time", Environment.CpuUsage.TotalTime.TotalSeconds);
        return text.ToString();

        void Head(string name, string type, string help) => text.Append($"# HELP {name} {help}\n# TYPE {name} {type}\n");

        void Family(string name, string type, string help, Func<ModelStatistics, double> value)
        {
            Head(name, type, help);
            foreach (var (labels, statistics) in all) text.Append(CultureInfo.InvariantCulture, $"{name}{{{labels}}} {value(statistics)}\n");
        }

        void Gauge(string name, string help, Func<Batcher, double> value)
        {
            Head(name, "gauge", help);
            foreach (var (_, manifest, batcher) in batchers) text.Append(CultureInfo.InvariantCulture, $"{name}{{model=\"{manifest.Name}\",version=\"{manifest.Version}\"}} {value(batcher)}\n");
        }

        void Single(string name, string type, string help, double value)
        {
            Head(name, type, help);
            text.Append(CultureInfo.InvariantCulture, $"{name} {value}\n");
        }
    }

    private static void AppendHistogram(StringBuilder text, string name, string labels, Histogram histogram)
    {
        var counts = histogram.Counts();
        var sum = 0L;
        for (var i = 0; i < counts.Length; i++)
        {
            sum += counts[i];
            var bound = i < histogram.Bounds.Count ? histogram.Bounds[i].ToString(CultureInfo.InvariantCulture) : "+Inf";
            text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{{labels},le=\"{bound}\"}} {sum}\n");
        }
        text.Append(CultureInfo.InvariantCulture, $"{name}_sum{{{labels}}} {histogram.Sum}\n{name}_count{{{labels}}} {sum}\n");
    }

    private double Microseconds(long ticks) => Math.Floor(ticks * (1e6 / time.TimestampFrequency));
}
