using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Skiff.Benchmarks.Baseline;

/// <summary>What HTTP alone costs: reads the whole body, looks at none of it, and returns a constant as large as a real answer.</summary>
internal static class ConstantEndpoint
{
    private static readonly byte[] Answer = """
        {"model_name":"fm_mlp","outputs":[{"name":"logits","shape":[1,10],"datatype":"FP32","data":[-3.1415927,-2.7182817,-1.6180340,-1.4142135,0.5772157,0.6931472,1.4142135,1.6180340,2.7182817,3.1415927]}]}
        """u8.ToArray();

    public static void Map(IEndpointRouteBuilder routes) => routes.MapPost("/v2/models/fm_mlp/infer", async context =>
    {
        var body = context.Request.BodyReader;
        while (true)
        {
            var read = await body.ReadAsync(context.RequestAborted);
            body.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted) break;
        }
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = Answer.Length;
        await context.Response.BodyWriter.WriteAsync(Answer, context.RequestAborted);
    });
}
