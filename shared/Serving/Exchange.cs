using System.Buffers;
using System.IO.Pipelines;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Skiff.Serving;

/// <summary>
/// What one HTTP request needs while it is handled: its body in one piece, and its answer until it is whole, so that a failure halfway through still becomes a clean error
/// and every answer has a length. Pooled; an object that grew large is let go.
/// </summary>
internal sealed class Exchange : IDisposable
{
    private const int KeepBytes = 1 << 20;

    private static readonly System.Collections.Concurrent.ConcurrentQueue<Exchange> Pool = new();
    private static int _pooled;

    private readonly ArrayBufferWriter<byte> _answer = new(1024);
    private byte[] _body = [];
    private int _length;

    private Exchange() => Json = new Utf8JsonWriter(_answer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true });

    public ReadOnlySpan<byte> Body => _body.AsSpan(0, _length);

    /// <summary>Writes into <see cref="Answer"/>.</summary>
    public Utf8JsonWriter Json { get; }

    public IBufferWriter<byte> Answer => _answer;

    public InferRequest Infer { get; } = new();

    public static Exchange Rent()
    {
        if (!Pool.TryDequeue(out var exchange)) return new Exchange();
        Interlocked.Decrement(ref _pooled);
        return exchange;
    }

    public void Dispose()
    {
        if (_body.Length > KeepBytes || _answer.Capacity > KeepBytes || Infer.Buffer.Capacity > KeepBytes) return;
        _length = 0;
        Infer.Clear();
        _answer.ResetWrittenCount();
        Json.Reset();
        if (Interlocked.Increment(ref _pooled) <= 256) Pool.Enqueue(this);
        else Interlocked.Decrement(ref _pooled);
    }

    /// <summary>Reads the whole body, whether its length was announced or it comes in chunks.</summary>
    public async ValueTask ReadBodyAsync(HttpRequest request, CancellationToken cancellation)
    {
        if (request.ContentLength is { } announced) Reserve((int)Math.Min(announced, KeepBytes));
        var reader = request.BodyReader;
        while (true)
        {
            var result = await reader.ReadAsync(cancellation);
            Append(result.Buffer);
            reader.AdvanceTo(result.Buffer.End);
            if (result.IsCompleted) return;
            if (result.IsCanceled) throw new OperationCanceledException(cancellation);
        }
    }

    /// <summary>Sends what was written.</summary>
    public ValueTask<FlushResult> SendAsync(HttpResponse response, int status, string contentType, CancellationToken cancellation)
    {
        Json.Flush();
        response.StatusCode = status;
        response.ContentType = contentType;
        response.ContentLength = _answer.WrittenCount;
        return response.BodyWriter.WriteAsync(_answer.WrittenMemory, cancellation);
    }

    private void Append(ReadOnlySequence<byte> bytes)
    {
        var length = checked(_length + (int)bytes.Length);
        Reserve(length);
        bytes.CopyTo(_body.AsSpan(_length));
        _length = length;
    }

    private void Reserve(int length)
    {
        if (length > _body.Length) Array.Resize(ref _body, Math.Max(length, Math.Max(4096, 2 * _body.Length)));
    }
}
