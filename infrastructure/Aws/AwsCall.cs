using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Amazon.Runtime;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>Makes calls of the SDK the one way we use them: within a total limit, and failures as <see cref="StoreException"/> that say what to do.</summary>
internal static class AwsCall
{
    /// <param name="what">What is being done, to follow "can't": <c>read 's3://bucket/key'</c>.</param>
    /// <param name="limit">For all attempts and the pauses between them. The SDK bounds each attempt up to the answer's headers only.</param>
    /// <exception cref="StoreException">It failed; the SDK's exception is inside.</exception>
    public static async Task<T> RunAsync<T>(string what, TimeSpan limit, Func<CancellationToken, Task<T>> call, CancellationToken cancellation)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limited.CancelAfter(limit);
        try
        {
            return await call(limited.Token);
        }
        catch (Exception e) when (IsExpected(e) && !cancellation.IsCancellationRequested)
        {
            throw new StoreException($"can't {what}: {Explain(e, limit)}", e);
        }
    }

    /// <returns>How AWS refused the call, null when it was something else that failed.</returns>
    public static AmazonServiceException? Refusal(this StoreException e) => e.InnerException as AmazonServiceException;

    public static bool Is(this StoreException e, HttpStatusCode status) => e.Refusal()?.StatusCode == status;

    /// <summary>Whether this is the network or AWS rather than a bug of ours.</summary>
    public static bool IsExpected(Exception e) =>
        e is AmazonServiceException or AmazonClientException or HttpRequestException or IOException or SocketException or TimeoutException or OperationCanceledException or JsonException;

    private static string Explain(Exception e, TimeSpan limit) => e switch
    {
        AmazonServiceException { ErrorCode: "NoSuchBucket" } => "there is no such bucket; create it or correct the setting",
        AmazonServiceException { ErrorCode: "QueueDoesNotExist" or "AWS.SimpleQueueService.NonExistentQueue" } =>
            "there is no such queue; create it, or correct the setting, AWS_REGION or the account",
        AmazonServiceException { ErrorCode: "InvalidAccessKeyId" or "SignatureDoesNotMatch" or "InvalidClientTokenId" or "UnrecognizedClientException" or "InvalidSignatureException" } refused =>
            $"AWS does not accept the credentials ({refused.ErrorCode}); correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role",
        AmazonServiceException { ErrorCode: "ExpiredToken" or "ExpiredTokenException" } => "the credentials have expired; renew them",
        AmazonServiceException { ErrorCode: "RequestTimeTooSkewed" } => "the clock of this machine is wrong; set it",
        AmazonServiceException { ErrorCode: "PermanentRedirect" or "AuthorizationHeaderMalformed" or "IllegalLocationConstraintException" } elsewhere =>
            $"it is in another region ({elsewhere.ErrorCode}); set AWS_REGION",
        AmazonServiceException { StatusCode: HttpStatusCode.Forbidden } denied => $"access is denied ({Detail(denied)}); allow it in the policy of the role or user",
        AmazonServiceException { StatusCode: HttpStatusCode.ServiceUnavailable or HttpStatusCode.TooManyRequests } busy => $"AWS asks to slow down ({Detail(busy)}); try again later",
        AmazonServiceException { StatusCode: >= HttpStatusCode.InternalServerError } failed => $"AWS failed ({Detail(failed)}); try again later",
        AmazonServiceException { ErrorCode: { Length: > 0 } } refused => Detail(refused),
        OperationCanceledException or TimeoutException => $"no whole answer within the limit ({limit.TotalSeconds:0} s for all attempts); try again later, or check the network and AWS_ENDPOINT_URL",
        AmazonClientException or AmazonServiceException when e.Message.Contains("credentials", StringComparison.OrdinalIgnoreCase) =>
            "there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the function a role",
        JsonException => $"the answer is damaged: {e.Message}",
        _ => $"the connection failed: {e.Message}; check the network and AWS_ENDPOINT_URL",
    };

    private static string Detail(AmazonServiceException e) => string.IsNullOrEmpty(e.ErrorCode) ? $"{(int)e.StatusCode}: {e.Message}" : $"{e.ErrorCode}: {e.Message}";
}
