using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Oip;

/// <summary>Every datatype of the protocol, through a model that gives back what it is given, in each combination of JSON and binary.</summary>
public sealed class DatatypeTests(DatatypeTests.Fixture fixture) : IClassFixture<DatatypeTests.Fixture>
{
    private static readonly Dictionary<DataType, Sample> Samples = new()
    {
        [DataType.Bool] = Sample.Of("[true,false,true]", true, false, true),
        [DataType.UInt8] = Sample.Of("[0,1,255]", byte.MinValue, (byte)1, byte.MaxValue),
        [DataType.UInt16] = Sample.Of("[0,1,65535]", ushort.MinValue, (ushort)1, ushort.MaxValue),
        [DataType.UInt32] = Sample.Of("[0,1,4294967295]", uint.MinValue, 1u, uint.MaxValue),
        [DataType.UInt64] = Sample.Of("[0,9007199254740993,18446744073709551615]", ulong.MinValue, 9007199254740993ul, ulong.MaxValue),
        [DataType.Int8] = Sample.Of("[-128,-1,0,127]", sbyte.MinValue, (sbyte)-1, (sbyte)0, sbyte.MaxValue),
        [DataType.Int16] = Sample.Of("[-32768,-1,0,32767]", short.MinValue, (short)-1, (short)0, short.MaxValue),
        [DataType.Int32] = Sample.Of("[-2147483648,-1,0,2147483647]", int.MinValue, -1, 0, int.MaxValue),
        [DataType.Int64] = Sample.Of("[-9223372036854775808,-9007199254740993,0,9223372036854775807]", long.MinValue, -9007199254740993, 0, long.MaxValue),
        [DataType.Fp16] = Sample.Of("[-65504,65504,6.104e-05,5.9604645e-08,-5.9604645e-08,0,-0.0,0.1]",
            Half.MinValue, Half.MaxValue, (Half)6.104e-05, Half.Epsilon, -Half.Epsilon, (Half)0, Half.NegativeZero, (Half)0.1),
        [DataType.Fp32] = Sample.Of("[-3.4028235e38,3.4028235E+38,1.17549435e-38,1.1754942e-38,1e-45,-1e-45,0,-0.0,0.1,16777216]",
            float.MinValue, float.MaxValue, 1.17549435e-38f, 1.1754942e-38f, float.Epsilon, -float.Epsilon, 0f, float.NegativeZero, 0.1f, 16777216f),
        [DataType.Fp64] = Sample.Of("[-1.7976931348623157e308,1.7976931348623157e308,2.2250738585072014e-308,2.225073858507201e-308,5e-324,-5e-324,0,-0.0,0.1]",
            double.MinValue, double.MaxValue, 2.2250738585072014e-308, 2.225073858507201e-308, double.Epsilon, -double.Epsilon, 0, double.NegativeZero, 0.1),
        [DataType.Bytes] = new("""["","a","Grüße, 世界 😀","\"\\\/\n\u0000","\u65e5\ud83d\ude00",""]""", Elements.Strings("", "a", "Grüße, 世界 😀", "\"\\/\n\0", "日😀", ""), 6),
    };

    public static TheoryData<DataType> Types => [.. Samples.Keys];

    private static readonly byte[] Bf16 = [0x80, 0x3F, 0x00, 0x80, 0x7F, 0x7F, 0x01, 0x00]; // 1, -0, the largest, the least subnormal

    [Theory, MemberData(nameof(Types))]
    public async Task JsonIn_IsEqualInJsonOut(DataType type)
    {
        var answer = await JsonAsync(type, binaryOutput: false);

        AssertJson(type, answer);
    }

    [Theory, MemberData(nameof(Types))]
    public async Task JsonIn_IsEqualInBinaryOut(DataType type)
    {
        var answer = await JsonAsync(type, binaryOutput: true);

        AssertBinary(type, Samples[type].Binary, answer);
    }

    [Theory, MemberData(nameof(Types))]
    public async Task BinaryIn_IsEqualInJsonOut(DataType type)
    {
        var answer = await BinaryAsync(type, Samples[type].Binary, Samples[type].Count, binaryOutput: false);

        AssertJson(type, answer);
    }

    [Theory, MemberData(nameof(Types))]
    public async Task BinaryIn_IsEqualInBinaryOut(DataType type)
    {
        var answer = await BinaryAsync(type, Samples[type].Binary, Samples[type].Count, binaryOutput: true);

        AssertBinary(type, Samples[type].Binary, answer);
    }

    [Theory, MemberData(nameof(Types))]
    public async Task Metadata_NamesTheType(DataType type)
    {
        var answer = await HttpAnswer.GetAsync(fixture.Server.Client, $"/v2/models/{Fixture.Model(type)}");

        Assert.Equal(type.WireName(), answer.AssertOk().Json.GetProperty("inputs")[0].GetProperty("datatype").GetString());
    }

    [Fact]
    public async Task Bf16BinaryIn_IsEqualInBinaryOut()
    {
        var answer = await BinaryAsync(DataType.Bf16, Bf16, 4, binaryOutput: true);

        AssertBinary(DataType.Bf16, Bf16, answer);
    }

    [Fact]
    public async Task Bf16JsonIn_IsRefusedWithTheWayOut()
    {
        var answer = await PostAsync(DataType.Bf16, $$"""{"inputs":[{"name":"x","shape":[1],"datatype":"BF16","data":[1]}],{{Parameters(true)}}}""");

        answer.AssertRefused(400, "'x'", "BF16", "binary");
    }

    [Fact]
    public async Task Bf16JsonOut_IsRefusedWithTheWayOut()
    {
        var answer = await BinaryAsync(DataType.Bf16, Bf16, 4, binaryOutput: false);

        answer.AssertRefused(400, "'y'", "BF16", "\"binary_data\":true");
    }

    [Fact]
    public async Task BoolsAsNumbers_AreTaken()
    {
        var answer = await PostAsync(DataType.Bool, """{"inputs":[{"name":"x","shape":[4],"datatype":"BOOL","data":[1,0,true,false]}]}""");

        Assert.Equal("[true,false,true,false]", answer.Output().GetProperty("data").GetRawText());
    }

    [Fact]
    public async Task BytesThatAreNotText_PassInBinary()
    {
        var strings = Elements.Strings([[0xFF, 0xFE], [], [0x00], "text"u8.ToArray()]);

        var answer = await BinaryAsync(DataType.Bytes, strings, 4, binaryOutput: true);

        AssertBinary(DataType.Bytes, strings, answer);
    }

    [Theory]
    [InlineData(new byte[] { 0xFF, 0xFE })]
    [InlineData(new byte[] { 0xED, 0xA0, 0x80 })] // a lone surrogate
    [InlineData(new byte[] { 0x61, 0xC3 })] // cut off
    public async Task BytesThatAreNotText_AreRefusedAsJsonWithTheWayOut(byte[] value)
    {
        var answer = await BinaryAsync(DataType.Bytes, Elements.Strings([value]), 1, binaryOutput: false);

        answer.AssertRefused(400, "'y'", "UTF-8", "\"binary_data\":true");
    }

    private Task<HttpAnswer> JsonAsync(DataType type, bool binaryOutput) => PostAsync(type,
        $$"""{"inputs":[{"name":"x","shape":[{{Samples[type].Count}}],"datatype":"{{type.WireName()}}","data":{{Samples[type].Json}}}],{{Parameters(binaryOutput)}}}""");

    private Task<HttpAnswer> PostAsync(DataType type, string json) => HttpAnswer.PostAsync(fixture.Server.Client, Fixture.Infer(type), json);

    private Task<HttpAnswer> BinaryAsync(DataType type, byte[] elements, int count, bool binaryOutput) => HttpAnswer.PostBinaryAsync(fixture.Server.Client, Fixture.Infer(type),
        $$$"""{"inputs":[{"name":"x","shape":[{{{count}}}],"datatype":"{{{type.WireName()}}}","parameters":{"binary_data_size":{{{elements.Length}}}}}],{{{Parameters(binaryOutput)}}}}""", elements);

    private static string Parameters(bool binaryOutput) => $$"""
        "parameters":{"binary_data_output":{{(binaryOutput ? "true" : "false")}}}
        """;

    private static void AssertJson(DataType type, HttpAnswer answer)
    {
        var output = answer.Output();
        Assert.False(answer.HasBinary);
        Assert.Equal(type.WireName(), output.GetProperty("datatype").GetString());
        Assert.Equal(Samples[type].Count, output.GetProperty("shape")[0].GetInt32());
        Assert.Equal(Samples[type].Binary, Elements.FromJson(type, output.GetProperty("data")));
    }

    private static void AssertBinary(DataType type, byte[] expected, HttpAnswer answer)
    {
        var output = answer.Output();
        Assert.Equal(type.WireName(), output.GetProperty("datatype").GetString());
        Assert.Equal(expected.Length, output.GetProperty("parameters").GetProperty("binary_data_size").GetInt32());
        Assert.False(output.TryGetProperty("data", out _));
        Assert.Equal(expected, answer.Binary);
    }

    /// <summary>The same elements in JSON and in binary.</summary>
    private sealed record Sample(string Json, byte[] Binary, int Count)
    {
        public static Sample Of<T>(string json, params T[] values)
            where T : unmanaged => new(json, Elements.Of(values), values.Length);
    }

    public sealed class Fixture : ServerFixture
    {
        public static string Model(DataType type) => $"identity-{type.WireName()}";

        public static string Infer(DataType type) => $"/v2/models/{Model(type)}/infer";

        protected override async Task PublishAsync()
        {
            foreach (var type in Enum.GetValues<DataType>()) await Server.PushAsync(Model(type), OnnxBuilder.Identity(type, -1));
        }
    }
}
