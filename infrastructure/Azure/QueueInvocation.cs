using System.Buffers;
using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Skiff.Azure;

/// <summary>
/// Handles an item of a queue. A <see cref="JsonException"/> says that it can never be handled; whatever else is thrown, that it should come again. The host treats both alike,
/// hands it out again and puts it into the queue's <c>-poison</c> queue after <c>maxDequeueCount</c> times, so delivery is at least once and in no particular order.
/// </summary>
public delegate Task QueueHandler(QueueItem item, CancellationToken cancellation);

/// <summary>
/// A function of a queue, as the host invokes it: a <c>POST</c> to its name, answered by <c>{"Outputs":{},"Logs":[…],"ReturnValue":null}</c>. Everything but success fails the invocation.
/// </summary>
internal sealed class QueueInvocation(string function, QueueHandler handler, ILogger<QueueInvocation> log)
{
    private const string InvocationId = "X-Azure-Functions-InvocationId";

    /// <summary>What the host and the front ends before it put on a request of a client, replacing what the client had written there.</summary>
    private static readonly string[] ClientMarks = ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "x-ms-invocation-id", "X-ARR-LOG-ID", "X-Original-URL"];

    public async Task AnswerAsync(HttpContext http)
    {
        if (!IsOfTheHost(http))
        {
            await FailAsync(http, StatusCodes.Status403Forbidden, $"'{function}' is a function of a queue: only the Functions host may invoke it");
            return;
        }
        QueueItem? item = null;
        try
        {
            item = await QueueItem.ReadAsync(http.Request.Body, http.RequestAborted);
            await handler(item, http.RequestAborted);
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            // The host has gone, and hands the item out again.
            return;
        }
        catch (JsonException e)
        {
            log.LogError("{Function}: item {Item} can't be handled: {Error}", function, item?.MessageId, e.Message);
            await FailAsync(http, StatusCodes.Status400BadRequest, e.Message);
            return;
        }
        catch (BadHttpRequestException e)
        {
            await FailAsync(http, e.StatusCode, e.Message);
            return;
        }
        catch (Exception e)
        {
            log.LogError(e, "{Function}: item {Item} comes again, this was delivery {Count}", function, item?.MessageId, item?.DequeueCount);
            await FailAsync(http, StatusCodes.Status500InternalServerError, "the item could not be handled this time; the log says more");
            return;
        }
        await SendAsync(http, StatusCodes.Status200OK, json =>
        {
            json.WriteStartObject("Outputs"u8);
            json.WriteEndObject();
            json.WriteStartArray("Logs"u8);
            json.WriteStringValue($"item {item.MessageId} was handled, delivery {item.DequeueCount}");
            json.WriteEndArray();
            json.WriteNull("ReturnValue"u8);
        });
    }

    /// <summary>
    /// A client can ask for this path too, since the HTTP function takes every path, and the host then forwards that from the same address. What tells the two apart can't be
    /// taken away by a client: the host's proxy puts <c>X-Forwarded-*</c> and <c>x-ms-invocation-id</c> on whatever it forwards, and never on an invocation, which has an
    /// id of its own. Beyond that only programs of the same instance reach loopback.
    /// </summary>
    private static bool IsOfTheHost(HttpContext http) =>
        http.Connection.RemoteIpAddress is { } remote && IPAddress.IsLoopback(remote)
        && Guid.TryParse(http.Request.Headers[InvocationId], out _)
        && !ClientMarks.Any(http.Request.Headers.ContainsKey);

    private static Task FailAsync(HttpContext http, int status, string message) => SendAsync(http, status, json => json.WriteString("error"u8, message));

    private static async Task SendAsync(HttpContext http, int status, Action<Utf8JsonWriter> write)
    {
        var answer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(answer))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }
        http.Response.StatusCode = status;
        http.Response.ContentType = "application/json";
        http.Response.ContentLength = answer.WrittenCount;
        await http.Response.Body.WriteAsync(answer.WrittenMemory, http.RequestAborted);
    }
}
