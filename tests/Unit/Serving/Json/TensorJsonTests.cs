using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Serving.Json;

namespace Skiff.Unit.Serving.Json;

public sealed class TensorJsonTests
{
    [Theory]
    [InlineData("[1,2,3,4,5,6]", new long[] { 6 })]
    [InlineData("[1,2,3,4,5,6]", new long[] { 2, 3 })]
    [InlineData("[[1,2,3],[4,5,6]]", new long[] { 2, 3 })]
    [InlineData(" [ [ 1 , 2 , 3 ] ,\n[ 4 , 5 , 6 ] ] ", new long[] { 2, 3 })]
    [InlineData("[[[1],[2],[3]],[[4],[5],[6]]]", new long[] { 2, 3, 1 })]
    [InlineData("[[[1,2,3],[4,5,6]]]", new long[] { 1, 2, 3 })]
    [InlineData("[[[1,2,3]],[4,5,6]]", new long[] { 2, 3 })]
    [InlineData("[[1,2,3,4,5,6]]", new long[] { 1, 1, 2, 3 })]
    [InlineData("[[1,2],[],[[3]],[4,5,6]]", new long[] { 6 })]
    public void FlatAndNestedData_AreReadInRowMajorOrder(string json, long[] shape)
    {
        Assert.Equal([1f, 2, 3, 4, 5, 6], Read<float>(json, DataType.Fp32, shape));
        Assert.Equal([1L, 2, 3, 4, 5, 6], Read<long>(json, DataType.Int64, shape));
    }

    [Theory]
    [InlineData("5", new long[0], 1)]
    [InlineData("[5]", new long[0], 1)]
    [InlineData("[]", new long[] { 0 }, 0)]
    [InlineData("[]", new long[] { 0, 3 }, 0)]
    [InlineData("[]", new long[] { 2, 0 }, 0)]
    [InlineData("[[],[]]", new long[] { 2, 0 }, 0)]
    [InlineData("[[5]]", new long[] { 1, 1 }, 1)]
    public void ScalarsAndEmptyTensors_AreRead(string json, long[] shape, int count)
    {
        Assert.Equal(Enumerable.Repeat(5f, count), Read<float>(json, DataType.Fp32, shape));
        Assert.Equal(Enumerable.Repeat(5, count), Read<int>(json, DataType.Int32, shape));
    }

    [Fact]
    public void EveryTypeOfFixedSize_IsReadToItsLimits()
    {
        Assert.Equal<byte>([1, 0, 1, 0], Read<byte>("[true,false,1,0]", DataType.Bool, [4]));
        Assert.Equal<byte>([0, 255], Read<byte>("[0,255]", DataType.UInt8, [2]));
        Assert.Equal<ushort>([0, 65535], Read<ushort>("[0,65535]", DataType.UInt16, [2]));
        Assert.Equal([0, uint.MaxValue], Read<uint>("[-0,4294967295]", DataType.UInt32, [2]));
        Assert.Equal([0, ulong.MaxValue], Read<ulong>("[0,18446744073709551615]", DataType.UInt64, [2]));
        Assert.Equal<sbyte>([-128, 127], Read<sbyte>("[-128,127]", DataType.Int8, [2]));
        Assert.Equal<short>([-32768, 32767], Read<short>("[-32768,32767]", DataType.Int16, [2]));
        Assert.Equal([int.MinValue, int.MaxValue], Read<int>("[-2147483648,2147483647]", DataType.Int32, [2]));
        Assert.Equal([long.MinValue, long.MaxValue], Read<long>("[-9223372036854775808,9223372036854775807]", DataType.Int64, [2]));
        Assert.Equal([(Half)0.1, Half.MaxValue, (Half)2050], Read<Half>("[0.1,65504,2049.0000000000000000000000001]", DataType.Fp16, [3]));
        Assert.Equal([0.1f, float.MinValue, float.Epsilon], Read<float>("[0.1,-3.4028234663852886e38,1e-45]", DataType.Fp32, [3]));
        Assert.Equal([0.1, double.MinValue, double.Epsilon], Read<double>("[0.1,-1.7976931348623157e308,5e-324]", DataType.Fp64, [3]));
    }

    [Fact]
    public void NegativeZero_KeepsItsSign() => Assert.All(Read<float>("[-0,-0.0,-0e5]", DataType.Fp32, [3]), value => Assert.True(float.IsNegative(value)));

    [Theory]
    [InlineData(",")]
    [InlineData(", ")]
    [InlineData(",\n      ")]
    [InlineData(" ,")]
    public void FloatsOfManyForms_AreReadAsTheFrameworkReadsThem(string separator)
    {
        var random = new Random(1);
        for (var round = 0; round < 20; round++)
        {
            var literals = Enumerable.Range(0, 784).Select(_ => Literal(random)).ToArray();
            var expected = literals.Select(literal => float.Parse(literal, CultureInfo.InvariantCulture));
            Assert.Equal(expected, Read<float>($"[{string.Join(separator, literals)}]", DataType.Fp32, [1, 784]));
            var rows = literals.Chunk(28).Select(row => $"[{string.Join(separator, row)}]");
            Assert.Equal(expected, Read<float>($"[{string.Join(separator, rows)}]", DataType.Fp32, [28, 28]));
        }

        static string Literal(Random random) => random.Next(6) switch
        {
            0 => "0",
            1 => "0.0",
            2 => random.Next(-300, 300).ToString(CultureInfo.InvariantCulture),
            3 => random.NextSingle().ToString("R", CultureInfo.InvariantCulture),
            4 => ((random.NextDouble() - 0.5) * 1e-4).ToString("R", CultureInfo.InvariantCulture),
            _ => ((double)random.NextSingle()).ToString("R", CultureInfo.InvariantCulture),
        };
    }

#if !DEBUG // where constant spans are made anew at each use
    [Fact]
    public void FloatArray_IsReadWithoutAllocation()
    {
        var json = Encoding.ASCII.GetBytes($"[{string.Join(',', Enumerable.Range(0, 784).Select(i => (i / 255.0).ToString("R", CultureInfo.InvariantCulture)))}]");
        var destination = new byte[784 * 4];
        ReadOnce();

        var before = GC.GetAllocatedBytesForCurrentThread();
        ReadOnce();

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void ReadOnce()
        {
            var cursor = new JsonCursor(json);
            TensorJson.Read(ref cursor, DataType.Fp32, [1, 784], destination, "input 'x'");
        }
    }
#endif

    [Theory]
    [InlineData("[1,2,3,4,5]", "input 'x' of shape [2,3] takes 6 values; data has 5")]
    [InlineData("[1,2,3,4,5,6,7,8]", "input 'x' of shape [2,3] takes 6 values; data has 8")]
    [InlineData("[]", "input 'x' of shape [2,3] takes 6 values; data has 0")]
    [InlineData("[[1,2,3]]", "input 'x' of shape [2,3] takes 2 arrays in data; it has 1")]
    [InlineData("[[1,2,3],[4,5]]", "input 'x' of shape [2,3] takes 3 values in data[1]; it has 2")]
    [InlineData("[[1,2,3,4],[5,6]]", "input 'x' of shape [2,3] takes 3 values in data[0]; it has 4")]
    [InlineData("[[1,2,3],[4,5,6],[7,8,9]]", "input 'x' of shape [2,3] takes 2 arrays in data; it has 3")]
    [InlineData("[[1,2,3],4]", "input 'x' takes an array, found a number at byte 9")]
    [InlineData("[1,[2,3]]", "input 'x' takes numbers, found an array at byte 3")]
    [InlineData("[[[1,2,3]],[4,5,6,7]]", "input 'x' of shape [2,3] takes 6 values; data has 7")]
    [InlineData("5", "input 'x' takes an array, found a number at byte 0")]
    [InlineData("null", "input 'x' takes an array, found null at byte 0")]
    [InlineData("[1,2,3,4,5,\"6\"]", "input 'x' takes numbers, found a string at byte 11")]
    [InlineData("[1,2,3,4,5,6", "malformed JSON at byte 12: expected ',' or ']', but the body ends too early")]
    [InlineData("[1,2,3,4,5,]", "malformed JSON at byte 11: expected numbers, found ']'")]
    [InlineData("[1,2,NaN,4,5,6]", "malformed JSON at byte 5: expected numbers, found NaN or infinity, which JSON can't carry")]
    [InlineData("[1,2,-Infinity,4,5,6]", "malformed JSON at byte 6: expected a digit, found NaN or infinity, which JSON can't carry")]
    [InlineData("[0,1,2,3,4,1e39]", "input 'x': 1e39 at index 5 is out of FP32's range")]
    [InlineData("[0,-1e39,2,3,4,5]", "input 'x': -1e39 at index 1 is out of FP32's range")]
    public void DataThatDoesNotFitItsShape_IsRefused(string json, string message) => Assert.Equal(message, Refused(json, DataType.Fp32, [2, 3]));

    [Theory]
    [InlineData("[1]", DataType.Bf16, "input 'x': BF16 travels in binary only")]
    [InlineData("[300]", DataType.UInt8, "input 'x': 300 at index 0 is out of UINT8's range, 0 to 255")]
    [InlineData("[-1]", DataType.UInt64, "input 'x': -1 at index 0 is out of UINT64's range, 0 to 18446744073709551615")]
    [InlineData("[-129]", DataType.Int8, "input 'x': -129 at index 0 is out of INT8's range, -128 to 127")]
    [InlineData("[1.5]", DataType.Int32, "input 'x' takes integers; 1.5 at index 0 has a fraction or an exponent")]
    [InlineData("[1e2]", DataType.Int64, "input 'x' takes integers; 1e2 at index 0 has a fraction or an exponent")]
    [InlineData("[true]", DataType.Int64, "input 'x' takes integers, found true at byte 1")]
    [InlineData("[2]", DataType.Bool, "input 'x' takes true, false, 1 and 0; found 2 at index 0")]
    [InlineData("[null]", DataType.Bool, "input 'x' takes true, false, 1 and 0, found null at byte 1")]
    [InlineData("[65520]", DataType.Fp16, "input 'x': 65520 at index 0 is out of FP16's range")]
    [InlineData("[1e309]", DataType.Fp64, "input 'x': 1e309 at index 0 is out of FP64's range")]
    [InlineData("[1,2]", DataType.Int32, "input 'x' of shape [1] takes 1 value; data has 2")]
    public void ElementThatDoesNotFitItsType_IsRefused(string json, DataType type, string message) => Assert.Equal(message, Refused(json, type, [1]));

    [Theory]
    [InlineData("""["a","","\u00e9€"]""", new long[] { 3 })]
    [InlineData("""[["a"],[""],["é€"]]""", new long[] { 3, 1 })]
    public void Strings_BecomeTheirLengthsAndBytes(string json, long[] shape)
    {
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        var destination = new ArrayBufferWriter<byte>();

        Assert.Equal(18, TensorJson.ReadStrings(ref cursor, shape, destination, "input 'x'"));
        cursor.End();

        Assert.Equal([1, 0, 0, 0, (byte)'a', 0, 0, 0, 0, 5, 0, 0, 0, .. "é€"u8], destination.WrittenSpan.ToArray());
    }

    [Theory]
    [InlineData("[1]", "input 'x' takes strings, found a number at byte 1")]
    [InlineData("""["a"]""", "input 'x' of shape [2] takes 2 values; data has 1")]
    [InlineData("""["a","b","c"]""", "input 'x' of shape [2] takes 2 values; data has 3")]
    public void StringsThatDoNotFit_AreRefused(string json, string message) => Assert.Equal(message, Assert.Throws<RequestException>(() =>
    {
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        TensorJson.ReadStrings(ref cursor, [2], new ArrayBufferWriter<byte>(), "input 'x'");
    }).Message);

    private static T[] Read<T>(string json, DataType type, ReadOnlySpan<long> shape) where T : unmanaged
    {
        var count = 1;
        foreach (var dimension in shape)
            count *= (int)dimension;
        var values = new T[count];
        var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
        TensorJson.Read(ref cursor, type, shape, MemoryMarshal.AsBytes(values.AsSpan()), "input 'x'");
        cursor.End();
        return values;
    }

    private static string Refused(string json, DataType type, long[] shape)
    {
        var refusal = Assert.Throws<RequestException>(() =>
        {
            var cursor = new JsonCursor(Encoding.UTF8.GetBytes(json));
            TensorJson.Read(ref cursor, type, shape, new byte[shape.Aggregate(type.Size(), (bytes, dimension) => bytes * (int)dimension)], "input 'x'");
        });
        Assert.Equal(Refusal.Invalid, refusal.Refusal);
        return refusal.Message;
    }
}
