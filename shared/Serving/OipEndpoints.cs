using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Batching;
using Skiff.Models;
using Skiff.Monitoring;
using Skiff.Routing;
using Skiff.Store;

namespace Skiff.Serving;

/// <summary>The Open Inference Protocol over REST: each route decodes, calls the engine and encodes.</summary>
public sealed class OipEndpoints(Gateway gateway, ModelHost models, bool hasRepositoryControl, TimeProvider time, ExecutionProvider provider = ExecutionProvider.Cpu)
{
    private const string HeaderLength = "Inference-Header-Content-Length";

    private readonly Inference _inference = new(models, time);

    public void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/v2", gateway.Open(ServerAsync));
        routes.MapGet("/v2/health/live", gateway.Open(OkAsync));
        routes.MapGet("/v2/health/ready", gateway.Open(OkAsync));
        routes.MapPost("/v2/repository/index", gateway.For(Scopes.Predict, IndexAsync));
        routes.MapPost("/v2/repository/models/{model}/load", gateway.For(Scopes.Admin, LoadAsync));
        routes.MapPost("/v2/repository/models/{model}/unload", gateway.For(Scopes.Admin, UnloadAsync));
        foreach (var model in new[] { "/v2/models/{model}", "/v2/models/{model}/versions/{version}" })
        {
            routes.MapGet(model, gateway.For(Scopes.Predict, MetadataAsync));
            routes.MapGet(model + "/ready", gateway.For(Scopes.Predict, ReadyAsync));
            routes.MapGet(model + "/config", gateway.For(Scopes.Predict, ConfigAsync));
            routes.MapGet(model + "/stats", gateway.For(Scopes.Predict, StatsAsync));
            routes.MapPost(model + "/infer", gateway.For(Scopes.Predict, InferAsync));
        }
        routes.MapGet("/v2/models/stats", gateway.For(Scopes.Predict, StatsAsync));
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask InferAsync(HttpContext http, Caller caller)
    {
        var arrived = time.GetTimestamp();
        using var exchange = Exchange.Rent();
        var request = exchange.Infer;
        (request.Model, request.Version) = Target(http);
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        OipRequestReader.Read(exchange.Body, HeaderLengthOf(http.Request), request);
        request.TimeoutMicroseconds = Deadline.Nearest(request.TimeoutMicroseconds, http.Request);
        var decoded = time.GetTimestamp();

        using var result = await _inference.InferAsync(caller.Tenant, request, arrived, http.RequestAborted);
        var ran = time.GetTimestamp();
        var jsonLength = Write(exchange, result, arrived);
        // What is paid by the hour is divided by who used it: a run has its worker's part of the replica.
        if (http.Features.Get<TrustedCaller>() is not null) http.Response.Headers[ReplicaReport.ShareHeader] = (result.Outputs.RunTime.TotalMicroseconds / result.Lease.Workers).ToString("0.#", CultureInfo.InvariantCulture);
        if (jsonLength is { } length) http.Response.Headers[HeaderLength] = length.ToString(CultureInfo.InvariantCulture);
        await exchange.SendAsync(http.Response, 200, jsonLength is null ? Gateway.Json : "application/octet-stream", http.RequestAborted);
        var done = time.GetTimestamp();
        result.Lease.Statistics.Succeeded(decoded - arrived, done - ran, done - arrived, time.GetElapsedTime(arrived, done).TotalSeconds, time.GetUtcNow());
    }

    private int? Write(Exchange exchange, InferResult result, long arrived)
    {
        try
        {
            return OipResponseWriter.Write(exchange.Infer, result, exchange.Json, exchange.Answer);
        }
        catch (RequestException)
        {
            result.Lease.Statistics.Failed(time.GetTimestamp() - arrived);
            throw;
        }
    }

    private Task ServerAsync(HttpContext http) => AnswerAsync(http, json =>
    {
        json.WriteString("name"u8, "skiff");
        json.WriteString("version"u8, Product.Version);
        json.WriteStartArray("extensions"u8);
        json.WriteStringValue("binary_tensor_data"u8);
        json.WriteStringValue("model_repository"u8);
        json.WriteStringValue("model_configuration"u8);
        json.WriteStringValue("statistics"u8);
        json.WriteEndArray();
    });

    private static Task OkAsync(HttpContext http)
    {
        http.Response.StatusCode = 200;
        return Task.CompletedTask;
    }

    /// <summary>Ready means that it can answer now; a model that nobody has asked for yet is loaded by asking.</summary>
    private async Task ReadyAsync(HttpContext http, Caller caller)
    {
        var (model, version) = Target(http);
        (await models.AcquireAsync(caller.Tenant, model, version, http.RequestAborted)).Dispose();
        await OkAsync(http);
    }

    private async Task MetadataAsync(HttpContext http, Caller caller)
    {
        var (model, version) = Target(http);
        var manifest = await models.DescribeAsync(caller.Tenant, model, version, http.RequestAborted);
        await AnswerAsync(http, json =>
        {
            json.WriteString("name"u8, manifest.Name);
            json.WriteStartArray("versions"u8);
            json.WriteStringValue(Numbers.Text(manifest.Version));
            json.WriteEndArray();
            json.WriteString("platform"u8, "onnxruntime_onnx");
            WriteSpecs(json, "inputs", manifest.Inputs);
            WriteSpecs(json, "outputs", manifest.Outputs);
        });
    }

    private static void WriteSpecs(Utf8JsonWriter json, string name, IReadOnlyList<TensorSpec> specs)
    {
        json.WriteStartArray(name);
        foreach (var spec in specs)
        {
            json.WriteStartObject();
            json.WriteString("name"u8, spec.Name);
            json.WriteString("datatype"u8, spec.Type.WireName());
            WriteNumbers(json, "shape", spec.Shape);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static void WriteNumbers(Utf8JsonWriter json, string name, long[] numbers)
    {
        json.WriteStartArray(name);
        foreach (var number in numbers) json.WriteNumberValue(number);
        json.WriteEndArray();
    }

    private async Task ConfigAsync(HttpContext http, Caller caller)
    {
        var (model, version) = Target(http);
        var manifest = await models.DescribeAsync(caller.Tenant, model, version, http.RequestAborted);
        await AnswerAsync(http, json =>
        {
            json.WriteString("name"u8, manifest.Name);
            json.WriteString("platform"u8, "onnxruntime_onnx");
            json.WriteString("backend"u8, "onnxruntime");
            // Shapes hold the rows as their first dimension; 0 says so.
            json.WriteNumber("max_batch_size"u8, 0);
            WriteConfigTensors(json, "input", manifest.Inputs);
            WriteConfigTensors(json, "output", manifest.Outputs);
            json.WriteStartArray("instance_group"u8);
            json.WriteStartObject();
            json.WriteString("kind"u8, provider == ExecutionProvider.Cuda ? "KIND_GPU" : "KIND_CPU");
            json.WriteNumber("count"u8, 1);
            json.WriteEndObject();
            json.WriteEndArray();
            json.WriteStartObject("parameters"u8);
            json.WriteString("sha256"u8, manifest.Sha256);
            json.WriteString("created"u8, manifest.Created.ToString("o", CultureInfo.InvariantCulture));
            json.WriteString("by"u8, manifest.By);
            foreach (var (key, value) in manifest.Metadata) json.WriteString("metadata." + key, value);
            json.WriteEndObject();
        });
    }

    private static void WriteConfigTensors(Utf8JsonWriter json, string name, IReadOnlyList<TensorSpec> specs)
    {
        json.WriteStartArray(name);
        foreach (var spec in specs)
        {
            json.WriteStartObject();
            json.WriteString("name"u8, spec.Name);
            json.WriteString("data_type"u8, spec.Type == DataType.Bytes ? "TYPE_STRING" : "TYPE_" + spec.Type.WireName());
            WriteNumbers(json, "dims", spec.Shape);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private async Task StatsAsync(HttpContext http, Caller caller)
    {
        string? model = null;
        int? version = null;
        if (http.Request.RouteValues.ContainsKey("model"))
        {
            (model, version) = Target(http);
            await models.DescribeAsync(caller.Tenant, model, version, http.RequestAborted);
        }
        var wanted = models.Statistics().Where(entry =>
            entry.Tenant == caller.Tenant && (model is null || entry.Manifest.Name == model) && (version is null || entry.Manifest.Version == version));
        var batchers = models.Batchers().Where(entry => entry.Tenant == caller.Tenant).ToList();
        await AnswerAsync(http, json =>
        {
            json.WriteStartArray("model_stats"u8);
            foreach (var (_, manifest, statistics) in wanted.OrderBy(entry => entry.Manifest.Name, StringComparer.Ordinal).ThenBy(entry => entry.Manifest.Version))
            {
                json.WriteStartObject();
                json.WriteString("name"u8, manifest.Name);
                json.WriteString("version"u8, Numbers.Text(manifest.Version));
                json.WriteNumber("last_inference"u8, statistics.LastUnixMs);
                json.WriteNumber("inference_count"u8, statistics.Rows);
                json.WriteNumber("execution_count"u8, statistics.Executions);
                json.WriteStartObject("inference_stats"u8);
                WriteDuration(json, "success"u8, statistics.Success, statistics.SuccessTicks);
                WriteDuration(json, "fail"u8, statistics.Failure, statistics.FailureTicks);
                WriteDuration(json, "queue"u8, statistics.Queued, statistics.QueueTicks);
                WriteDuration(json, "compute_input"u8, statistics.Success, statistics.InputTicks);
                WriteDuration(json, "compute_infer"u8, statistics.Executions, statistics.RunTicks);
                WriteDuration(json, "compute_output"u8, statistics.Success, statistics.OutputTicks);
                json.WriteEndObject();
                WriteBatches(json, statistics);
                var batcher = batchers.Find(entry => entry.Manifest == manifest).Batcher;
                json.WriteStartObject("queue"u8);
                json.WriteNumber("rows"u8, batcher?.QueuedRows ?? 0);
                json.WriteNumber("expected_wait_us"u8, Math.Round(batcher?.ExpectedWait.TotalMicroseconds ?? 0, 1));
                json.WriteNumber("expired"u8, statistics.ExpiredRequests);
                json.WriteNumber("refused"u8, statistics.RefusedRequests);
                json.WriteNumber("displaced"u8, statistics.DisplacedRequests);
                json.WriteEndObject();
                json.WriteEndObject();
            }
            json.WriteEndArray();
        });
    }

    /// <summary>Runs by how many rows they had at most, and by why they had no more.</summary>
    private static void WriteBatches(Utf8JsonWriter json, ModelStatistics statistics)
    {
        json.WriteStartObject("batches"u8);
        json.WriteStartArray("rows"u8);
        var counts = statistics.BatchRows.Counts();
        for (var i = 0; i < counts.Length; i++)
        {
            if (counts[i] == 0) continue;
            json.WriteStartObject();
            if (i < statistics.BatchRows.Bounds.Count) json.WriteNumber("up_to"u8, statistics.BatchRows.Bounds[i]);
            json.WriteNumber("count"u8, counts[i]);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteStartObject("closed"u8);
        foreach (var reason in Enum.GetValues<BatchClosed>()) json.WriteNumber(reason.ToString().ToLowerInvariant(), statistics.Closed(reason));
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private void WriteDuration(Utf8JsonWriter json, ReadOnlySpan<byte> name, long count, long ticks)
    {
        json.WriteStartObject(name);
        json.WriteNumber("count"u8, count);
        json.WriteNumber("ns"u8, (long)(ticks * (1e9 / time.TimestampFrequency)));
        json.WriteEndObject();
    }

    private async Task IndexAsync(HttpContext http, Caller caller)
    {
        var onlyReady = false;
        await ReadOptionalObjectAsync(http, (ref Json.JsonCursor cursor, ReadOnlySpan<byte> name) =>
        {
            if (name.SequenceEqual("ready"u8)) onlyReady = cursor.ReadBoolean("'ready'");
            else cursor.Skip();
        });
        var states = await models.IndexAsync(caller.Tenant, http.RequestAborted);
        using var exchange = Exchange.Rent();
        var json = exchange.Json;
        json.WriteStartArray();
        foreach (var state in states)
        {
            if (onlyReady && !state.IsLoaded) continue;
            json.WriteStartObject();
            json.WriteString("name"u8, state.Name);
            json.WriteString("version"u8, Numbers.Text(state.Version));
            json.WriteString("state"u8, state.IsLoaded ? "READY" : "UNAVAILABLE");
            json.WriteString("reason"u8, state.Reason);
            json.WriteBoolean("live"u8, state.IsLive);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private async Task LoadAsync(HttpContext http, Caller caller)
    {
        RequireRepositoryControl();
        await RefuseConfigurationAsync(http);
        await models.LoadAsync(caller.Tenant, Target(http).Model, http.RequestAborted);
        await AnswerAsync(http, _ => { });
    }

    private async Task UnloadAsync(HttpContext http, Caller caller)
    {
        RequireRepositoryControl();
        await ReadOptionalObjectAsync(http, (ref Json.JsonCursor cursor, ReadOnlySpan<byte> _) => cursor.Skip());
        await models.UnloadAsync(caller.Tenant, Target(http).Model, http.RequestAborted);
        await AnswerAsync(http, _ => { });
    }

    private void RequireRepositoryControl()
    {
        if (!hasRepositoryControl)
        {
            throw new RequestException(Refusal.Unsupported, "nobody loads or unloads where there are several instances: each loads a model when it is asked for, and the least recently used makes room");
        }
    }

    /// <summary>Other servers let a load request bring a configuration or files: here what is loaded is in the store, and nothing but its name comes over HTTP.</summary>
    private static Task RefuseConfigurationAsync(HttpContext http) => ReadOptionalObjectAsync(http, (ref Json.JsonCursor cursor, ReadOnlySpan<byte> name) =>
    {
        if (!name.SequenceEqual("parameters"u8))
        {
            cursor.Skip();
            return;
        }
        cursor.BeginObject("'parameters'");
        while (cursor.NextProperty(out var parameter))
        {
            throw RequestException.Invalid(
                $"load takes no parameters, not '{System.Text.Encoding.UTF8.GetString(parameter)}': a model is loaded as it is in the store; publish it with 'skiff push'");
        }
    });

    private delegate void PropertyReader(ref Json.JsonCursor cursor, ReadOnlySpan<byte> name);

    private static async Task ReadOptionalObjectAsync(HttpContext http, PropertyReader read)
    {
        using var exchange = Exchange.Rent();
        await exchange.ReadBodyAsync(http.Request, http.RequestAborted);
        if (exchange.Body.IsEmpty) return;
        var cursor = new Json.JsonCursor(exchange.Body);
        cursor.BeginObject();
        while (cursor.NextProperty(out var name)) read(ref cursor, name);
        cursor.End();
    }

    private static async Task AnswerAsync(HttpContext http, Action<Utf8JsonWriter> write)
    {
        using var exchange = Exchange.Rent();
        exchange.Json.WriteStartObject();
        write(exchange.Json);
        exchange.Json.WriteEndObject();
        await exchange.SendAsync(http.Response, 200, Gateway.Json, http.RequestAborted);
    }

    private static (string Model, int? Version) Target(HttpContext http)
    {
        var values = http.Request.RouteValues;
        var model = (string)values["model"]!;
        Names.Check("model", model);
        if (values["version"] is not string text) return (model, null);
        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var version) && version > 0) return (model, version);
        throw RequestException.NotFound($"'{text}' is not a version of a model: versions are whole numbers from 1");
    }

    private static int? HeaderLengthOf(HttpRequest request)
    {
        if (!request.Headers.TryGetValue(HeaderLength, out var value)) return null;
        if (value.Count == 1 && int.TryParse(value[0], NumberStyles.None, CultureInfo.InvariantCulture, out var length)) return length;
        throw RequestException.Invalid($"{HeaderLength} is '{value}'; it takes the length of the JSON in bytes");
    }
}
