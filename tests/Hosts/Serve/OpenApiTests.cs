using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Skiff.Support;

namespace Skiff.Hosts.Serve;

/// <summary>Holds the description of the API to the server that it describes.</summary>
public sealed class OpenApiTests
{
    [Fact]
    public async Task Document_DescribesEveryRouteAndNothingMore()
    {
        await using var server = await SkiffServer.StartAsync();
        var document = await ReadAsync(server);

        var mapped =
            from endpoint in server.Server.Endpoints.OfType<RouteEndpoint>()
            from method in endpoint.Metadata.GetRequiredMetadata<IHttpMethodMetadata>().HttpMethods
            select $"{method} /{endpoint.RoutePattern.RawText?.TrimStart('/')}";
        var described = Operations(document).Select(operation => $"{operation.Method} {operation.Path}");
        Assert.Equal(mapped.Order(), described.Order());
    }

    [Fact]
    public async Task Document_HasTheVersionOfTheProduct()
    {
        await using var server = await SkiffServer.StartAsync();

        Assert.Equal(Product.Version, (await ReadAsync(server)).GetProperty("info").GetProperty("version").GetString());
    }

    [Fact]
    public async Task Document_NamesTheParametersOfItsPathsAndOnlyDefinitionsThatExist()
    {
        await using var server = await SkiffServer.StartAsync();
        var document = await ReadAsync(server);

        foreach (var operation in Operations(document))
        {
            var inPath = operation.Path.Split('/').Where(part => part.StartsWith('{')).Select(part => part.Trim('{', '}'));
            Assert.Equal(inPath, Parameters(document, operation.Item).Select(parameter => parameter.GetProperty("name").GetString()));
        }
        foreach (var reference in References(document)) Assert.NotEqual(default, Resolve(document, reference));
    }

    [Fact]
    public async Task Operations_AskForKeysAndScopesAsDescribed()
    {
        var (key, entry) = Serving.ApiKeys.Create("acme", Serving.Scopes.Predict);
        await using var server = await SkiffServer.StartAsync(environment: ("SKIFF_API_KEYS", entry));
        var document = await ReadAsync(server);

        foreach (var operation in Operations(document))
        {
            var scope = Scope(document, operation.Value);
            using var without = await SendAsync(server, document, operation);
            Assert.True((scope is not null) == (without.StatusCode == HttpStatusCode.Unauthorized), $"{operation.Method} {operation.Path} without a key: {without.StatusCode}");
            using var with = await SendAsync(server, document, operation, key);
            Assert.True((scope is not null and not "predict") == (with.StatusCode == HttpStatusCode.Forbidden), $"{operation.Method} {operation.Path} with a key for predict: {with.StatusCode}");
        }
    }

    [Fact]
    public async Task Examples_AreAnsweredAsDescribed()
    {
        await using var server = await SkiffServer.StartAsync(samples: true);
        var document = await ReadAsync(server);

        await server.Server.Engine.Learner.QuarantineAsync(
            new Feedback.FeedbackMessage { Tenant = "default", App = "films", User = "u2", FeedbackId = "f1", Value = 8, At = DateTimeOffset.UtcNow }, "an example", TestContext.Current.CancellationToken);

        // The model that was unloaded would be missed.
        foreach (var operation in Operations(document).OrderBy(operation => operation.Path.EndsWith("/unload", StringComparison.Ordinal)))
        {
            using var response = await SendAsync(server, document, operation);
            Assert.True(response.IsSuccessStatusCode, $"{operation.Method} {operation.Path}: {response.StatusCode}");
            var described = Deref(document, operation.Value.GetProperty("responses").GetProperty(((int)response.StatusCode).ToString()));
            var text = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
            if (!described.TryGetProperty("content", out var content))
            {
                Assert.Equal("", text);
                continue;
            }
            if (response.Content.Headers.ContentType?.MediaType != "application/json") continue;
            var difference = Difference(document, content.GetProperty("application/json").GetProperty("schema"), JsonDocument.Parse(text).RootElement);
            Assert.True(difference is null, $"{operation.Method} {operation.Path} {difference}: {text}");
        }
    }

    [Fact]
    public async Task Errors_AreAsDescribed()
    {
        await using var server = await SkiffServer.StartAsync();
        var document = await ReadAsync(server);

        var (status, body) = await server.GetAsync("/apps/nobody");
        Assert.Equal(HttpStatusCode.NotFound, status);
        Assert.Null(Difference(document, document.GetProperty("components").GetProperty("schemas").GetProperty("Error"), body));
    }

    private sealed record Operation(string Method, string Path, JsonElement Item, JsonElement Value);

    private static async Task<JsonElement> ReadAsync(SkiffServer server)
    {
        var (status, document) = await server.GetAsync("/openapi/v1.json");
        Assert.Equal(HttpStatusCode.OK, status);
        return document;
    }

    private static IEnumerable<Operation> Operations(JsonElement document) =>
        from path in document.GetProperty("paths").EnumerateObject()
        from operation in path.Value.EnumerateObject()
        where operation.Name != "parameters"
        select new Operation(operation.Name.ToUpperInvariant(), path.Name, path.Value, operation.Value);

    private static IEnumerable<JsonElement> Parameters(JsonElement document, JsonElement item) =>
        item.TryGetProperty("parameters", out var parameters) ? parameters.EnumerateArray().Select(parameter => Deref(document, parameter)) : [];

    /// <summary>The scope that an operation asks for, the same under every scheme; null for none.</summary>
    private static string? Scope(JsonElement document, JsonElement operation)
    {
        var security = operation.TryGetProperty("security", out var own) ? own : document.GetProperty("security");
        return security.EnumerateArray().SelectMany(scheme => scheme.EnumerateObject()).SelectMany(scheme => scheme.Value.EnumerateArray()).Select(scope => scope.GetString()).Distinct().SingleOrDefault();
    }

    /// <summary>Sends an operation with the examples of its parameters and body.</summary>
    private static Task<HttpResponseMessage> SendAsync(SkiffServer server, JsonElement document, Operation operation, string? key = null)
    {
        var path = Parameters(document, operation.Item)
            .Aggregate(operation.Path, (path, parameter) => path.Replace($"{{{parameter.GetProperty("name").GetString()}}}", parameter.GetProperty("example").ToString()));
        var request = new HttpRequestMessage(new HttpMethod(operation.Method), path);
        if (key is not null) request.Headers.Authorization = new("Bearer", key);
        if (operation.Value.TryGetProperty("requestBody", out var body) && body.GetProperty("content").GetProperty("application/json").TryGetProperty("examples", out var examples))
        {
            request.Content = new StringContent(examples.EnumerateObject().First().Value.GetProperty("value").GetRawText(), Encoding.UTF8, "application/json");
        }
        return server.Client.SendAsync(request, TestContext.Current.CancellationToken);
    }

    private static IEnumerable<string> References(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => element.EnumerateObject().SelectMany(property => property.NameEquals("$ref") ? [property.Value.GetString()!] : References(property.Value)),
        JsonValueKind.Array => element.EnumerateArray().SelectMany(References),
        _ => [],
    };

    private static JsonElement Resolve(JsonElement document, string reference) =>
        reference.Split('/').Skip(1).Aggregate(document, (element, name) => element.TryGetProperty(name, out var next) ? next : default);

    private static JsonElement Deref(JsonElement document, JsonElement element) =>
        element.TryGetProperty("$ref", out var reference) ? Resolve(document, reference.GetString()!) : element;

    /// <summary>Where a value differs from its schema, null for nowhere; as much of JSON Schema as the document uses for answers.</summary>
    private static string? Difference(JsonElement document, JsonElement schema, JsonElement value)
    {
        schema = Deref(document, schema);
        foreach (var choice in new[] { "oneOf", "anyOf" })
        {
            if (schema.TryGetProperty(choice, out var schemas) && schemas.EnumerateArray().All(one => Difference(document, one, value) is not null)) return $"is none of '{choice}'";
        }
        if (schema.TryGetProperty("type", out var type) && !Types(type).Contains(TypeOf(value))
            && !(TypeOf(value) == "integer" && Types(type).Contains("number"))) return $"is {TypeOf(value)}, not {type}";
        if (schema.TryGetProperty("enum", out var values) && values.EnumerateArray().All(one => one.ToString() != value.ToString())) return $"is {value}, not one of {values}";
        if (value.ValueKind == JsonValueKind.Array && schema.TryGetProperty("items", out var items))
        {
            return value.EnumerateArray().Select((item, i) => Difference(document, items, item) is { } inner ? $"[{i}] {inner}" : null).FirstOrDefault(inner => inner is not null);
        }
        return value.ValueKind == JsonValueKind.Object ? ObjectDifference(document, schema, value) : null;
    }

    private static string? ObjectDifference(JsonElement document, JsonElement schema, JsonElement value)
    {
        if (schema.TryGetProperty("required", out var required) && required.EnumerateArray().FirstOrDefault(name => !value.TryGetProperty(name.GetString()!, out _)) is { ValueKind: JsonValueKind.String } missing)
        {
            return $"lacks '{missing}'";
        }
        if (schema.TryGetProperty("maxProperties", out var most) && value.EnumerateObject().Count() > most.GetInt32()) return "has properties";
        foreach (var property in value.EnumerateObject())
        {
            var known = schema.TryGetProperty("properties", out var properties) && properties.TryGetProperty(property.Name, out var own) ? own
                : schema.TryGetProperty("additionalProperties", out var others) ? others : default;
            if (known.ValueKind == JsonValueKind.False) return $"has the unknown '{property.Name}'";
            if (known.ValueKind == JsonValueKind.Object && Difference(document, known, property.Value) is { } inner) return $".{property.Name} {inner}";
        }
        return null;
    }

    private static IEnumerable<string?> Types(JsonElement type) => type.ValueKind == JsonValueKind.Array ? type.EnumerateArray().Select(one => one.GetString()) : [type.GetString()];

    private static string TypeOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "object",
        JsonValueKind.Array => "array",
        JsonValueKind.String => "string",
        JsonValueKind.Number => value.TryGetInt64(out _) ? "integer" : "number",
        JsonValueKind.Null => "null",
        _ => "boolean",
    };
}
