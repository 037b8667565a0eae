using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Skiff.Hosts;

/// <summary>An answer that was read whole: JSON, and the binary tensors behind it where the protocol says that there are some.</summary>
public sealed class HttpAnswer
{
    public const string HeaderLength = "Inference-Header-Content-Length";

    private readonly HttpResponseMessage _response;
    private readonly byte[] _body;

    private HttpAnswer(HttpResponseMessage response, byte[] body) => (_response, _body) = (response, body);

    public int Status => (int)_response.StatusCode;

    public string? ContentType => _response.Content.Headers.ContentType?.ToString();

    public string Text => Encoding.UTF8.GetString(_body);

    public JsonElement Json => JsonDocument.Parse(_body.AsMemory(0, JsonLength)).RootElement;

    /// <summary>What follows the JSON.</summary>
    public byte[] Binary => _body[JsonLength..];

    /// <summary>Whether binary data was announced.</summary>
    public bool HasBinary => Header(HeaderLength) is not null;

    private int JsonLength => Header(HeaderLength) is { } length ? int.Parse(length, CultureInfo.InvariantCulture) : _body.Length;

    public string? Header(string name) =>
        _response.Headers.TryGetValues(name, out var values) || _response.Content.Headers.TryGetValues(name, out values) ? string.Join(", ", values) : null;

    /// <summary>An output of an inference, which must have succeeded.</summary>
    public JsonElement Output(int index = 0)
    {
        AssertOk();
        return Json.GetProperty("outputs")[index];
    }

    public HttpAnswer AssertOk()
    {
        Assert.True(Status is >= 200 and < 300, $"{Status}: {Text}");
        return this;
    }

    /// <summary>A refusal says in JSON what was wrong and what is allowed, and nothing about how the server is built.</summary>
    public void AssertRefused(int status, params string[] fragments)
    {
        Assert.True(Status == status, $"expected {status}, got {Status}: {Text}");
        Assert.Equal("application/json", ContentType);
        var error = Assert.Single(Json.EnumerateObject());
        Assert.Equal("error", error.Name);
        var message = error.Value.GetString()!;
        Assert.All(fragments, fragment => Assert.Contains(fragment, message, StringComparison.Ordinal));
        Assert.DoesNotContain(" at Skiff.", message, StringComparison.Ordinal);
        Assert.DoesNotContain("Exception", message, StringComparison.Ordinal);
        Assert.DoesNotContain("/onnxruntime_src/", message, StringComparison.Ordinal);
    }

    /// <param name="path">Sent as it stands: dots and escapes are not tidied up.</param>
    public static async Task<HttpAnswer> SendAsync(HttpClient client, HttpMethod method, string path, HttpContent? content = null, params (string Name, string Value)[] headers)
    {
        var address = client.BaseAddress!.GetLeftPart(UriPartial.Authority) + path;
        using var request = new HttpRequestMessage(method, new Uri(address, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true })) { Content = content };
        foreach (var (name, value) in headers) Assert.True(request.Headers.TryAddWithoutValidation(name, value));
        var cancellation = TestContext.Current.CancellationToken;
        var response = await client.SendAsync(request, cancellation);
        return new HttpAnswer(response, await response.Content.ReadAsByteArrayAsync(cancellation));
    }

    public static Task<HttpAnswer> GetAsync(HttpClient client, string path, params (string Name, string Value)[] headers) => SendAsync(client, HttpMethod.Get, path, null, headers);

    public static Task<HttpAnswer> PostAsync(HttpClient client, string path, string json, params (string Name, string Value)[] headers) =>
        SendAsync(client, HttpMethod.Post, path, new StringContent(json, Encoding.UTF8, "application/json"), headers);

    public static Task<HttpAnswer> PostAsync(HttpClient client, string path, byte[] body, params (string Name, string Value)[] headers) =>
        SendAsync(client, HttpMethod.Post, path, new ByteArrayContent(body), headers);

    /// <summary>Posts JSON with binary tensors behind it.</summary>
    public static Task<HttpAnswer> PostBinaryAsync(HttpClient client, string path, string json, byte[] binary)
    {
        var header = Encoding.UTF8.GetBytes(json);
        return PostAsync(client, path, [.. header, .. binary], (HeaderLength, header.Length.ToString(CultureInfo.InvariantCulture)));
    }
}
