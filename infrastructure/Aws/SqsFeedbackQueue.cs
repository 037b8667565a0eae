using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Amazon.Runtime;
using Skiff.Feedback;
using Skiff.Store;

namespace Skiff.Aws;

/// <summary>How the queue is used. Region, credentials and <c>AWS_MAX_ATTEMPTS</c> are the SDK's business.</summary>
public sealed record SqsOptions
{
    /// <summary>Null: where the SDK finds it, that is AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL, the profile, or else the region's.</summary>
    public Uri? Endpoint { get; init; }

    /// <summary>Bodies per batch, in bytes: what SQS takes since August 2025, 1 MiB. A queue with a smaller MaximumMessageSize refuses larger messages.</summary>
    public int BatchBytes { get; init; } = 1 << 20;

    /// <summary>
    /// How long a poll waits for messages, whole seconds, at most SQS's 20. Stopping waits as long, so it is less than the ten seconds that containers are given to stop;
    /// an idle process then polls half a million times a month, a quarter of a dollar.
    /// </summary>
    public TimeSpan Wait { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long a received message stays hidden from others, whole seconds; not completed by then it comes again, and its group waits for it.</summary>
    public TimeSpan Visibility { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Bounds one attempt at one request, on top of <see cref="Wait"/>. A request is given up after three (AWS_MAX_ATTEMPTS) and their pauses.</summary>
    public TimeSpan AttemptTimeout { get; init; } = TimeSpan.FromSeconds(10);

    internal SqsOptions Check()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(BatchBytes, 1024);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Wait, TimeSpan.FromSeconds(20));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Visibility, TimeSpan.FromHours(12));
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(AttemptTimeout, TimeSpan.Zero);
        return this;
    }
}

/// <summary>
/// Feedback in a FIFO queue of SQS, a message group for each user: one user's messages come in order, and a user whose learning fails holds up nobody else.
/// SQS itself drops what is sent twice within five minutes; what comes again later the learner drops. After a partial failure the refused part of a batch is sent again,
/// behind what was accepted: then, and only then, can messages of one send change places.
/// </summary>
public sealed class SqsFeedbackQueue : IFeedbackQueue, IDisposable
{
    private const int MostPerBatch = 10; // SQS's
    private const int MostSends = 4;
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan LongestPauses = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(1); // for the answer to a poll that nothing came to

    private readonly SqsOptions _options;
    private readonly SqsClient _sqs;
    private readonly string _url;
    private readonly int _attempts;
    private readonly TimeSpan _attemptLimit;
    private readonly TimeSpan _limit;

    /// <param name="location"><c>sqs://ACCOUNT/NAME.fifo</c>: like a bucket or a table it names the queue; region and endpoint are the environment's.</param>
    /// <exception cref="FormatException">The location is something else.</exception>
    /// <exception cref="StoreException">There is neither a region nor an endpoint.</exception>
    public SqsFeedbackQueue(string location, SqsOptions? options = null)
    {
        var path = Parse(location);
        Location = location;
        _options = (options ?? new SqsOptions()).Check();
        var config = new SqsConfig { Timeout = _options.AttemptTimeout + _options.Wait, ConnectTimeout = ConnectTimeout };
        if (_options.Endpoint is { } endpoint) config.ServiceURL = endpoint.AbsoluteUri;
        try
        {
            _sqs = new SqsClient(config);
        }
        catch (AmazonClientException e)
        {
            throw new StoreException($"can't use {location}: {e.Message}; set AWS_REGION, or AWS_ENDPOINT_URL for an emulator", e);
        }
        _url = $"{config.Address}/{path}";
        _attempts = config.MaxErrorRetry + 1;
        _attemptLimit = config.Timeout.Value;
        _limit = _attempts * _attemptLimit + LongestPauses;
    }

    public string Location { get; }

    public bool IsShared => true;

    // A message that waits for its completion holds up its group.
    public int MostUncompleted => 1;

    public void Dispose() => _sqs.Dispose();

    public async ValueTask SendAsync(IReadOnlyList<FeedbackMessage> messages, CancellationToken cancellation)
    {
        var entries = messages.Select((message, i) => Entry(i, message)).ToArray();
        foreach (var batch in Batches(entries)) await SendAsync(batch, cancellation);
    }

    /// <remarks>
    /// A poll under way is waited for, up to <see cref="SqsOptions.Wait"/>: SQS may have given it messages already, and those of a poll that is dropped stay hidden, and hold
    /// up their users, until <see cref="SqsOptions.Visibility"/> is over.
    /// </remarks>
    public async ValueTask<IReadOnlyList<ReceivedFeedback>> ReceiveAsync(int most, CancellationToken cancellation)
    {
        var request = new SqsReceive(_url, Math.Clamp(most, 1, MostPerBatch), (int)_options.Wait.TotalSeconds, (int)_options.Visibility.TotalSeconds);
        using var ending = new CancellationTokenSource();
        await using var ends = cancellation.Register(() => ending.CancelAfter(_options.Wait + Grace));
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            var messages = (await CallAsync("receive from", "ReceiveMessage", request, SqsJson.Default.SqsReceive, SqsJson.Default.SqsReceived, ending.Token)).Messages;
            if (messages is not { Count: > 0 }) continue;
            return [.. messages.Select(message => new ReceivedFeedback(message.ReceiptHandle, FeedbackMessage.Read(Encoding.UTF8.GetBytes(message.Body))))];
        }
    }

    public async ValueTask CompleteAsync(IReadOnlyList<ReceivedFeedback> messages, CancellationToken cancellation)
    {
        foreach (var some in messages.Chunk(MostPerBatch))
        {
            // What is refused was hidden for too short a time: it comes again, changes nothing and is completed then.
            var batch = new SqsBatch(_url, [.. some.Select((message, i) => new SqsEntry { Id = $"{i}", ReceiptHandle = message.Receipt })]);
            await CallAsync("complete messages of", "DeleteMessageBatch", batch, SqsJson.Default.SqsBatch, SqsJson.Default.SqsBatchResult, cancellation);
        }
    }

    private static string Parse(string location)
    {
        const string scheme = "sqs://";
        if (location.StartsWith(scheme, StringComparison.Ordinal))
        {
            var path = location[scheme.Length..];
            if (path.Split('/') is [{ Length: 12 } account, var name] && account.All(char.IsAsciiDigit) && name.EndsWith(".fifo", StringComparison.Ordinal) && Names.IsValid(name.AsSpan(0, name.Length - 5))) return path;
        }
        throw new FormatException($"'{location}' is no queue: it takes sqs://ACCOUNT/NAME.fifo, the account's twelve digits and the name of a FIFO queue");
    }

    private static SqsEntry Entry(int i, FeedbackMessage message)
    {
        var once = HashOf(message.Tenant, message.App, message.FeedbackId);
        return new SqsEntry
        {
            Id = $"{i}",
            MessageBody = Encoding.UTF8.GetString(message.Serialize()),
            // Feedback of nobody in particular has no order to keep, and one group for all of it would be a bottleneck.
            MessageGroupId = message.Owner.User.Length == 0 ? once : HashOf(message.Owner.Tenant, message.Owner.App, message.Owner.User),
            MessageDeduplicationId = once,
        };
    }

    /// <summary>Of parts joined length-prefixed, so that no two lists of parts are one; hexadecimal, because ids take neither every character nor every length.</summary>
    private static string HashOf(params ReadOnlySpan<string> parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[sizeof(int)];
        foreach (var part in parts)
        {
            var bytes = Encoding.UTF8.GetBytes(part);
            BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length);
            hash.AppendData(length);
            hash.AppendData(bytes);
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <exception cref="StoreException">A message alone is too large; nothing has been sent then.</exception>
    private List<List<SqsEntry>> Batches(SqsEntry[] entries)
    {
        var batches = new List<List<SqsEntry>>();
        var bytes = 0;
        foreach (var entry in entries)
        {
            var size = Encoding.UTF8.GetByteCount(entry.MessageBody!);
            if (size > _options.BatchBytes) throw new StoreException($"can't send to {Location}: a message has {size} bytes, SQS takes {_options.BatchBytes}; the app's features are too large for this queue");
            if (batches.Count == 0 || batches[^1].Count == MostPerBatch || bytes + size > _options.BatchBytes)
            {
                batches.Add([]);
                bytes = 0;
            }
            batches[^1].Add(entry);
            bytes += size;
        }
        return batches;
    }

    private async Task SendAsync(List<SqsEntry> batch, CancellationToken cancellation)
    {
        for (var sends = 1; ; sends++)
        {
            var result = await CallAsync("send to", "SendMessageBatch", new SqsBatch(_url, batch), SqsJson.Default.SqsBatch, SqsJson.Default.SqsBatchResult, cancellation);
            if (result.Failed is not { Count: > 0 } failed) return;
            if (sends == MostSends || failed.Any(failure => failure.SenderFault))
            {
                throw new StoreException($"can't send to {Location}: {failed.Count} of {batch.Count} messages were refused ({failed[0].Code}: {failed[0].Message}); sent again, those that were not will be dropped");
            }
            var ids = failed.Select(failure => failure.Id).ToHashSet();
            batch = batch.FindAll(entry => ids.Contains(entry.Id));
            await Task.Delay(Random.Shared.Next(50, 200 * sends), cancellation);
        }
    }

    private Task<TResult> CallAsync<TRequest, TResult>(
        string verb, string operation, TRequest request, JsonTypeInfo<TRequest> requestType, JsonTypeInfo<TResult> resultType, CancellationToken cancellation) => AwsCall.RunAsync(
        $"{verb} {Location}",
        _limit,
        async token => JsonSerializer.Deserialize(await AttemptAsync(operation, JsonSerializer.SerializeToUtf8Bytes(request, requestType), token), resultType)
            ?? throw new JsonException("it is null"),
        cancellation);

    /// <summary>The SDK repeats requests until an answer begins; that it stalls after that is for us to notice and to repeat.</summary>
    private async Task<byte[]> AttemptAsync(string operation, byte[] json, CancellationToken cancellation)
    {
        for (var attempt = 1; ; attempt++)
        {
            using var limited = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            if (attempt < _attempts) limited.CancelAfter(_attemptLimit);
            try
            {
                return await _sqs.CallAsync(operation, json, limited.Token);
            }
            catch (Exception e) when (limited.IsCancellationRequested && !cancellation.IsCancellationRequested && AwsCall.IsExpected(e))
            {
                // Asked for again: sent or completed twice counts once, and what a lost answer brought comes again.
            }
        }
    }
}
