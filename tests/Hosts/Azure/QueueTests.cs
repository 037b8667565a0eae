using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Skiff.Azure;
using Skiff.Support;

namespace Skiff.Hosts.Azure;

/// <summary>A function of a queue, as the Functions host invokes it.</summary>
public sealed class QueueTests
{
    private const string Item = """{"a":"ü 世"}""";

    public static TheoryData<string, string> Forms => new()
    {
        { "as the documentation has it", Quoted(Item) },
        { "as the host writes it", Quoted(Quoted(Item)) },
        { "in base64", Quoted(InBase64) },
        { "in base64, as the host writes it", Quoted(Quoted(InBase64)) },
        { "as an object", Item },
    };

    [Theory, MemberData(nameof(Forms))]
    public async Task Item_IsDecoded(string form, string item)
    {
        var handled = new List<QueueItem>();
        await using var host = await Host.StartAsync((item, _) =>
        {
            handled.Add(item);
            return Task.CompletedTask;
        });

        var (status, text) = await host.InvokeAsync($$$"""{"Data":{"item":{{{item}}}},"Metadata":{"Id":"\"m1\"","DequeueCount":"3","sys":{"MethodName":"feedback"} } }""");

        Assert.True(status == 200, $"{form}: {text}");
        Assert.Equal("""{"Outputs":{},"Logs":["item m1 was handled, delivery 3"],"ReturnValue":null}""", text);
        var only = Assert.Single(handled);
        Assert.Equal(Item, Encoding.UTF8.GetString(only.Json.Span));
        Assert.Equal(("m1", 3), (only.MessageId, only.DequeueCount));
    }

    [Theory]
    [InlineData("""{"Data":{"item":""", "not JSON")]
    [InlineData("", "not JSON")]
    [InlineData("[]", "no 'Data'")]
    [InlineData("""{"Metadata":{}}""", "no 'Data'")]
    [InlineData("""{"Data":null}""", "no 'Data'")]
    [InlineData("""{"Data":{}}""", "'Data' is empty")]
    [InlineData("""{"Data":{"a":"{}","b":"{}"}}""", "several")]
    [InlineData("""{"Data":{"item":null}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":7}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":"[1]"}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":"secret"}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":"\"secret"}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":"{\"secret\""}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":"c2VjcmV0"}}""", "not a JSON object")]
    [InlineData("""{"Data":{"item":"\ud800"}}""", "not text")]
    public async Task MalformedInvocation_IsRefusedWithTheReason(string body, string reason)
    {
        await using var host = await Host.StartAsync((_, _) => throw new InvalidOperationException("nothing to handle"));

        var (status, text) = await host.InvokeAsync(body);

        Assert.Equal(400, status);
        Assert.Contains(reason, JsonDocument.Parse(text).RootElement.GetProperty("error").GetString());
        Assert.DoesNotContain("secret", text);
    }

    [Fact]
    public async Task ItemThatCanNotBeHandled_FailsWithTheReason()
    {
        await using var host = await Host.StartAsync((_, _) => throw new JsonException("no 'tenant'"));

        var (status, text) = await host.InvokeAsync("""{"Data":{"item":"{}"}}""");

        Assert.Equal((400, "no 'tenant'"), (status, JsonDocument.Parse(text).RootElement.GetProperty("error").GetString()));
    }

    [Fact]
    public async Task FailureThatMayPass_FailsTheInvocationSoThatItComesAgain()
    {
        await using var host = await Host.StartAsync((_, _) => throw new IOException("the store is at /secret"));

        var (status, text) = await host.InvokeAsync("""{"Data":{"item":"{}"}}""");

        Assert.Equal(500, status);
        Assert.DoesNotContain("secret", text);
    }

    [Theory]
    [InlineData("X-Forwarded-For", "127.0.0.1")]
    [InlineData("x-forwarded-host", "127.0.0.1")]
    [InlineData("Forwarded", "for=127.0.0.1")]
    [InlineData("x-ms-invocation-id", "1")]
    [InlineData("X-Azure-Functions-InvocationId", "a second one")]
    public async Task RequestOfAClient_IsRefused(string header, string value)
    {
        await using var host = await Host.StartAsync((_, _) => throw new InvalidOperationException("handled"));

        var (status, text) = await host.InvokeAsync("""{"Data":{"item":"{}"}}""", (header, value));

        Assert.Equal(403, status);
        Assert.Contains("only the Functions host", text);
    }

    [Fact]
    public async Task RequestWithoutAnInvocationId_IsRefused()
    {
        await using var host = await Host.StartAsync((_, _) => throw new InvalidOperationException("handled"));

        (await HttpAnswer.PostAsync(host.Client, "/feedback", """{"Data":{"item":"{}"}}""")).AssertRefused(403, "only the Functions host");
    }

    [Fact]
    public async Task ElsewhereThanOnAzure_NothingIsMapped()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.AddAzureHosting();
        await using var app = builder.Build();
        app.MapQueue("feedback", (_, _) => Task.CompletedTask);

        Assert.Empty(((Microsoft.AspNetCore.Routing.IEndpointRouteBuilder)app).DataSources.SelectMany(source => source.Endpoints));
    }

    private static string InBase64 => Convert.ToBase64String(Encoding.UTF8.GetBytes(Item));

    private static string Quoted(string text) => JsonSerializer.Serialize(text);

    /// <summary>An application under a Functions host, in this process.</summary>
    private sealed class Host(WebApplication app, HttpClient client) : IAsyncDisposable
    {
        public HttpClient Client => client;

        public static async Task<Host> StartAsync(QueueHandler handler)
        {
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            // A port that the Functions host did not name is not listened on.
            builder.Configuration["Kestrel:Endpoints:Http:Url"] = "http://0.0.0.0:1";
            builder.Configuration["urls"] = "http://0.0.0.0:1";
            builder.AddAzureHosting(new AzureOptions { Port = 0 });
            var app = builder.Build();
            app.MapQueue("feedback", handler);
            await app.StartAsync();
            var address = new Uri(Assert.Single(app.Urls));
            Assert.Equal("127.0.0.1", address.Host);
            return new Host(app, new HttpClient { BaseAddress = address });
        }

        public Task<(int Status, string Text)> InvokeAsync(string json, params (string Name, string Value)[] headers) => AzureFunctionsHost.InvokeAsync(client, "feedback", json, headers);

        public async ValueTask DisposeAsync()
        {
            client.Dispose();
            await app.StopAsync();
            await app.DisposeAsync();
        }
    }
}
