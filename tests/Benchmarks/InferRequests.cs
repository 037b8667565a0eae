using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;

namespace Skiff.Benchmarks;

/// <summary>How a client writes a pixel of byte/255.</summary>
internal enum NumberStyle
{
    /// <summary>As Python's <c>json.dumps</c> writes float64: <c>0.4980392156862745</c>, <c>0.0</c>, a space after each comma.</summary>
    Python,

    /// <summary>The shortest text that gives the float32: <c>0.49803922</c>, <c>0</c>, no spaces.</summary>
    Shortest,
}

/// <summary>Open Inference Protocol requests of one image each, with the logits that ONNX Runtime gives here.</summary>
internal static class InferRequests
{
    private const string Input = "image";
    private const string Output = "logits";
    private static readonly long[] Shape = [1, 1, 28, 28];

    /// <summary>The data as most clients have it, an array of images: <c>[[…784…]]</c>, row-major whatever the shape says about rows and columns.</summary>
    public static Workload Json(Samples samples, NumberStyle style) => Build("json", samples, pixels => JsonRequest(pixels, style), JsonValues);

    /// <summary>The binary extension both ways: a JSON header, then the tensor's bytes.</summary>
    public static Workload Binary(Samples samples) => Build("binary", samples, BinaryRequest, BinaryValues);

    private static Workload Build(string name, Samples samples, Func<double[], byte[]> request, Func<HttpReply, float[]> readValues)
    {
        using var sessionOptions = new SessionOptions { IntraOpNumThreads = 1 };
        using var session = new InferenceSession(samples.ModelFile, sessionOptions);
        using var options = new RunOptions();
        var exchanges = samples.Images.Select(image =>
        {
            var pixels = Array.ConvertAll(image, value => value / 255.0);
            return new Exchange(request(pixels), Run(session, options, pixels));
        });
        return new Workload(name, exchanges.ToArray(), readValues);
    }

    /// <summary>A JSON body for the first image, and the logits that a model gives for it here.</summary>
    public static (byte[] Body, float[] Logits) Single(Samples samples, string modelFile)
    {
        using var sessionOptions = new SessionOptions { IntraOpNumThreads = 1 };
        using var session = new InferenceSession(modelFile, sessionOptions);
        using var options = new RunOptions();
        var pixels = Array.ConvertAll(samples.Images[0], value => value / 255.0);
        return (JsonBody(pixels, NumberStyle.Python), Run(session, options, pixels));
    }

    private static float[] Run(InferenceSession session, RunOptions options, double[] pixels)
    {
        using var tensor = OrtValue.CreateTensorValueFromMemory(Array.ConvertAll(pixels, pixel => (float)pixel), Shape);
        using var outputs = session.Run(options, [Input], [tensor], [Output]);
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }

    private static byte[] JsonRequest(double[] pixels, NumberStyle style) => Post("application/json", headers: "", JsonBody(pixels, style));

    private static byte[] JsonBody(double[] pixels, NumberStyle style)
    {
        var (space, texts) = style switch
        {
            NumberStyle.Python => (" ", pixels.Select(pixel => pixel is 0 or 1 ? $"{pixel:0.0}" : pixel.ToString("R", CultureInfo.InvariantCulture))),
            NumberStyle.Shortest => ("", pixels.Select(pixel => ((float)pixel).ToString("R", CultureInfo.InvariantCulture))),
            _ => throw new ArgumentOutOfRangeException(nameof(style)),
        };
        var data = string.Join("," + space, texts);
        var body = $$"""{"inputs":[{"name":"{{Input}}","shape":[{{string.Join(",", Shape)}}],"datatype":"FP32","data":[[{{data}}]]}]}""";
        return Encoding.UTF8.GetBytes(body);
    }

    private static byte[] BinaryRequest(double[] pixels)
    {
        var tensor = MemoryMarshal.AsBytes<float>(Array.ConvertAll(pixels, pixel => (float)pixel));
        var header = $$$"""
            {"inputs":[{"name":"{{{Input}}}","shape":[{{{string.Join(",", Shape)}}}],"datatype":"FP32","parameters":{"binary_data_size":{{{tensor.Length}}}}}],"outputs":[{"name":"{{{Output}}}","parameters":{"binary_data":true}}]}
            """;
        return Post("application/octet-stream", $"Inference-Header-Content-Length: {header.Length}\r\n", [.. Encoding.UTF8.GetBytes(header), .. tensor]);
    }

    private static byte[] Post(string contentType, string headers, byte[] body)
    {
        var head = $"POST /v2/models/{Samples.ModelName}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: {contentType}\r\n{headers}Content-Length: {body.Length}\r\n\r\n";
        return [.. Encoding.ASCII.GetBytes(head), .. body];
    }

    /// <summary>The numbers of the first <c>data</c>, nested or flat.</summary>
    public static float[] JsonValues(HttpReply reply)
    {
        var reader = new Utf8JsonReader(reply.Body());
        while (reader.Read() && !(reader.TokenType == JsonTokenType.PropertyName && reader.ValueTextEquals("data"u8)))
        {
        }
        var depth = reader.CurrentDepth;
        var values = new List<float>();
        while (reader.Read() && !(reader.TokenType == JsonTokenType.EndArray && reader.CurrentDepth == depth))
        {
            if (reader.TokenType == JsonTokenType.Number) values.Add(reader.GetSingle());
        }
        return [.. values];
    }

    /// <summary>All bytes behind the JSON header, as the one tensor that was asked for.</summary>
    private static float[] BinaryValues(HttpReply reply)
    {
        if (!int.TryParse(reply.Header("Inference-Header-Content-Length"u8), CultureInfo.InvariantCulture, out var header))
            throw new BenchmarkException("the answer to a request for binary output has no Inference-Header-Content-Length");
        return MemoryMarshal.Cast<byte, float>(reply.Body()[header..]).ToArray();
    }
}
