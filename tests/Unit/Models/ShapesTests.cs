using Skiff.Models;

namespace Skiff.Unit.Models;

public sealed class ShapesTests
{
    [Theory]
    [InlineData(new long[0], 1)]
    [InlineData(new long[] { 2, 3 }, 6)]
    [InlineData(new long[] { long.MaxValue, 0, long.MaxValue }, 0)]
    [InlineData(new long[] { long.MaxValue }, long.MaxValue)]
    [InlineData(new long[] { long.MaxValue, 2 }, -1)]
    [InlineData(new long[] { 1L << 32, 1L << 32 }, -1)]
    [InlineData(new long[] { 1L << 32, 1L << 31 }, -1)]
    public void Count_IsTheProductOrMinusOne(long[] shape, long expected) => Assert.Equal(expected, Shapes.Count(shape));

    [Theory]
    [InlineData(new long[] { 5, 4 }, true)]
    [InlineData(new long[] { 0, 4 }, true)]
    [InlineData(new long[] { 5, 3 }, false)]
    [InlineData(new long[] { 4 }, false)]
    public void Takes_LeavesOnlyFreeDimensionsToTheCaller(long[] shape, bool expected) =>
        Assert.Equal(expected, new TensorSpec("x", DataType.Fp32, [-1, 4]).Takes(shape));
}
