using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Extensions;
using Microsoft.AspNetCore.Http.Features;
using Skiff.Hosts.Learning;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Lambda;

/// <summary>Events become requests, and answers become what the front ends read.</summary>
[Collection("Lambda")]
public sealed class HttpEventTests
{
    [Fact]
    public async Task SampleOfAnHttpApi_IsARequest()
    {
        await SeeAsync(LambdaEvents.HttpApi(), async http =>
        {
            Assert.Equal("POST", http.Request.Method);
            Assert.Equal("https://id.execute-api.us-east-1.amazonaws.com/my/path?parameter1=value1&parameter1=value2&parameter2=value", http.Request.GetEncodedUrl());
            Assert.Equal("value1,value2", http.Request.Query["parameter1"].ToString());
            Assert.Equal("value1,value2", http.Request.Headers["Header2"]);
            Assert.Equal(("a", "b"), (http.Request.Cookies["cookie1"], http.Request.Cookies["cookie2"]));
            Assert.Equal("192.0.2.1", http.Connection.RemoteIpAddress?.ToString());
            Assert.Equal(17, http.Request.ContentLength);
            Assert.Equal("Hello from Lambda", await ReadAsync(http));
            Assert.Equal("request-1", http.TraceIdentifier);
        });
    }

    [Fact]
    public async Task SampleOfAFunctionUrl_IsARequest()
    {
        await SeeAsync(LambdaEvents.FunctionUrl(), async http =>
        {
            Assert.Equal("GET", http.Request.Method);
            Assert.Equal("https://url-id.lambda-url.us-west-2.on.aws/my/path?parameter1=value1", http.Request.GetEncodedUrl());
            Assert.Equal("a", http.Request.Cookies["cookie1"]);
            Assert.Equal("", await ReadAsync(http));
            Assert.False(http.Features.GetRequiredFeature<IHttpRequestBodyDetectionFeature>().CanHaveBody);
        });
    }

    [Theory]
    [InlineData("prod", "/prod/v2/models", "/prod", "/v2/models")]
    [InlineData("prod", "/prod", "/prod", "")]
    [InlineData("prod", "/production/x", "", "/production/x")]
    [InlineData("prod", "/v2/prod", "", "/v2/prod")]
    [InlineData("$default", "/$default/x", "", "/$default/x")]
    public async Task StageBeforeThePath_IsTheBase(string stage, string rawPath, string expectedBase, string expectedPath)
    {
        await SeeAsync(LambdaEvents.HttpApi(json => (json["rawPath"], json["requestContext"]!["stage"]) = (rawPath, stage)), http =>
        {
            Assert.Equal((expectedBase, expectedPath), (http.Request.PathBase.Value, http.Request.Path.Value));
            return Task.CompletedTask;
        });
    }

    [Theory]
    [InlineData("/a%20b/%C3%A9", "/a b/é")]
    [InlineData("/a%2Fb", "/a%2Fb")]
    [InlineData("/é", "/é")]
    public async Task EscapesInThePath_AreDecodedButForSlashes(string rawPath, string path)
    {
        await SeeAsync(LambdaEvents.HttpApi(json => json["rawPath"] = rawPath), http =>
        {
            Assert.Equal(path, http.Request.Path.Value);
            return Task.CompletedTask;
        });
    }

    // A function URL hands the path on as it came, an HTTP API decodes it: there a slash parts what it was escaped in.
    [Theory]
    [InlineData(true, "a%2Fb", "a/b")]
    [InlineData(true, "a%252Fb", "a%2Fb")]
    [InlineData(true, "a%20b", "a b")]
    [InlineData(true, "100%25", "100%")]
    [InlineData(false, "a%2Fb", "a%2Fb")]
    [InlineData(false, "a b", "a b")]
    [InlineData(false, "100%", "100%")]
    [InlineData(false, "50%41", null)]
    [InlineData(false, "a/b", null)]
    public async Task UserInThePath_IsFoundBehindEachFrontEnd(bool isFunctionUrl, string part, string? user)
    {
        var key = ApiKeys.Create("default", Scopes.All);
        await using var server = await SkiffServer.StartAsync(null, samples: false, ("SKIFF_API_KEYS", key.Entry));
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", key.Key);
        await EchoApp.PublishAsync(server.Server.Engine.Store);
        var app = new EchoApp(server.Client);
        foreach (var each in (string[])["a/b", "a%2Fb", "a b", "100%", "50A", "50%41"]) await app.FeedbackAsync($$"""{"user":"{{each}}","input":{{EchoApp.Input}},"label":"yes"}""");
        await using var host = await LambdaHost.StartAsync(server.Server.Engine.Map);

        var answer = await AnswerAsync(host, isFunctionUrl ? LambdaEvents.FunctionUrl(Asks) : LambdaEvents.HttpApi(Asks));

        Assert.True(answer.GetProperty("statusCode").GetInt32() == (user is not null ? 200 : part.Contains('/') ? 404 : 400), answer.ToString());
        if (user is not null) Assert.Equal(user, JsonDocument.Parse(answer.GetProperty("body").GetString()!).RootElement.GetProperty("user").GetString());

        void Asks(JsonObject json)
        {
            (json["rawPath"], json["requestContext"]!["http"]!["method"], json["body"]) = ($"/apps/echo/users/{part}", "GET", null);
            json["headers"]!["authorization"] = $"Bearer {key.Key}";
            json["isBase64Encoded"] = false;
        }
    }

    [Theory]
    [InlineData("X-Forwarded-For")]
    [InlineData("x-forwarded-host")]
    [InlineData("forwarded")]
    [InlineData("x-amzn-oidc-identity")]
    [InlineData("x-amz-security-token")]
    [InlineData("Connection")]
    [InlineData("transfer-encoding")]
    [InlineData("proxy-authorization")]
    public async Task HeaderThatIsNotTheCallersToSet_IsDropped(string name)
    {
        await SeeAsync(LambdaEvents.HttpApi(json => json["headers"]![name] = "forged"), http =>
        {
            Assert.DoesNotContain(http.Request.Headers, header => header.Value.ToString().Contains("forged", StringComparison.Ordinal));
            return Task.CompletedTask;
        });
    }

    [Fact]
    public async Task HostAndLengthOfTheCaller_AreReplaced()
    {
        await SeeAsync(LambdaEvents.HttpApi(json => (json["headers"]!["host"], json["headers"]!["content-length"]) = ("localhost", "1")), http =>
        {
            Assert.Equal("id.execute-api.us-east-1.amazonaws.com", http.Request.Host.Value);
            Assert.Equal(17, http.Request.ContentLength);
            return Task.CompletedTask;
        });
    }

    [Fact]
    public async Task TraceOfTheInvocation_IsHandedOn()
    {
        const string trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        await SeeAsync(LambdaEvents.HttpApi(), http =>
        {
            Assert.Equal(trace, http.Request.Headers["X-Amzn-Trace-Id"]);
            Assert.Equal("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01", http.Request.Headers.TraceParent);
            Assert.Equal(trace, Environment.GetEnvironmentVariable("_X_AMZN_TRACE_ID"));
            return Task.CompletedTask;
        }, trace);
    }

    [Fact]
    public async Task TraceParentOfTheCaller_Stays()
    {
        const string own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        await SeeAsync(LambdaEvents.HttpApi(json => json["headers"]!["traceparent"] = own), http =>
        {
            Assert.Equal(own, http.Request.Headers.TraceParent);
            return Task.CompletedTask;
        }, "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1");
    }

    [Theory]
    [InlineData("trace")]
    [InlineData("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")]
    [InlineData("Root=1-5759e988;Parent=53995c3f42cd8ad8;Sampled=1")]
    [InlineData(null)]
    public async Task TraceWithoutItsParts_IsNoTraceParent(string? trace)
    {
        await SeeAsync(LambdaEvents.HttpApi(), http =>
        {
            Assert.Equal(0, http.Request.Headers.TraceParent.Count);
            return Task.CompletedTask;
        }, trace);
    }

    [Fact]
    public async Task Base64Body_IsDecoded()
    {
        byte[] bytes = [.. Enumerable.Range(0, 256).Select(i => (byte)i)];
        await SeeAsync(LambdaEvents.HttpApi(json => (json["body"], json["isBase64Encoded"]) = (Convert.ToBase64String(bytes), true)), async http =>
        {
            using var body = new MemoryStream();
            await http.Request.Body.CopyToAsync(body);
            Assert.Equal(bytes, body.ToArray());
            Assert.Equal(256, http.Request.ContentLength);
        });
    }

    [Theory]
    [InlineData(1024, true, true)]
    [InlineData(1024, false, true)]
    [InlineData(1025, true, false)]
    [InlineData(1025, false, false)]
    [InlineData(1026, true, false)]
    public async Task Body_IsReadUpToTheLimit(int length, bool isBase64, bool fits)
    {
        var body = isBase64 ? Convert.ToBase64String(new byte[length]) : new string('\n', length);
        await using var host = await LambdaHost.StartAsync(async http =>
        {
            try
            {
                await ReadAsync(http);
            }
            catch (BadHttpRequestException e)
            {
                http.Response.StatusCode = e.StatusCode;
            }
        }, options => options with { MaxBodyBytes = 1024 });

        var answer = await AnswerAsync(host, LambdaEvents.HttpApi(json => (json["body"], json["isBase64Encoded"]) = (body, isBase64)));

        Assert.Equal(fits ? 200 : 413, answer.GetProperty("statusCode").GetInt32());
    }

    [Theory]
    [InlineData("text/plain", "plain é \" \\ \u0001", false)]
    [InlineData("application/json; charset=utf-8", """{"a":"é"}""", false)]
    [InlineData("application/problem+json", "{}", false)]
    [InlineData("image/svg+xml", "<svg/>", false)]
    [InlineData("application/octet-stream", "octets", true)]
    [InlineData("image/png", "png", true)]
    [InlineData("nonsense", "what", true)]
    [InlineData(null, "what", true)]
    [InlineData(null, "", false)]
    public async Task Answer_IsTextWhereItsTypeSaysSo(string? type, string body, bool isBase64)
    {
        await using var host = await LambdaHost.StartAsync(http =>
        {
            http.Response.ContentType = type;
            return http.Response.Body.WriteAsync(Encoding.UTF8.GetBytes(body)).AsTask();
        });

        var answer = await AnswerAsync(host, LambdaEvents.HttpApi());

        Assert.Equal(isBase64, answer.GetProperty("isBase64Encoded").GetBoolean());
        var text = answer.GetProperty("body").GetString()!;
        Assert.Equal(body, isBase64 ? Encoding.UTF8.GetString(Convert.FromBase64String(text)) : text);
    }

    [Theory]
    [InlineData("gzip", "text")]
    [InlineData(null, "\u00E9")]
    public async Task TextThatIsNotUtf8OrCompressed_IsBase64(string? encoding, string latin)
    {
        await using var host = await LambdaHost.StartAsync(http =>
        {
            http.Response.ContentType = "text/plain";
            http.Response.Headers.ContentEncoding = encoding;
            return http.Response.Body.WriteAsync(Encoding.Latin1.GetBytes(latin)).AsTask();
        });

        var answer = await AnswerAsync(host, LambdaEvents.HttpApi());

        Assert.True(answer.GetProperty("isBase64Encoded").GetBoolean());
        Assert.Equal(Encoding.Latin1.GetBytes(latin), answer.GetProperty("body").GetBytesFromBase64());
    }

    [Fact]
    public async Task HeadersAndCookies_AreInTheAnswer()
    {
        await using var host = await LambdaHost.StartAsync(http =>
        {
            http.Response.StatusCode = 201;
            http.Response.Headers.Append("X-Many", "a");
            http.Response.Headers.Append("X-Many", "b");
            http.Response.Headers.Connection = "close";
            http.Response.ContentLength = 0;
            http.Response.Cookies.Append("first", "1");
            http.Response.Cookies.Append("second", "2", new CookieOptions { HttpOnly = true });
            return Task.CompletedTask;
        });

        var answer = await AnswerAsync(host, LambdaEvents.HttpApi());

        Assert.Equal(201, answer.GetProperty("statusCode").GetInt32());
        Assert.Equal("""{"X-Many":"a,b"}""", answer.GetProperty("headers").GetRawText());
        Assert.Equal(["first=1; path=/", "second=2; path=/; httponly"], answer.GetProperty("cookies").EnumerateArray().Select(cookie => cookie.GetString()));
    }

    [Theory]
    [InlineData("""{"inputs":[1.5, 2]}""", """{\"inputs\":[1.5, 2]}""")]
    [InlineData("\"\\/\b\f\n\r\t", """\"\\\/\b\f\n\r\t""")]
    [InlineData("Aé€😀😀é", """\u0041\u00e9\u20AC\ud83d\uDE00😀é""")]
    [InlineData("\\u0041", """\\u0041""")]
    [InlineData("", "")]
    public async Task TextBody_IsUnescaped(string body, string json)
    {
        var @event = LambdaEvents.HttpApi(json => json["body"] = "BODY").Replace("BODY", json, StringComparison.Ordinal);

        await SeeAsync(@event, async http =>
        {
            using var reader = new StreamReader(http.Request.Body);
            Assert.Equal(body, await reader.ReadToEndAsync());
        });
    }

    [Fact]
    public async Task Head_HasNoBody()
    {
        await using var host = await LambdaHost.StartAsync(http => http.Response.WriteAsync("body"));

        var answer = await AnswerAsync(host, LambdaEvents.HttpApi(json => json["requestContext"]!["http"]!["method"] = "HEAD"));

        Assert.Equal("", answer.GetProperty("body").GetString());
    }

    [Fact]
    public async Task Callbacks_RunBeforeTheAnswerIsPosted()
    {
        var completed = false;
        await using var host = await LambdaHost.StartAsync(http =>
        {
            http.Response.OnStarting(() =>
            {
                http.Response.Headers["X-Late"] = "in time";
                return Task.CompletedTask;
            });
            http.Response.OnCompleted(() =>
            {
                completed = true;
                return Task.CompletedTask;
            });
            return Task.CompletedTask;
        });

        var answer = await AnswerAsync(host, LambdaEvents.HttpApi());

        Assert.Equal("in time", answer.GetProperty("headers").GetProperty("X-Late").GetString());
        Assert.True(completed);
    }

    [Fact]
    public async Task HeadersAfterTheStart_AreRefused()
    {
        await using var host = await LambdaHost.StartAsync(async http =>
        {
            await http.Response.WriteAsync("started");
            Assert.Throws<InvalidOperationException>(() => http.Response.StatusCode = 500);
            Assert.Throws<InvalidOperationException>(() => http.Response.Headers["X-Late"] = "late");
        });

        Assert.Equal("response", (await host.Api.InvokeAsync(LambdaEvents.HttpApi())).What);
    }

    [Theory]
    [InlineData("a\r\nset-cookie: x=y")]
    [InlineData("a\nb")]
    [InlineData("a\0b")]
    public async Task LineEndsInAnAnswersHeader_FailTheInvocation(string value)
    {
        await using var host = await LambdaHost.StartAsync(http =>
        {
            http.Response.Headers["X-Value"] = value;
            return Task.CompletedTask;
        });

        AssertFailed(await host.Api.InvokeAsync(LambdaEvents.HttpApi()), "InvalidOperationException", "'X-Value'");
    }

    public static TheoryData<string, string, string> Malformed => new()
    {
        { "headers", """{"header1":"a\r\nb"}""", "'header1' has line ends" },
        { "headers", """{"header1":"a\u0000"}""", "'header1' has line ends" },
        { "headers", """{"a b":"c"}""", "header whose name is none" },
        { "headers", """{"header1":1}""", "'header1' is not a string" },
        { "headers", "[]", "'headers' is not an object" },
        { "cookies", """["a=b\nc"]""", "'cookies' has line ends" },
        { "cookies", "7", "'cookies' is not an array" },
        { "rawPath", "null", "no 'rawPath'" },
        { "rawPath", "7", "'rawPath' is not a string" },
        { "rawPath", "\"v2\"", "'rawPath' does not begin with /" },
        { "rawPath", """ "/\ud800" """, "'rawPath' is not text" },
        { "body", "{}", "'body' is not a string" },
        { "body", """ "\ud800" """, "'body' is not text" },
        { "body", """ "\ud800\n" """, "'body' is not text" },
        { "body", """ "\udc00\ud800" """, "'body' is not text" },
        { "body", """ "\ud800\ud800" """, "'body' is not text" },
        { "isBase64Encoded", "true", "'body' should be base64" },
        { "requestContext", """{"http":{}}""", "no 'method'" },
        { "requestContext", """{"http":{"method":"GET /"}}""", "not an HTTP method" },
        { "requestContext", """{"http":[]}""", "no 'method'" },
        { "version", "\"1.0\"", "unknown kind" },
    };

    [Theory, MemberData(nameof(Malformed))]
    public async Task MalformedEvent_FailsTheInvocation(string member, string json, string reason)
    {
        await using var host = await LambdaHost.StartAsync(_ => Task.CompletedTask);
        const string place = "\"put here\"";
        var malformed = LambdaEvents.HttpApi(root => root[member] = "put here").Replace(place, json, StringComparison.Ordinal);

        AssertFailed(await host.Api.InvokeAsync(malformed), "InvalidEventException", reason);
        Assert.Equal("response", (await host.Api.InvokeAsync(LambdaEvents.HttpApi())).What);
    }

    [Theory]
    [InlineData("", "not JSON")]
    [InlineData("{", "not JSON")]
    [InlineData("[]", "not a JSON object")]
    [InlineData("{}", "unknown kind")]
    [InlineData("""{"version":"1.0","httpMethod":"GET","path":"/"}""", "payload format 1.0 (set PayloadFormatVersion to 2.0)")]
    [InlineData("""{"source":"aws.events","detail-type":"Scheduled Event"}""", "an event of \"aws.events\"")]
    [InlineData("""{"Records":[{"eventSource":"aws:s3"}]}""", "records of \"aws:s3\"")]
    [InlineData("""{"Records":[{"eventSource":"aws:sqs","messageId":"1","body":""}]}""", "records of \"aws:sqs\"")]
    [InlineData("""{"Records":[]}""", "unknown kind")]
    [InlineData("""{"Records":7}""", "unknown kind")]
    public async Task EventOfAnotherKind_FailsTheInvocation(string json, string reason)
    {
        await using var host = await LambdaHost.StartAsync(_ => Task.CompletedTask);

        AssertFailed(await host.Api.InvokeAsync(json), "InvalidEventException", reason);
    }

    internal static void AssertFailed(LambdaReport report, string type, string fragment)
    {
        Assert.True(report.What == "error", report.Text);
        Assert.Equal(type, report.Headers["Lambda-Runtime-Function-Error-Type"]);
        Assert.Equal(["errorMessage", "errorType", "stackTrace"], report.Json.EnumerateObject().Select(member => member.Name));
        Assert.Equal(type, report.Json.GetProperty("errorType").GetString());
        Assert.Contains(fragment, report.Json.GetProperty("errorMessage").GetString()!, StringComparison.Ordinal);
        Assert.Equal(0, report.Json.GetProperty("stackTrace").GetArrayLength());
    }

    private static async Task<JsonElement> AnswerAsync(LambdaHost host, string json)
    {
        var report = await host.Api.InvokeAsync(json);
        Assert.True(report.What == "response", report.Text);
        return report.Json;
    }

    private static async Task<string> ReadAsync(HttpContext http)
    {
        using var reader = new StreamReader(http.Request.Body);
        return await reader.ReadToEndAsync(http.RequestAborted);
    }

    /// <summary>Has a look at the request that an event becomes.</summary>
    private static async Task SeeAsync(string json, Func<HttpContext, Task> look, string? trace = null)
    {
        await using var host = await LambdaHost.StartAsync(http => look(http));
        var report = await host.Api.InvokeAsync(json, trace: trace);
        Assert.True(report.What == "response", report.Text);
    }
}
