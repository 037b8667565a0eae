using System.Net;

namespace Skiff.Hosts;

/// <summary>A body of unannounced length, sent in chunks of a few bytes.</summary>
internal sealed class PiecesContent(byte[] body, int size = 7) : HttpContent
{
    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
    {
        foreach (var piece in body.Chunk(size))
        {
            await stream.WriteAsync(piece);
            await stream.FlushAsync();
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        length = 0;
        return false;
    }
}
