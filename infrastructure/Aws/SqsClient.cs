using System.Net;
using System.Text.Json.Serialization;
using Amazon.Runtime;
using Amazon.Runtime.Credentials.Internal;
using Amazon.Runtime.Endpoints;
using Amazon.Runtime.Internal;
using Amazon.Runtime.Internal.Auth;
using Amazon.Runtime.Internal.Transform;
using Amazon.Runtime.Internal.Util;
using Amazon.Util.Internal;

namespace Skiff.Aws;

/// <summary>
/// The three operations of SQS that we need, by its JSON protocol over the SDK's own pipeline: credentials, region, <c>AWS_ENDPOINT_URL</c>, signing, standard retries and the
/// correction of a wrong clock are the SDK's. The SDK has a package for SQS; these lines stand in for it, because they are all that we would use of it.
/// </summary>
internal sealed class SqsClient(SqsConfig config) : AmazonServiceClient(config)
{
    /// <summary>Calls an operation with a JSON document and gives back the one that is answered.</summary>
    public async Task<byte[]> CallAsync(string operation, byte[] json, CancellationToken cancellation)
    {
        var options = new InvokeOptions { RequestMarshaller = Marshaller.Instance, ResponseUnmarshaller = Unmarshaller.Instance };
        return (await InvokeAsync<Response>(new Request(operation, json), options, cancellation)).Json;
    }

    protected override void CustomizeRuntimePipeline(RuntimePipeline pipeline) => pipeline.AddHandlerAfter<Amazon.Runtime.Internal.Marshaller>(new SignatureVersion4());

    private sealed class Request(string operation, byte[] json) : AmazonWebServiceRequest
    {
        public string Operation => operation;

        public byte[] Json => json;
    }

    private sealed class Response : AmazonWebServiceResponse
    {
        public byte[] Json { get; set; } = [];
    }

    private sealed class Marshaller : IMarshaller<IRequest, AmazonWebServiceRequest>
    {
        public static readonly Marshaller Instance = new();

        public IRequest Marshall(AmazonWebServiceRequest input)
        {
            var call = (Request)input;
            IRequest request = new DefaultRequest(input, SqsConfig.Service) { HttpMethod = "POST", ResourcePath = "/", Content = call.Json };
            request.Headers["X-Amz-Target"] = "AmazonSQS." + call.Operation;
            request.Headers["Content-Type"] = "application/x-amz-json-1.0";
            return request;
        }
    }

    private sealed class Unmarshaller : JsonResponseUnmarshaller
    {
        public static readonly Unmarshaller Instance = new();

        public override AmazonWebServiceResponse Unmarshall(JsonUnmarshallerContext context)
        {
            using var json = new MemoryStream();
            context.Stream.CopyTo(json);
            return new Response { Json = json.ToArray() };
        }

        public override AmazonServiceException UnmarshallException(JsonUnmarshallerContext context, Exception innerException, HttpStatusCode statusCode)
        {
            var reader = new StreamingUtf8JsonReader(context.Stream);
            var error = JsonErrorResponseUnmarshaller.GetInstance().Unmarshall(context, ref reader);
            return new AmazonServiceException(error.Message, innerException, error.Type, error.Code, error.RequestId, statusCode);
        }
    }

    private sealed class SignatureVersion4 : BaseAuthResolverHandler
    {
        protected override List<IAuthSchemeOption> ResolveAuthOptions(IExecutionContext executionContext) => AuthSchemeOption.DEFAULT_SIGV4;
    }
}

internal sealed class SqsConfig : ClientConfig
{
    public const string Service = "SQS";

    private static readonly DefaultConfiguration Defaults = new() { Name = DefaultConfigurationMode.Standard, RetryMode = RequestRetryMode.Standard };

    public SqsConfig()
        : base(new DefaultConfigurationProvider([Defaults]))
    {
        ServiceId = Service; // which makes AWS_ENDPOINT_URL_SQS work
        AuthenticationServiceName = "sqs";
        RetryMode = RequestRetryMode.Standard;
    }

    public override string RegionEndpointServiceName => "sqs";

    public override string ServiceVersion => "2012-11-05";

    public override string UserAgent { get; } = InternalSDKUtils.BuildUserAgentString(Service, "4.0");

    /// <summary>Where SQS is, without a slash at the end.</summary>
    public string Address => (string.IsNullOrEmpty(ServiceURL) ? $"https://sqs.{RegionEndpoint.SystemName}.{RegionEndpoint.PartitionDnsSuffix}" : ServiceURL).TrimEnd('/');

    public override Endpoint DetermineServiceOperationEndpoint(ServiceOperationEndpointParameters parameters) => new(Address);
}

internal sealed record SqsEntry
{
    public required string Id { get; init; }
    public string? MessageBody { get; init; }
    public string? MessageGroupId { get; init; }
    public string? MessageDeduplicationId { get; init; }
    public string? ReceiptHandle { get; init; }
}

internal sealed record SqsBatch(string QueueUrl, IReadOnlyList<SqsEntry> Entries);

internal sealed record SqsFailure(string Id, string Code, string? Message, bool SenderFault);

internal sealed record SqsBatchResult(IReadOnlyList<SqsFailure>? Failed);

internal sealed record SqsReceive(string QueueUrl, int MaxNumberOfMessages, int WaitTimeSeconds, int VisibilityTimeout);

internal sealed record SqsMessage(string MessageId, string ReceiptHandle, string Body);

internal sealed record SqsReceived(IReadOnlyList<SqsMessage>? Messages);

[JsonSourceGenerationOptions(DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(SqsBatch))]
[JsonSerializable(typeof(SqsBatchResult))]
[JsonSerializable(typeof(SqsReceive))]
[JsonSerializable(typeof(SqsReceived))]
internal sealed partial class SqsJson : JsonSerializerContext;
