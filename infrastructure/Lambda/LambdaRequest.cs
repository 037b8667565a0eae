using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Skiff.Lambda;

/// <summary>An event as the application sees it: the features of ASP.NET that are about the request.</summary>
internal sealed class LambdaRequest :
    IHttpRequestFeature, IRequestBodyPipeFeature, IHttpRequestBodyDetectionFeature, IHttpMaxRequestBodySizeFeature, IHttpRequestIdentifierFeature,
    IHttpRequestLifetimeFeature, IHttpConnectionFeature, IDisposable
{
    private readonly CancellationTokenSource _aborted;

    public LambdaRequest(HttpEvent http, Invocation invocation, int maxBodyBytes, CancellationToken cancellation)
    {
        (Method, Protocol, PathBase, Path, QueryString, RawTarget) = (http.Method, http.Protocol, http.PathBase, http.Path, http.QueryString, http.RawTarget);
        Headers = http.Headers;
        Headers["X-Amzn-Trace-Id"] = invocation.TraceId;
        // A caller who traces knows better than X-Ray what this is part of.
        if (Headers.TraceParent.Count == 0) Headers.TraceParent = TraceContext.ToTraceParent(invocation.TraceId);
        CanHaveBody = http.Body is not { IsEmpty: true };
        Reader = http.Body is { } body ? PipeReader.Create(new ReadOnlySequence<byte>(body)) : PipeReader.Create(new TooLargeBody(maxBodyBytes));
        Body = Reader.AsStream();
        MaxRequestBodySize = maxBodyBytes;
        TraceIdentifier = invocation.Id;
        RemoteIpAddress = http.Source;
        _aborted = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        RequestAborted = _aborted.Token;
    }

    public string Protocol { get; set; }

    /// <summary>What the caller used: Lambda's front ends speak nothing else.</summary>
    public string Scheme { get; set; } = "https";

    public string Method { get; set; }
    public string PathBase { get; set; }
    public string Path { get; set; }
    public string QueryString { get; set; }
    public string RawTarget { get; set; }
    public IHeaderDictionary Headers { get; set; }
    public Stream Body { get; set; }
    public PipeReader Reader { get; }
    public bool CanHaveBody { get; }

    public long? MaxRequestBodySize { get; set; }

    /// <summary>By the time anybody could change it, the body is there.</summary>
    public bool IsReadOnly => true;

    /// <summary>The invocation's id, by which the function's log is searched.</summary>
    public string TraceIdentifier { get; set; }

    public CancellationToken RequestAborted { get; set; }
    public bool IsAborted { get; private set; }

    public string ConnectionId { get; set; } = "";
    public IPAddress? RemoteIpAddress { get; set; }
    public IPAddress? LocalIpAddress { get; set; }
    public int RemotePort { get; set; }
    public int LocalPort { get; set; }

    public void Abort()
    {
        IsAborted = true;
        _aborted.Cancel();
    }

    public void Dispose() => _aborted.Dispose();

    /// <summary>A body that was never decoded: whoever reads it is told, as by Kestrel, so that the answer is the same 413.</summary>
    private sealed class TooLargeBody(int maxBytes) : Stream
    {
        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => false;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count) => throw TooLarge();

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => throw TooLarge();

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        private BadHttpRequestException TooLarge() => new($"Request body too large. The max request body size is {maxBytes} bytes.", StatusCodes.Status413PayloadTooLarge);
    }
}
