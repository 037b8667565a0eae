using Amazon.DynamoDBv2;
using Amazon.Runtime;
using Amazon.Runtime.Internal;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>The SDK's client as we use it. Region, credentials and <c>AWS_ENDPOINT_URL</c> come from where the SDK always looks for them.</summary>
public static class DynamoClient
{
    /// <param name="configure">Has the last word on the SDK's settings.</param>
    /// <exception cref="StoreException">No region is set.</exception>
    public static AmazonDynamoDBClient Connect(DynamoOptions options, Action<AmazonDynamoDBConfig>? configure = null)
    {
        try
        {
            var config = new AmazonDynamoDBConfig { Timeout = options.AttemptTimeout, MaxErrorRetry = 1 };
            configure?.Invoke(config);
            return new Client(config);
        }
        catch (AmazonClientException e)
        {
            throw new StoreException($"can't use DynamoDB: {e.Message}. Set AWS_REGION, or AWS_ENDPOINT_URL for a service that stands in for it.", e);
        }
    }

    private sealed class Client(AmazonDynamoDBConfig config) : AmazonDynamoDBClient(config)
    {
        protected override void CustomizeRuntimePipeline(RuntimePipeline pipeline)
        {
            base.CustomizeRuntimePipeline(pipeline);
            pipeline.ReplaceHandler<RetryHandler>(new RetryHandler(new ClockPolicy(Config)));
        }
    }

    /// <summary>
    /// Leaves one retry to the SDK, that after it has set its clock right, which nobody else can. For the rest we retry ourselves: the SDK knows neither our clock and seed,
    /// nor why a transaction was cancelled.
    /// </summary>
    private sealed class ClockPolicy(IClientConfig config) : StandardRetryPolicy(config)
    {
        public override bool RetryForException(IExecutionContext executionContext, Exception exception) => false;

        public override Task<bool> RetryForExceptionAsync(IExecutionContext executionContext, Exception exception) => Task.FromResult(false);
    }
}
