using System.Buffers;
using System.Text.Json;

namespace Skiff.Lambda;

/// <summary>Why an invocation or the start failed, in Lambda's form.</summary>
public sealed record RuntimeError(string Type, string Message)
{
    public static RuntimeError Of(Exception e) => new(e.GetType().Name, e.Message);

    /// <param name="deadline">The invocation's: what it cancelled was late.</param>
    public static RuntimeError Of(Exception e, CancellationToken deadline) =>
        e is OperationCanceledException && deadline.IsCancellationRequested ? new("DeadlineExceeded", "the invocation was not answered before its deadline") : Of(e);

    /// <summary>Without a stack trace: whoever invokes the function reads this, and how we are built is the log's to tell.</summary>
    public ReadOnlyMemory<byte> ToJson()
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        using var json = new Utf8JsonWriter(buffer);
        json.WriteStartObject();
        json.WriteString("errorMessage"u8, Message);
        json.WriteString("errorType"u8, Type);
        json.WriteStartArray("stackTrace"u8);
        json.WriteEndArray();
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }
}
