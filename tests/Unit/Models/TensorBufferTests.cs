using Skiff.Models;

namespace Skiff.Unit.Models;

public sealed class TensorBufferTests
{
    [Fact]
    public void Growing_KeepsWhatWasWritten()
    {
        var buffer = new TensorBuffer();
        var first = buffer.Allocate(1000);
        buffer.Span(first, 1000).Fill(7);

        buffer.Allocate(1 << 20);

        Assert.False(buffer.Span(first, 1000).ContainsAnyExcept((byte)7));
    }

    [Fact]
    public void Regions_StartOnCacheLinesAndDoNotOverlap()
    {
        var buffer = new TensorBuffer();

        var (first, second) = (buffer.Allocate(3), buffer.Allocate(3));

        Assert.Equal((0, 64), (first % 64, second - first));
    }

    [Fact]
    public void Extend_LeavesNoGap()
    {
        var buffer = new TensorBuffer();
        var first = buffer.Allocate(3);

        Assert.Equal(first + 3, buffer.Extend(5));
    }

    [Fact]
    public void Clear_HandsOutTheSameMemoryAgain()
    {
        var buffer = new TensorBuffer();
        buffer.Allocate(100);
        buffer.Clear();

        Assert.Equal(0, buffer.Allocate(100));
    }
}
