using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Skiff.Batching;
using Skiff.Models;

namespace Skiff.Routing;

/// <summary>A model on the heavy tier, with the names of its input and of its first output.</summary>
public sealed record TierModel(string Name, string Input, string Output);

/// <summary>What a model on the tier said.</summary>
/// <param name="Scores">Its first output, row-major.</param>
/// <param name="Duration">From asking to its answer: how long we waited, which is what a function pays.</param>
/// <param name="Share">Of a replica's time, as far as it says.</param>
public readonly record struct TierAnswer(float[] Scores, int Version, TimeSpan Duration, TimeSpan Share = default);

/// <summary>
/// The heavy tier as its callers see it: replicas behind a router, asked in the Open Inference Protocol with binary tensors. Rows of many requests go as one from here where the tier is busy (<see cref="TierLine"/>), and share runs with those from elsewhere at the replica they come to; by model they all come to
/// few, within the router's bound. Whatever goes wrong is said in time for a caller to answer with what it has.
/// </summary>
public sealed class HeavyTier : IDisposable
{
    /// <summary>The variable that says where the replicas are.</summary>
    public const string Setting = "SKIFF_HEAVY";

    /// <summary>Whose models a signed caller means; part of the address, so that the signature covers it.</summary>
    public const string TenantParameter = "tenant";

    public const string ReadyPath = "/v2/health/ready";

    private const string HeaderLength = "Inference-Header-Content-Length";
    private const int Attempts = 2; // answers that break off after they have begun; before, the client sees to it

    // Beyond so many of the app's objectives, and so long, the tier is too slow to be waited for.
    private const double PatienceObjectives = 10;
    private static readonly TimeSpan Connects = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LeastPatience = TimeSpan.FromMilliseconds(500);

    private readonly HttpMessageInvoker _http;
    private readonly ReplicaClient _client;
    private readonly Membership _membership;
    private readonly Prober _prober;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<(string Tenant, TierModel Model, DataType Type, string Shape), TierLine> _lines = new();
    private long _requests;
    private long _callers;
    private long _rows;

    public HeavyTier(IReplicaSource source, HttpMessageHandler handler, CallerSignature? signature, RouterOptions options, TimeProvider time)
    {
        _time = time;
        _http = new HttpMessageInvoker(handler);
        Router = new Router(options, time);
        _client = new ReplicaClient(Router, _http, signature, time);
        _membership = new Membership(Router, source, time);
        _prober = new Prober(Router, _http, ReadyPath, signature, time);
    }

    public Router Router { get; }

    /// <summary>Reads <c>SKIFF_HEAVY</c>.</summary>
    /// <param name="value">Null where there is no tier.</param>
    /// <param name="secrets">What calls are signed with.</param>
    /// <param name="registry">Where replicas register; null where this host has no such store.</param>
    /// <param name="isFunction">Whether this process may be frozen between two requests.</param>
    /// <exception cref="FormatException">It names no replicas; the message says what it takes.</exception>
    public static HeavyTier? Open(string? value, IReadOnlyList<string> secrets, IReplicaRegistry? registry, bool isFunction, TimeProvider time) =>
        value is null ? null : new HeavyTier(ReplicaSources.Parse(value, registry is null ? null : () => new RegisteredReplicas(registry, time)), ReplicaClient.Handler(Connects), new CallerSignature(secrets, time), new RouterOptions { TriesByCopies = !isFunction }, time);

    /// <summary>Requests that were sent, the callers whose rows were in them, and the rows.</summary>
    public (long Requests, long Callers, long Rows) Sent => (Volatile.Read(ref _requests), Volatile.Read(ref _callers), Volatile.Read(ref _rows));

    /// <summary>Runs a model on rows, alone or in one request with others'.</summary>
    /// <param name="input">Shape [N, …].</param>
    /// <param name="objective">The app's; a tier that takes many times as long is not waited for.</param>
    /// <exception cref="RequestException">Nobody answered in time, or has a place for it, or the model can't be had there.</exception>
    public async ValueTask<TierAnswer> RunAsync(string tenant, TierModel model, TensorBuffer buffer, Tensor input, Terms terms, TimeSpan objective, CancellationToken cancellation)
    {
        var began = _time.GetTimestamp();
        var patience = TimeSpan.FromSeconds(Math.Max(LeastPatience.TotalSeconds, PatienceObjectives * objective.TotalSeconds));
        if (terms.Deadline != long.MaxValue && _time.GetElapsedTime(began, terms.Deadline) is var left && left < patience) patience = left > TimeSpan.Zero ? left : TimeSpan.Zero;
        // Its own copy: who gives up takes the buffer along, and others' rows still go with these.
        var job = new TierJob(buffer.Span(input.Offset, input.Length).ToArray(), (int)input.Shape[0], terms.Priority, began + (long)(patience.TotalSeconds * _time.TimestampFrequency), terms.Trace);
        var line = _lines.GetOrAdd(
            (tenant, model, input.Type, Shapes.Format(input.Shape.AsSpan(1).ToArray())),
            static (key, of) => new TierLine(jobs => of.Tier.AskAsync(key.Tenant, key.Model, key.Type, of.Shape, jobs), of.Tier.Places, of.Tier._time),
            (Tier: this, Shape: input.Shape[1..]));
        try
        {
            var answer = await line.RunAsync(job).WaitAsync(patience, _time, cancellation);
            return answer with { Duration = _time.GetElapsedTime(began) };
        }
        catch (TimeoutException)
        {
            throw Overdue();
        }
    }

    /// <summary>As many requests as the replicas run side by side, as far as they say it, and one more for each, so that none waits for the way.</summary>
    private int Places()
    {
        var places = 0;
        foreach (var replica in Router.Replicas.Replicas)
        {
            if (!replica.IsOut) places += (replica.Report?.Workers ?? 1) + 1;
        }
        return Math.Max(1, places);
    }

    /// <summary>Sends jobs as one request, as long as anybody waits for any of them.</summary>
    private async Task<TierAnswer> AskAsync(string tenant, TierModel model, DataType type, long[] shape, IReadOnlyList<TierJob> jobs)
    {
        var began = _time.GetTimestamp();
        var patience = _time.GetElapsedTime(began, jobs.Max(job => job.Until));
        if (patience <= TimeSpan.Zero) throw Overdue();
        var rows = jobs.Sum(job => job.Count);
        Interlocked.Increment(ref _requests);
        Interlocked.Add(ref _callers, jobs.Count);
        Interlocked.Add(ref _rows, rows);
        using var overdue = new CancellationTokenSource(patience, _time);
        var body = Encode(model, type, [rows, .. shape], jobs);
        try
        {
            // Who lives long looks in the background; a function that may be frozen between two requests looks within one.
            // The look has its own time, whoever began it: what it finds is for the next one too.
            await _membership.RefreshDueAsync(CancellationToken.None).WaitAsync(overdue.Token);
            for (var attempt = 1; ; attempt++)
            {
                using var reply = await _client.SendAsync(Request(tenant, model, body, patience - _time.GetElapsedTime(began), jobs[0].Trace), overdue.Token);
                if (reply.Response.StatusCode != System.Net.HttpStatusCode.OK) throw Refused(model, reply);
                try
                {
                    var answer = await reply.Response.Content.ReadAsByteArrayAsync(overdue.Token);
                    var (version, scores) = Decode(reply, answer);
                    return new TierAnswer(scores, version, _time.GetElapsedTime(began), ReplicaReport.ReadShare(reply.Response.Headers));
                }
                catch (Exception e) when (e is HttpRequestException or IOException or JsonException or FormatException)
                {
                    reply.Broke();
                    if (attempt == Attempts) throw RequestException.Unavailable($"the heavy tier's answer for model '{model.Name}' can't be read: {e.Message}");
                }
            }
        }
        catch (OperationCanceledException) when (overdue.IsCancellationRequested)
        {
            throw Overdue();
        }
    }

    private static RequestException Overdue() => new(Refusal.DeadlineExceeded, "the heavy tier did not answer in time");

    /// <summary>For hosts that live long: follows who there is, and how they are, until cancelled.</summary>
    public Task WatchAsync(CancellationToken cancellation) => Task.WhenAll(_membership.WatchAsync(cancellation), _prober.RunAsync(cancellation));

    public void Dispose() => _http.Dispose();

    private static ForwardedRequest Request(string tenant, TierModel model, byte[] body, TimeSpan left, TraceParent? trace) => new()
    {
        Method = HttpMethod.Post,
        Target = $"/v2/models/{model.Name}/infer?{TenantParameter}={tenant}",
        Key = RouteKey.OfModel(tenant, model.Name),
        Model = RouteKey.OfModel(tenant, model.Name),
        Headers =
        [
            KeyValuePair.Create(HeaderLength, BitConverter.ToInt32(body).ToString(CultureInfo.InvariantCulture)),
            KeyValuePair.Create("Content-Type", "application/octet-stream"),
        ],
        Trace = trace,
        Body = body.AsMemory(sizeof(int)),
        IsSafe = true,
        TimeLeft = left > TimeSpan.Zero ? left : TimeSpan.Zero,
    };

    /// <summary>The length of the JSON, which is not sent, then JSON and tensor, the jobs' rows one behind the other.</summary>
    private static byte[] Encode(TierModel model, DataType type, long[] shape, IReadOnlyList<TierJob> jobs)
    {
        var bytes = jobs.Sum(job => job.Rows.Length);
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json))
        {
            writer.WriteStartObject();
            writer.WriteStartArray("inputs"u8);
            writer.WriteStartObject();
            writer.WriteString("name"u8, model.Input);
            writer.WriteString("datatype"u8, type.WireName());
            writer.WriteStartArray("shape"u8);
            foreach (var dimension in shape) writer.WriteNumberValue(dimension);
            writer.WriteEndArray();
            writer.WriteStartObject("parameters"u8);
            writer.WriteNumber("binary_data_size"u8, bytes);
            writer.WriteEndObject();
            writer.WriteEndObject();
            writer.WriteEndArray();
            writer.WriteStartArray("outputs"u8);
            writer.WriteStartObject();
            writer.WriteString("name"u8, model.Output);
            writer.WriteEndObject();
            writer.WriteEndArray();
            writer.WriteStartObject("parameters"u8);
            writer.WriteBoolean("binary_data_output"u8, true);
            writer.WriteNumber("priority"u8, jobs.Min(job => job.Priority));
            writer.WriteEndObject();
            writer.WriteEndObject();
        }
        var length = (int)json.Length;
        var body = new byte[sizeof(int) + length + bytes];
        BitConverter.TryWriteBytes(body, length);
        json.GetBuffer().AsSpan(0, length).CopyTo(body.AsSpan(sizeof(int)));
        var at = sizeof(int) + length;
        foreach (var job in jobs)
        {
            job.Rows.Span.CopyTo(body.AsSpan(at));
            at += job.Rows.Length;
        }
        return body;
    }

    /// <exception cref="FormatException">It is no answer to what was asked.</exception>
    private static (int Version, float[] Scores) Decode(ReplicaReply reply, byte[] answer)
    {
        var length = reply.Response.Headers.NonValidated.TryGetValues(HeaderLength, out var value) && int.TryParse(value.ToString(), NumberStyles.None, CultureInfo.InvariantCulture, out var parsed) ? parsed : -1;
        if (length < 0 || length > answer.Length || (answer.Length - length) % sizeof(float) != 0) throw new FormatException("it is not in binary form");
        using var json = JsonDocument.Parse(answer.AsMemory(0, length));
        var root = json.RootElement;
        if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("model_version", out var version) || version.ValueKind != JsonValueKind.String || !int.TryParse(version.GetString(), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            || !root.TryGetProperty("outputs", out var outputs) || outputs.ValueKind != JsonValueKind.Array || outputs.GetArrayLength() != 1 || outputs[0].ValueKind != JsonValueKind.Object
            || !outputs[0].TryGetProperty("datatype", out var type) || !type.ValueEquals(DataType.Fp32.WireName()))
        {
            throw new FormatException("it has not the one FP32 output that was asked for");
        }
        return (number, MemoryMarshal.Cast<byte, float>(answer.AsSpan(length)).ToArray());
    }

    private static RequestException Refused(TierModel model, ReplicaReply reply)
    {
        var (status, isFull) = ((int)reply.Response.StatusCode, reply.Replica.Report is { IsSaturated: true });
        var refusal = status switch
        {
            504 => Refusal.DeadlineExceeded,
            400 or 413 => Refusal.Invalid,
            503 or 429 when isFull => Refusal.Busy,
            _ => Refusal.Unavailable,
        };
        return new RequestException(refusal, $"the heavy tier answered {status} for model '{model.Name}'");
    }
}
