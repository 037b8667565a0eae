using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Skiff.Support;

/// <summary>What API Gateway does between a client and a function: requests become events of payload format 2.0, and answers of functions become responses.</summary>
/// <param name="stage">The stage's name; null for the default one.</param>
public sealed class LambdaFrontEnd(LambdaRuntimeApi api, string? stage = null) : HttpMessageHandler
{
    public static HttpClient ClientOf(LambdaRuntimeApi api, string? stage = null) =>
        new(new LambdaFrontEnd(api, stage)) { BaseAddress = new Uri("https://id.execute-api.us-east-1.amazonaws.com"), Timeout = TimeSpan.FromSeconds(60) };

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var report = await api.InvokeAsync(await EventOfAsync(request, cancellationToken));
        // A failed invocation is none of the client's business.
        return report.What == "response"
            ? ResponseOf(report.Json)
            : new HttpResponseMessage(HttpStatusCode.InternalServerError) { Content = new StringContent("""{"message":"Internal Server Error"}""") };
    }

    private async Task<string> EventOfAsync(HttpRequestMessage request, CancellationToken cancellation)
    {
        var uri = request.RequestUri!;
        var path = (stage is null ? "" : "/" + stage) + uri.AbsolutePath;
        var headers = new JsonObject { ["host"] = uri.Authority, ["x-forwarded-for"] = "192.0.2.1", ["x-forwarded-proto"] = "https", ["x-forwarded-port"] = "443" };
        foreach (var (name, values) in request.Headers.Concat(request.Content?.Headers ?? Enumerable.Empty<KeyValuePair<string, IEnumerable<string>>>()))
        {
            headers[name.ToLowerInvariant()] = string.Join(',', values);
        }
        var body = request.Content is null ? null : await request.Content.ReadAsByteArrayAsync(cancellation);
        var isText = request.Content?.Headers.ContentType?.MediaType is { } type && (type.StartsWith("text/", StringComparison.Ordinal) || type == "application/json");
        return new JsonObject
        {
            ["version"] = "2.0",
            ["routeKey"] = "$default",
            ["rawPath"] = path,
            ["rawQueryString"] = uri.Query.TrimStart('?'),
            ["headers"] = headers,
            ["requestContext"] = new JsonObject
            {
                ["domainName"] = uri.Authority,
                ["http"] = new JsonObject { ["method"] = request.Method.Method, ["path"] = path, ["protocol"] = "HTTP/1.1", ["sourceIp"] = "192.0.2.1", ["userAgent"] = "test" },
                ["stage"] = stage ?? "$default",
            },
            ["body"] = body is null ? null : isText ? Encoding.UTF8.GetString(body) : Convert.ToBase64String(body),
            ["isBase64Encoded"] = !isText,
        }.ToJsonString();
    }

    private static HttpResponseMessage ResponseOf(JsonElement answer)
    {
        var body = answer.GetProperty("body").GetString()!;
        var response = new HttpResponseMessage((HttpStatusCode)answer.GetProperty("statusCode").GetInt32())
        {
            Content = new ByteArrayContent(answer.GetProperty("isBase64Encoded").GetBoolean() ? Convert.FromBase64String(body) : Encoding.UTF8.GetBytes(body)),
        };
        var headers = answer.GetProperty("headers").EnumerateObject().Select(header => (header.Name, Value: header.Value.GetString()));
        var cookies = answer.TryGetProperty("cookies", out var given) ? given.EnumerateArray().Select(cookie => (Name: "Set-Cookie", Value: cookie.GetString())) : [];
        foreach (var (name, value) in headers.Concat(cookies))
        {
            if (!response.Headers.TryAddWithoutValidation(name, value)) response.Content.Headers.TryAddWithoutValidation(name, value);
        }
        return response;
    }
}
