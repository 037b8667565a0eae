using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.ML.OnnxRuntime;
using SessionOptions = Microsoft.ML.OnnxRuntime.SessionOptions;

namespace Skiff.Benchmarks.Baseline;

/// <summary>
/// What a good engineer writes in an afternoon: a minimal API, source-generated JSON, one session and a run a request. Nothing in it is wasteful on purpose: the
/// session has one thread as the server has one core, tensors are <see cref="OrtValue"/>s over the caller's memory, and logging is quiet.
/// </summary>
internal static class BaselineEndpoint
{
    private const string Output = "logits";

    public static void AddJson(IServiceCollection services) =>
        services.ConfigureHttpJsonOptions(options => options.SerializerOptions.TypeInfoResolverChain.Insert(0, BaselineJson.Default));

    public static void Map(IEndpointRouteBuilder routes, string name, byte[] model)
    {
        var session = new InferenceSession(model, new SessionOptions { IntraOpNumThreads = 1, InterOpNumThreads = 1 });
        var options = new RunOptions();

        routes.MapPost($"/v2/models/{name}/infer", (InferRequest request) =>
        {
            var input = request.Inputs[0];
            var values = input.Data.Length == 1 ? input.Data[0] : input.Data.SelectMany(row => row).ToArray();
            using var tensor = OrtValue.CreateTensorValueFromMemory(values, input.Shape);
            using var results = session.Run(options, [input.Name], [tensor], [Output]);
            var shape = results[0].GetTensorTypeAndShape().Shape;
            return new InferResponse(name, request.Id, [new InferOutput(Output, shape, "FP32", results[0].GetTensorDataAsSpan<float>().ToArray())]);
        });
    }
}

internal sealed record InferRequest(string? Id, InferInput[] Inputs);

internal sealed record InferInput(string Name, long[] Shape, string Datatype, float[][] Data);

internal sealed record InferResponse([property: JsonPropertyName("model_name")] string ModelName, string? Id, InferOutput[] Outputs);

internal sealed record InferOutput(string Name, long[] Shape, string Datatype, float[] Data);

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(InferRequest))]
[JsonSerializable(typeof(InferResponse))]
internal sealed partial class BaselineJson : JsonSerializerContext;
