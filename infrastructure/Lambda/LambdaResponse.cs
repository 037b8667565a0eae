using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Skiff.Lambda;

/// <summary>
/// What the application answers: the features of ASP.NET that are about the response. Kept until it is whole; or, where there is <paramref name="open"/>, sent on whenever it is flushed.
/// </summary>
/// <param name="open">Begins a streamed answer; null where the answer is sent in one piece.</param>
internal sealed class LambdaResponse(Func<CancellationToken, Task<StreamedResponse>>? open) : IHttpResponseFeature, IHttpResponseBodyFeature, IAsyncDisposable
{
    private readonly ArrayBufferWriter<byte> _unsent = new(1024);
    private readonly Stack<(Func<object, Task> Callback, object State)> _onStarting = new();
    private readonly Stack<(Func<object, Task> Callback, object State)> _onCompleted = new();
    private readonly HeaderDictionary _headers = [];
    private PipeWriter? _writer;
    private Stream? _stream;

    public int StatusCode
    {
        get;
        set
        {
            ThrowIfStarted();
            field = value;
        }
    } = 200;

    /// <summary>Taken, and not passed on: HTTP/2 has none.</summary>
    public string? ReasonPhrase { get; set; }

    public IHeaderDictionary Headers { get => _headers; set => throw new NotSupportedException("set headers one by one"); }

    public bool HasStarted { get; private set; }

    /// <summary>The answer on its way, once the first piece was sent.</summary>
    public StreamedResponse? Streamed { get; private set; }

    Stream IHttpResponseFeature.Body { get => Stream; set => throw new NotSupportedException("replace IHttpResponseBodyFeature"); }

    public PipeWriter Writer => _writer ??= new BodyWriter(this);

    public Stream Stream => _stream ??= Writer.AsStream(leaveOpen: true);

    public void OnStarting(Func<object, Task> callback, object state)
    {
        ThrowIfStarted();
        _onStarting.Push((callback, state));
    }

    public void OnCompleted(Func<object, Task> callback, object state) => _onCompleted.Push((callback, state));

    public void DisableBuffering()
    {
    }

    public async Task StartAsync(CancellationToken cancellationToken = default)
    {
        if (HasStarted) return;
        while (_onStarting.TryPop(out var starting)) await starting.Callback(starting.State);
        HasStarted = true;
        // As with Kestrel: what would come too late there is an error here too.
        _headers.IsReadOnly = true;
        if (open is null) return;
        var prelude = HttpEventResponse.WritePrelude(StatusCode, _headers);
        Streamed = await open(cancellationToken);
        await Streamed.WriteAsync(prelude, cancellationToken);
    }

    public Task SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken = default) =>
        SendFileFallback.SendFileAsync(Stream, path, offset, count, cancellationToken);

    public Task CompleteAsync() => FlushAsync(CancellationToken.None);

    /// <summary>Sends what is left.</summary>
    /// <param name="hasBody">False for HEAD.</param>
    /// <returns>The whole answer; null where it was streamed.</returns>
    public async Task<ReadOnlyMemory<byte>?> EndAsync(bool hasBody, CancellationToken cancellation)
    {
        await FlushAsync(cancellation);
        if (Streamed is null) return HttpEventResponse.Write(StatusCode, _headers, hasBody ? _unsent.WrittenSpan : []);
        await Streamed.CompleteAsync(cancellation);
        return null;
    }

    /// <summary>Runs what waits for the end of the response. Before it is posted: afterwards the process may be frozen.</summary>
    public async Task CompletedAsync()
    {
        while (_onCompleted.TryPop(out var completed)) await completed.Callback(completed.State);
    }

    public ValueTask DisposeAsync() => Streamed?.DisposeAsync() ?? default;

    private async Task FlushAsync(CancellationToken cancellation)
    {
        await StartAsync(cancellation);
        if (Streamed is null) return;
        await Streamed.WriteAsync(_unsent.WrittenMemory, cancellation);
        _unsent.ResetWrittenCount();
    }

    private void ThrowIfStarted()
    {
        if (HasStarted) throw new InvalidOperationException("the response has already started");
    }

    private sealed class BodyWriter(LambdaResponse response) : PipeWriter
    {
        public override bool CanGetUnflushedBytes => true;

        public override long UnflushedBytes => response._unsent.WrittenCount;

        public override void Advance(int bytes) => response._unsent.Advance(bytes);

        public override Memory<byte> GetMemory(int sizeHint = 0) => response._unsent.GetMemory(sizeHint);

        public override Span<byte> GetSpan(int sizeHint = 0) => response._unsent.GetSpan(sizeHint);

        public override async ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
        {
            await response.FlushAsync(cancellationToken);
            return default;
        }

        public override void CancelPendingFlush()
        {
        }

        public override void Complete(Exception? exception = null)
        {
        }
    }
}
