using System.Net;
using Amazon.DynamoDBv2;
using Amazon.DynamoDBv2.Model;
using Amazon.Runtime;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>What was consumed, as the service counted it. It bills refused transactions and lost answers too, and does not tell.</summary>
public readonly record struct CapacityUnits(double Read, double Write)
{
    public static CapacityUnits operator +(CapacityUnits a, CapacityUnits b) => new(a.Read + b.Read, a.Write + b.Write);

    public static CapacityUnits operator -(CapacityUnits a, CapacityUnits b) => new(a.Read - b.Read, a.Write - b.Write);
}

/// <summary>Calls about one table: every attempt limited in time, passing failures repeated after a wait, lasting ones in our words, and the units added up.</summary>
internal sealed class DynamoCalls(IAmazonDynamoDB client, string table, DynamoOptions options, TimeProvider time, Random random)
{
    private readonly Lock _lock = new();
    private CapacityUnits _consumed;

    public CapacityUnits Consumed
    {
        get { lock (_lock) return _consumed; }
    }

    /// <param name="what">Completes "can't …".</param>
    /// <param name="call">Must be safe to repeat: an attempt without an answer may have been carried out.</param>
    /// <exception cref="StoreException">It failed for good, or too often.</exception>
    public async Task<T> RunAsync<T>(string what, Func<IAmazonDynamoDB, CancellationToken, Task<T>> call, CancellationToken cancellation)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return await AttemptAsync(call, cancellation);
            }
            catch (Exception e) when (IsOfTheService(e))
            {
                if (attempt == options.MostAttempts || !IsPassing(e))
                {
                    throw new StoreException($"can't {what} (DynamoDB table '{table}', attempt {attempt} of {options.MostAttempts}): {e.Message.TrimEnd('.')}. {AdviceOn(e)}", e);
                }
            }
            await PauseAsync(attempt, cancellation);
        }
    }

    /// <summary>Waits before attempt <paramref name="attempt"/> + 1.</summary>
    public Task PauseAsync(int attempt, CancellationToken cancellation)
    {
        var longest = Math.Min(options.LongestDelay.TotalMilliseconds, options.FirstDelay.TotalMilliseconds * Math.Pow(2, attempt - 1));
        double jitter;
        lock (_lock) jitter = random.NextDouble();
        return Task.Delay(TimeSpan.FromMilliseconds(jitter * longest), time, cancellation);
    }

    /// <returns>What was counted.</returns>
    public CapacityUnits CountRead(params IEnumerable<ConsumedCapacity?>? consumed) => Count(consumed, units => new CapacityUnits(units.CapacityUnits ?? 0, 0));

    /// <summary>A transaction that had been carried out before, and is only told so again, is billed as a read.</summary>
    /// <returns>What was counted.</returns>
    public CapacityUnits CountWrite(params IEnumerable<ConsumedCapacity?>? consumed) => Count(consumed, units => units.ReadCapacityUnits is { } read
        ? new CapacityUnits(read, units.WriteCapacityUnits ?? 0)
        : new CapacityUnits(0, units.CapacityUnits ?? 0));

    private CapacityUnits Count(IEnumerable<ConsumedCapacity?>? consumed, Func<ConsumedCapacity, CapacityUnits> unitsOf)
    {
        var counted = (consumed ?? []).OfType<ConsumedCapacity>().Aggregate(default(CapacityUnits), (sum, one) => sum + unitsOf(one));
        lock (_lock) _consumed += counted;
        return counted;
    }

    private async Task<T> AttemptAsync<T>(Func<IAmazonDynamoDB, CancellationToken, Task<T>> call, CancellationToken cancellation)
    {
        using var timeout = new CancellationTokenSource(options.AttemptTimeout, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout.Token, cancellation);
        try
        {
            // Waited for apart, because the SDK does not look at the token everywhere.
            return await call(client, either.Token).WaitAsync(either.Token);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new TimeoutException($"there was no answer within {options.AttemptTimeout.TotalSeconds:0.###} s", e);
        }
    }

    /// <summary>Anything else is a bug of ours, or a cancellation, and goes its way.</summary>
    private static bool IsOfTheService(Exception e) => e is AmazonServiceException or AmazonClientException or HttpRequestException or IOException or TimeoutException;

    private static bool IsPassing(Exception e) => e switch
    {
        TransactionCanceledException cancelled => cancelled.CancellationReasons.All(reason => reason.Code is "None" or "TransactionConflict" or "ThrottlingError" or "ProvisionedThroughputExceeded"),
        AmazonUnmarshallingException => true, // an answer that broke off
        AmazonServiceException service => IsThrottling(e) || service.ErrorCode is "TransactionInProgressException" || service.StatusCode is 0 or >= HttpStatusCode.InternalServerError,
        AmazonClientException => e.InnerException is HttpRequestException or IOException,
        _ => true,
    };

    /// <remarks>By code, because the SDK has a type for it only where an operation declares it.</remarks>
    private static bool IsThrottling(Exception e) => e is AmazonServiceException { ErrorCode: "ProvisionedThroughputExceededException" or "ThrottlingException" or "RequestLimitExceeded" };

    private static string AdviceOn(Exception e) => e switch
    {
        ResourceNotFoundException => "Create the table, or correct its name in SKIFF_STATE or the region in AWS_REGION.",
        _ when IsThrottling(e) => "It is asked for more than it may serve: raise the table's limits, or send less at a time. Trying again is safe.",
        AmazonServiceException { ErrorCode: "AccessDeniedException" } => "Allow the role dynamodb:GetItem, Query, BatchGetItem, PutItem, DeleteItem, ConditionCheckItem and Scan on the table.",
        AmazonServiceException { StatusCode: HttpStatusCode.BadRequest or HttpStatusCode.Forbidden, ErrorCode: "UnrecognizedClientException" or "InvalidSignatureException" or "ExpiredTokenException" or "MissingAuthenticationTokenException" } =>
            "Check the AWS credentials and this machine's clock.",
        AmazonClientException when !IsPassing(e) => "Check the AWS credentials: the environment, the profile or the role.",
        _ when IsPassing(e) => "Check the network, AWS_REGION and AWS_ENDPOINT_URL. Trying again is safe: what was carried out unheard is not carried out twice.",
        _ => "Trying again will not help.",
    };
}
