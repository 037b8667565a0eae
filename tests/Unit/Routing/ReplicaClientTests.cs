using System.Net;
using System.Text;
using Microsoft.AspNetCore.Http;
using Skiff.Routing;

namespace Skiff.Unit.Routing;

/// <summary>The client before replicas that do as they are told.</summary>
public sealed class ReplicaClientTests : IDisposable
{
    private readonly StubReplicas _replicas = new();
    private readonly HttpMessageInvoker _http;

    public ReplicaClientTests() => _http = new HttpMessageInvoker(_replicas);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _http.Dispose();

    [Fact]
    public async Task ReplicaThatNobodyListensAt_AnotherAnswers_AndItIsLeftOut()
    {
        var (router, client) = Client();
        var owner = await OwnerAsync(client);
        _replicas.Behave[owner.Authority] = (_, _) => throw new HttpRequestException(HttpRequestError.ConnectionError);

        foreach (var isSafe in new[] { false, true })
        {
            using var reply = await client.SendAsync(Request(isSafe), Cancellation);
            Assert.NotEqual(owner, reply.Replica.Address);
        }
        Assert.Equal(1, router.Replicas.Replicas.ToArray().Count(replica => replica.IsOut));
    }

    [Fact]
    public async Task ReplicaThatBreaksOff_IsAskedElsewhereOnlyWhenThatIsSafe()
    {
        var (_, client) = Client();
        var owner = await OwnerAsync(client);
        _replicas.Behave[owner.Authority] = (_, _) => throw new HttpRequestException(HttpRequestError.ResponseEnded);

        using (var reply = await client.SendAsync(Request(), Cancellation)) Assert.NotEqual(owner, reply.Replica.Address);
        var refused = await Assert.ThrowsAsync<RequestException>(() => client.SendAsync(Request(isSafe: false), Cancellation));
        Assert.Equal(Refusal.Unavailable, refused.Refusal);
    }

    [Fact]
    public async Task FullReplica_AnotherAnswers_AllFull_TheirWordIsHandedOn_AndNoneIsLeftOut()
    {
        var (router, client) = Client();
        var owner = await OwnerAsync(client);
        _replicas.Behave[owner.Authority] = (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.ServiceUnavailable));
        using (var reply = await client.SendAsync(Request(), Cancellation)) Assert.NotEqual(owner, reply.Replica.Address);

        _replicas.Otherwise = (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.ServiceUnavailable));
        for (var i = 0; i < 5; i++)
        {
            using var reply = await client.SendAsync(Request(), Cancellation);
            Assert.Equal(HttpStatusCode.ServiceUnavailable, reply.Response.StatusCode);
        }
        Assert.DoesNotContain(router.Replicas.Replicas.ToArray(), replica => replica.IsOut || replica.InFlight != 0);
    }

    [Fact]
    public async Task ReplicasOwnErrors_AreHandedOnAndNotAskedFor_Again()
    {
        var (router, client) = Client();
        _replicas.Otherwise = (_, _) => Task.FromResult(new HttpResponseMessage(HttpStatusCode.InternalServerError));
        for (var i = 0; i < 10; i++)
        {
            using var reply = await client.SendAsync(Request(), Cancellation);
            Assert.Equal(HttpStatusCode.InternalServerError, reply.Response.StatusCode);
        }
        Assert.Equal(10, _replicas.Asked);
        Assert.DoesNotContain(router.Replicas.Replicas.ToArray(), replica => replica.IsOut);
    }

    [Fact]
    public async Task HungReplica_AnotherIsAskedBesides_AndItIsLeftOutAfterThreeTimes()
    {
        var (router, client) = Client();
        var owner = await OwnerAsync(client);
        for (var i = 0; i < 64; i++) (await client.SendAsync(Request(), Cancellation)).Dispose();
        var cancelled = 0;
        _replicas.Behave[owner.Authority] = async (_, cancellation) =>
        {
            try
            {
                await Task.Delay(Timeout.Infinite, cancellation);
            }
            finally
            {
                Interlocked.Increment(ref cancelled);
            }
            return new HttpResponseMessage();
        };

        // One key has its share there only, so that some requests go elsewhere from the start.
        for (var i = 0; i < 60; i++)
        {
            using var reply = await client.SendAsync(Request(), Cancellation);
            Assert.NotEqual(owner, reply.Replica.Address);
        }
        Assert.True(router.Replicas.Replicas.ToArray().Single(replica => replica.Address == owner).IsOut);
        await Support.Eventually.HoldsAsync("what nobody waits for is cancelled", () => Task.FromResult(Volatile.Read(ref cancelled) == 3));
        Assert.DoesNotContain(router.Replicas.Replicas.ToArray(), replica => replica.InFlight != 0);
    }

    [Fact]
    public async Task AllButOneHung_TheOneAnswers()
    {
        var (router, client) = Client();
        for (var i = 0; i < 64; i++) (await client.SendAsync(Request(), Cancellation)).Dispose();
        var owner = await OwnerAsync(client);
        var well = router.Replicas.Replicas.ToArray().First(replica => replica.Address != owner).Address;
        _replicas.Otherwise = async (_, cancellation) =>
        {
            await Task.Delay(Timeout.Infinite, cancellation);
            return new HttpResponseMessage();
        };
        _replicas.Behave[well.Authority] = (_, _) => Task.FromResult(new HttpResponseMessage());

        for (var i = 0; i < 10; i++)
        {
            using var reply = await client.SendAsync(Request(), Cancellation);
            Assert.Equal(well, reply.Replica.Address);
        }
    }

    [Fact]
    public async Task ReplicaThatIsBack_IsTriedWithCopiesThatNobodyWaitsFor_OrWithWhatCannotBeCopied()
    {
        var (router, client) = Client();
        var owner = await OwnerAsync(client);
        var replica = router.Replicas.Replicas.ToArray().Single(replica => replica.Address == owner);
        var held = new TaskCompletionSource<HttpResponseMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        var copies = 0;
        _replicas.Behave[owner.Authority] = (_, _) =>
        {
            copies++;
            return held.Task;
        };
        router.Returned(replica);
        for (var i = 0; i < 5; i++)
        {
            using var reply = await client.SendAsync(Request(), Cancellation);
            Assert.NotEqual(owner, reply.Replica.Address);
        }
        Assert.Equal((1, 1), (copies, replica.InFlight));

        held.SetResult(new HttpResponseMessage());
        _replicas.Behave.Remove(owner.Authority);
        await Support.Eventually.HoldsAsync("it is back", async () =>
        {
            for (var i = 0; i < 100; i++) (await client.SendAsync(Request(), Cancellation)).Dispose();
            return !replica.IsOut;
        });

        router.Returned(replica);
        using var itself = await client.SendAsync(Request(isSafe: false), Cancellation);
        Assert.Equal(owner, itself.Replica.Address);
    }

    [Fact]
    public async Task NobodyAnswersInTime_DeadlineExceeded()
    {
        var (router, client) = Client();
        _replicas.Otherwise = async (_, cancellation) =>
        {
            await Task.Delay(Timeout.Infinite, cancellation);
            return new HttpResponseMessage();
        };
        var refused = await Assert.ThrowsAsync<RequestException>(() => client.SendAsync(Request() with { TimeLeft = TimeSpan.FromMilliseconds(30) }, Cancellation));

        Assert.Equal(Refusal.DeadlineExceeded, refused.Refusal);
        Assert.DoesNotContain(router.Replicas.Replicas.ToArray(), replica => replica.InFlight != 0);
    }

    [Fact]
    public async Task CallerLeaves_NothingIsHeldAgainstTheReplica()
    {
        var (router, client) = Client();
        using var leaves = new CancellationTokenSource();
        _replicas.Otherwise = async (_, cancellation) =>
        {
            await leaves.CancelAsync();
            await Task.Delay(Timeout.Infinite, cancellation);
            return new HttpResponseMessage();
        };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.SendAsync(Request(), leaves.Token));
        Assert.DoesNotContain(router.Replicas.Replicas.ToArray(), replica => replica.InFlight != 0 || replica.IsOut);
    }

    [Fact]
    public async Task Forwarded_BodyHeadersAndAnswerAreTheSameBytes_AndOursStayAmongUs()
    {
        var time = new ManualTime();
        var signature = new CallerSignature(["a secret of some length"], time);
        var router = Router();
        var forwarder = new Forwarder(new ReplicaClient(router, _http, signature, TimeProvider.System));
        byte[] tensor = [.. Enumerable.Range(0, 5000).Select(i => (byte)(i * 7))];
        HttpRequestMessage? seen = null;
        byte[] arrived = [];
        _replicas.Otherwise = async (message, cancellation) =>
        {
            seen = message;
            arrived = await message.Content!.ReadAsByteArrayAsync(cancellation);
            var response = new HttpResponseMessage(HttpStatusCode.OK) { Content = new ByteArrayContent(arrived) };
            response.Headers.Add(ReplicaReport.LoadHeader, "0.5");
            response.Headers.Add(ReplicaReport.WarmHeader, "t/m");
            response.Headers.Add("X-Answer", "yes");
            return response;
        };
        var context = new DefaultHttpContext();
        (context.Request.Method, context.Request.Path, context.Request.QueryString) = ("POST", "/v2/models/a b/infer", new QueryString("?x=%2F"));
        (context.Request.Body, context.Request.ContentLength, context.Request.ContentType) = (new MemoryStream(tensor), tensor.Length, "application/octet-stream");
        context.Request.Headers["Inference-Header-Content-Length"] = "17";
        context.Request.Headers["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        context.Request.Headers["tracestate"] = "vendor=1";
        context.Request.Headers["Connection"] = "close, X-Hop";
        context.Request.Headers["X-Hop"] = "1";
        context.Request.Headers[CallerSignature.Header] = "1;forged";
        using var answer = new MemoryStream();
        context.Response.Body = answer;

        await forwarder.ForwardAsync(context, _ => ValueTask.FromResult(5UL), RouteKey.OfModel("t", "m"), isSafe: true, TimeSpan.FromSeconds(3));

        Assert.Equal(tensor, arrived);
        Assert.Equal(tensor, answer.ToArray());
        Assert.Equal("/v2/models/a%20b/infer?x=%2F", seen!.RequestUri!.PathAndQuery);
        Assert.Equal(("17", "vendor=1"), (One("Inference-Header-Content-Length"), One("tracestate")));
        Assert.Matches("^00-4bf92f3577b34da6a3ce929d0e0e4736-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$", One("traceparent")); // the same trace, and a span of its own
        Assert.Equal("application/octet-stream", seen.Content!.Headers.ContentType!.ToString());
        Assert.False(seen.Headers.Contains("X-Hop") || seen.Headers.Contains("Connection"));
        var deadline = One(ReplicaClient.DeadlineHeader)!;
        Assert.InRange(int.Parse(deadline), 1, 3000);
        Assert.True(signature.IsValid(One(CallerSignature.Header), "POST", seen.RequestUri.Authority, seen.RequestUri.PathAndQuery, deadline, tensor));
        Assert.Equal("yes", context.Response.Headers["X-Answer"]);
        Assert.False(context.Response.Headers.ContainsKey(ReplicaReport.WarmHeader));
        Assert.Contains(router.Replicas.Replicas.ToArray(), replica => replica.Report is { Load: 0.5, Warm.Count: 1 });

        string? One(string name) => seen.Headers.TryGetValues(name, out var values) ? Assert.Single(values) : null;
    }

    [Fact]
    public void Signature_IsValidForThatRequestThereAndNow_AndForNothingElse()
    {
        var time = new ManualTime();
        var signature = new CallerSignature(["the new secret, long enough", "the old secret, long enough"], time);
        byte[] body = Encoding.UTF8.GetBytes("body");
        var header = signature.Sign("POST", "a:1", "/x", "50", body);
        bool IsValid(string? given, string method = "POST", string authority = "a:1", string target = "/x", string? deadline = "50", string? sent = "body") =>
            signature.IsValid(given, method, authority, target, deadline, sent is null ? (ReadOnlyMemory<byte>?)null : Encoding.UTF8.GetBytes(sent));

        Assert.True(IsValid(header));
        Assert.True(IsValid(new CallerSignature(["the old secret, long enough"], time).Sign("POST", "a:1", "/x", "50", body)));
        Assert.False(IsValid(new CallerSignature(["another secret, long enough"], time).Sign("POST", "a:1", "/x", "50", body)));
        Assert.False(IsValid(header, method: "PUT") || IsValid(header, authority: "a:2") || IsValid(header, target: "/y") || IsValid(header, deadline: "51") || IsValid(header, deadline: null) || IsValid(header, sent: "bodY") || IsValid(header, sent: null));
        var streamed = signature.Sign("POST", "a:1", "/x", "50", null);
        Assert.True(IsValid(streamed, sent: null));
        Assert.False(IsValid(streamed));
        foreach (var garbage in new[] { null, "", "1", ";;;", "1;x;y;z", "2" + header[1..], header + "A", header[..^3], new string('1', 10_000), "1;99999999999999999999;a;b" }) Assert.False(IsValid(garbage), garbage);
        time.Advance(TimeSpan.FromSeconds(61));
        Assert.False(IsValid(header));
    }

    [Theory]
    [InlineData("http://10.0.0.1:8080,http://10.0.0.2:8080", 2)]
    [InlineData("https://heavy.example", 1)]
    public async Task ListOfReplicas_IsRead(string value, int count) => Assert.Equal(count, (await ReplicaSources.Parse(value).FindAsync(Cancellation)).Count);

    [Theory]
    [InlineData("")]
    [InlineData("heavy:8080")]
    [InlineData("http://a:1/path")]
    [InlineData("dns://name")]
    [InlineData("dns://a:1,dns://b:2")]
    [InlineData("ftp://a")]
    [InlineData("http://user@a:1")]
    [InlineData("state")]
    public void WhatIsNoListOfReplicas_IsRefused(string value) => Assert.Throws<FormatException>(() => ReplicaSources.Parse(value));

    [Fact]
    public async Task NameThatStopsResolving_LeavesWhoWasThere_AndIsLookedUpAgainInTime()
    {
        var time = new ManualTime();
        var router = new Router(new RouterOptions(), time);
        Func<IPAddress[]> found = () => [IPAddress.Parse("10.0.0.1"), IPAddress.Parse("fd00::1")];
        var looks = 0;
        var membership = new Membership(router, new DnsReplicas("heavy", 8080, (_, _) =>
        {
            looks++;
            return Task.FromResult(found());
        }), time);

        await membership.RefreshDueAsync(Cancellation);
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal((1, 2), (looks, router.Replicas.Count));
        var before = router.Replicas;
        foreach (var next in new Func<IPAddress[]>[] { () => [], () => throw new System.Net.Sockets.SocketException(), () => [IPAddress.Parse("fd00::1"), IPAddress.Parse("10.0.0.1")] })
        {
            (found, _) = (next, 0);
            time.Advance(TimeSpan.FromSeconds(5));
            await membership.RefreshDueAsync(Cancellation);
            Assert.Same(before, router.Replicas);
        }
        Assert.Null(membership.Error);
        found = () => [IPAddress.Parse("10.0.0.1")];
        time.Advance(TimeSpan.FromSeconds(5));
        await membership.RefreshDueAsync(Cancellation);
        Assert.Equal((5, 1), (looks, router.Replicas.Count));
    }

    private static Router Router()
    {
        var router = new Router(new RouterOptions(), TimeProvider.System);
        router.Replace(Enumerable.Range(0, 4).Select(ReplicaSetTests.Address));
        return router;
    }

    private (Router Router, ReplicaClient Client) Client()
    {
        var router = Router();
        return (router, new ReplicaClient(router, _http, null, TimeProvider.System));
    }

    private static async Task<Uri> OwnerAsync(ReplicaClient client)
    {
        using var reply = await client.SendAsync(Request(), Cancellation);
        return reply.Replica.Address;
    }

    private static ForwardedRequest Request(bool isSafe = true) => new() { Method = HttpMethod.Post, Target = "/v2/models/m/infer", Key = 7, IsSafe = isSafe, Body = "{}"u8.ToArray() };

    private sealed class StubReplicas : HttpMessageHandler
    {
        private int _asked;

        public Dictionary<string, Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>>> Behave { get; } = [];
        public Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> Otherwise { get; set; } = (_, _) => Task.FromResult(new HttpResponseMessage());
        public int Asked => _asked;

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref _asked);
            return (Behave.GetValueOrDefault(request.RequestUri!.Authority) ?? Otherwise)(request, cancellationToken);
        }
    }
}
