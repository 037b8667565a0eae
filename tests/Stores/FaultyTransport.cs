using System.Net;
using System.Text;
using Amazon.Runtime;

namespace Skiff.Stores;

/// <summary>A request on its way, as a fault sees it.</summary>
/// <param name="Operation">The service's name of it: <c>GetItem</c>, <c>TransactWriteItems</c>…</param>
/// <param name="Number">1 for the first of this operation.</param>
/// <param name="SendAsync">Has the service carry it out.</param>
public sealed record FaultyCall(string Operation, int Number, HttpRequestMessage Request, Func<Task<HttpResponseMessage>> SendAsync);

/// <summary>What stands between the SDK and DynamoDB and spoils what a test says; the rest passes.</summary>
/// <param name="fault">Null lets a call pass.</param>
public sealed class FaultyTransport(Func<FaultyCall, Task<HttpResponseMessage>?> fault) : HttpClientFactory
{
    private readonly Dictionary<string, int> _numbers = [];

    public override HttpClient CreateHttpClient(IClientConfig clientConfig) => new(new Handler(this));

    public override bool UseSDKHttpClientCaching(IClientConfig clientConfig) => false;

    public override bool DisposeHttpClientsAfterUse(IClientConfig clientConfig) => true;

    public int CountOf(string operation)
    {
        lock (_numbers) return _numbers.GetValueOrDefault(operation);
    }

    public static Task<HttpResponseMessage> Refuse(string error, string more = "", HttpStatusCode status = HttpStatusCode.BadRequest) =>
        Answer(status, $$"""{"__type":"com.amazonaws.dynamodb.v20120810#{{error}}","message":"as the test says"{{more}}}""");

    public static Task<HttpResponseMessage> Answer(HttpStatusCode status, string json) => Task.FromResult(new HttpResponseMessage(status)
    {
        Content = new StringContent(json, Encoding.UTF8, "application/x-amz-json-1.0"),
    });

    private sealed class Handler(FaultyTransport owner) : DelegatingHandler(new SocketsHttpHandler())
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellation)
        {
            var operation = request.Headers.GetValues("X-Amz-Target").Single().Split('.')[1];
            int number;
            lock (owner._numbers) owner._numbers[operation] = number = owner._numbers.GetValueOrDefault(operation) + 1;
            return owner.Fault(new FaultyCall(operation, number, request, () => base.SendAsync(request, cancellation))) ?? base.SendAsync(request, cancellation);
        }
    }

    private Task<HttpResponseMessage>? Fault(FaultyCall call) => fault(call);
}
