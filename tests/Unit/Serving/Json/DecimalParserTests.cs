using System.Globalization;
using System.Text;
using Skiff.Serving.Json;

namespace Skiff.Unit.Serving.Json;

/// <summary>The framework's parser is the judge, bit for bit.</summary>
public sealed class DecimalParserTests
{
    [Theory]
    [InlineData("0")]
    [InlineData("-0")]
    [InlineData("0.0")]
    [InlineData("-0.0")]
    [InlineData("0e0")]
    [InlineData("-0.000E+99")]
    [InlineData("0e99999999999")]
    [InlineData("0.3803921639919281")]
    [InlineData("0.4980392")]
    [InlineData("255")]
    [InlineData("-1.25e-3")]
    [InlineData("16777217")] // 2²⁴ + 1: the midpoint of two floats
    [InlineData("16777217.000000000000000000000000000001")]
    [InlineData("16777216.999999999999999999999999999999")]
    [InlineData("9007199254740993")] // 2⁵³ + 1: of two doubles
    [InlineData("9007199254740993.00000000000000000000001")]
    [InlineData("9223372036854775807")]
    [InlineData("9223372036854775808")]
    [InlineData("9999999999999999999")]
    [InlineData("18446744073709551616")]
    [InlineData("1e22")]
    [InlineData("1e23")]
    [InlineData("1e-22")]
    [InlineData("1e-23")]
    [InlineData("1e-45")]
    [InlineData("7.006492321624085e-46")] // half the least float
    [InlineData("7.006492321624086e-46")]
    [InlineData("1.1754943508222875e-38")]
    [InlineData("3.4028234663852886e38")]
    [InlineData("3.4028235677973366e38")] // where floats overflow
    [InlineData("3.4028235677973365e38")]
    [InlineData("5e-324")]
    [InlineData("2.2250738585072011e-308")]
    [InlineData("1.7976931348623157e308")]
    [InlineData("1.7976931348623159e308")]
    [InlineData("1e400")]
    [InlineData("-1e400")]
    [InlineData("1e-400")]
    [InlineData("1e99999999999999999999")]
    [InlineData("1e-99999999999999999999")]
    [InlineData("0.0000000000000000000000000000000000000000000000000000000000012345678901234567")]
    [InlineData("100000000000000000000000000000000000000000000000000000000000e-59")]
    public void Literal_ReadAsTheFrameworkReadsIt(string literal) => Literals.Check(Encoding.ASCII.GetBytes(literal));

    [Fact]
    public void LongRunsOfZerosAndNines_ReadAsTheFrameworkReadsThem()
    {
        for (var length = 1; length < 1200; length += length < 60 ? 1 : 97)
        {
            var (zeros, nines) = (new string('0', length), new string('9', length));
            foreach (var literal in (string[])[$"0.{zeros}", $"0.{zeros}1", $"0.{zeros}1e{length}", $"1.{zeros}1", $"1{zeros}", $"1{zeros}.0e-{length}", nines, $"0.{nines}", $"{nines}.{nines}"])
                Literals.Check(Encoding.ASCII.GetBytes(literal));
        }
    }

    [Theory]
    [InlineData("R")]
    [InlineData("G9")]
    [InlineData("E8")]
    [InlineData("E20")]
    public void FloatsOfRandomBits_ReadAsTheFrameworkReadsThem(string format)
    {
        var random = new Random(1);
        var literals = new Literals();
        for (var i = 0; i < 250_000; i++)
        {
            var value = BitConverter.Int32BitsToSingle((int)random.NextInt64(1L << 32));
            if (float.IsFinite(value))
                literals.Check(value, format);
        }
    }

    [Theory]
    [InlineData("R")]
    [InlineData("G17")]
    [InlineData("E24")]
    public void DoublesOfRandomBits_ReadAsTheFrameworkReadsThem(string format)
    {
        var random = new Random(2);
        var literals = new Literals();
        for (var i = 0; i < 100_000; i++)
        {
            var value = BitConverter.Int64BitsToDouble((random.NextInt64() << 1) ^ random.NextInt64());
            if (double.IsFinite(value))
                literals.Check(value, format);
        }
    }

    [Theory]
    [InlineData("R")]
    [InlineData("G6")]
    [InlineData("F12")]
    [InlineData("F19")]
    public void NumbersAsModelsAreSentThem_ReadAsTheFrameworkReadsThem(string format)
    {
        var random = new Random(3);
        var literals = new Literals();
        for (var i = 0; i < 100_000; i++)
        {
            var value = (random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-5, 6));
            literals.Check(i % 2 == 0 ? value : (float)value, format);
        }
    }

    [Fact]
    public void RandomDigits_ReadAsTheFrameworkReadsThem()
    {
        var random = new Random(4);
        var literal = new byte[80];
        for (var i = 0; i < 300_000; i++)
        {
            var length = 0;
            if (random.Next(2) == 0)
                literal[length++] = (byte)'-';
            AppendDigits(1 + random.Next(3) * random.Next(8), false);
            if (random.Next(4) != 0)
            {
                literal[length++] = (byte)'.';
                AppendDigits(1 + random.Next(1 + random.Next(35)), true);
            }
            if (random.Next(4) == 0)
            {
                literal[length++] = (byte)(random.Next(2) == 0 ? 'e' : 'E');
                if (random.Next(3) is > 0 and var sign)
                    literal[length++] = (byte)(sign == 1 ? '+' : '-');
                AppendDigits(random.Next(1, 3), true);
            }
            Literals.Check(literal.AsSpan(0, length));

            void AppendDigits(int count, bool leadingZeros)
            {
                var zeros = leadingZeros ? random.Next(count) * random.Next(2) : 0;
                for (var k = 0; k < count; k++)
                    literal[length++] = (byte)('0' + (k < zeros ? 0 : random.Next(leadingZeros || k > 0 || count == 1 ? 0 : 1, 10)));
            }
        }
    }

    [Fact]
    public void MidpointsOfAdjacentFloatsAndWhatIsNextToThem_ReadAsTheFrameworkReadsThem()
    {
        var random = new Random(5);
        for (var i = 0; i < 30_000; i++)
        {
            // Mostly where the digits are few enough for the fast path, otherwise anywhere.
            var low = i % 3 > 0
                ? MathF.ScaleB(1 + random.NextSingle(), random.Next(0, 45))
                : BitConverter.Int32BitsToSingle(random.Next(0x7F7F_FFFF));
            var midpoint = ((double)low + MathF.BitIncrement(low)) / 2;
            var exact = midpoint.ToString(i % 3 > 0 ? "F30" : "E120", CultureInfo.InvariantCulture);
            var (digits, exponent) = exact.IndexOf('E') is >= 0 and var e ? (exact[..e], exact[e..]) : (exact, "");
            digits = digits.TrimEnd('0');
            digits = digits.EndsWith('.') ? digits + '0' : digits;
            CheckText(digits + exponent);
            CheckText($"{digits}{new string('0', random.Next(12))}1{exponent}");
            if (digits[^1] != '0')
                CheckText($"{digits[..^1]}{(char)(digits[^1] - 1)}{new string('9', random.Next(1, 12))}{exponent}");
            // And the doubles around it, which are where the margin counts.
            var near = midpoint;
            for (var step = 0; step < 5; step++)
            {
                near = i % 2 == 0 ? Math.BitIncrement(near) : Math.BitDecrement(near);
                CheckText(near.ToString("R", CultureInfo.InvariantCulture));
            }
        }

        static void CheckText(string literal)
        {
            Span<byte> utf8 = stackalloc byte[literal.Length];
            Encoding.ASCII.GetBytes(literal, utf8);
            Literals.Check(utf8);
        }
    }

    [Theory]
    [InlineData("", 0)]
    [InlineData("-", 1)]
    [InlineData("+1", 0)]
    [InlineData(".5", 0)]
    [InlineData("-.5", 1)]
    [InlineData("1.", 2)]
    [InlineData("1.e5", 2)]
    [InlineData("1e", 2)]
    [InlineData("1e+", 3)]
    [InlineData("1.5e-x", 5)]
    [InlineData("--1", 1)]
    [InlineData("NaN", 0)]
    [InlineData("-Infinity", 1)]
    public void NoNumber_ReturnsTheComplementOfWhereItStopsBeingOne(string text, int misfit)
    {
        foreach (var padding in (string[])["", new string(' ', 40)])
        {
            var utf8 = Encoding.ASCII.GetBytes(text + padding);
            Assert.Equal(~misfit, DecimalParser.ReadSingle(utf8, 0, out _));
            Assert.Equal(~misfit, DecimalParser.ReadDouble(utf8, 0, out _));
            Assert.Equal(~misfit, DecimalParser.Skip(utf8, 0));
        }
    }

    [Theory]
    [InlineData("01", 1)]
    [InlineData("-01", 2)]
    [InlineData("0x10", 1)]
    [InlineData("1.5x", 3)]
    [InlineData("1.5.5", 3)]
    [InlineData("1e5e5", 3)]
    [InlineData("12,13", 2)]
    public void TextAfterANumber_IsLeftToTheCaller(string text, int end) => Assert.Equal(end, DecimalParser.Skip(Encoding.ASCII.GetBytes(text), 0));

    [Theory]
    [InlineData("1,2.5, 3,\n4e0,", 4)]
    [InlineData("1,2,3]", 2)]
    [InlineData("1,2 ,3,", 1)]
    [InlineData("1,1e39,3,", 1)]
    [InlineData("1,02,3,", 1)]
    [InlineData("1,2.,3,", 1)]
    [InlineData("1,-,3,", 1)]
    [InlineData("1,0.0.0,3,", 1)]
    [InlineData("1,0.12345678901234567890123456789012345678901234567890,3,", 3)]
    [InlineData("1,12345678901234567890123456789012345678901234567890.0,", 1)]
    [InlineData("1,null,", 1)]
    public void RunOfFloats_EndsBeforeWhatIsNoFiniteFloatWithAComma(string text, int expected)
    {
        // With room on both sides for the vectors, and without.
        foreach (var (before, after) in (ReadOnlySpan<(int, int)>)[(0, 0), (40, 0), (0, 100), (40, 100)])
        {
            var utf8 = Encoding.ASCII.GetBytes(new string('[', before) + text + new string(']', after));
            var position = before;
            var floats = new float[8];
            Assert.Equal(expected, DecimalParser.ReadSingles(utf8, ref position, floats));
            Assert.Equal(expected, utf8.AsSpan(before, position - before).Count((byte)','));
        }
    }

    [Fact]
    public void RunOfFloats_TakesNoMoreThanThereIsRoomFor()
    {
        var position = 0;
        Assert.Equal(2, DecimalParser.ReadSingles("1,2,3,4,"u8, ref position, new float[2]));
        Assert.Equal(4, position);
    }

    /// <summary>Puts literals where the parser finds them in a request, and compares what it makes of them.</summary>
    private sealed class Literals
    {
        private readonly byte[] _literal = new byte[200];

        public void Check<T>(T value, string format) where T : IUtf8SpanFormattable
        {
            Assert.True(value.TryFormat(_literal, out var length, format, CultureInfo.InvariantCulture));
            Check(_literal.AsSpan(0, length));
        }

        public static void Check(ReadOnlySpan<byte> literal)
        {
            var expected = float.Parse(literal, NumberStyles.Float, CultureInfo.InvariantCulture);
            var expectedDouble = double.Parse(literal, NumberStyles.Float, CultureInfo.InvariantCulture);

            var end = DecimalParser.ReadSingle(literal, 0, out var alone);
            var endOfDouble = DecimalParser.ReadDouble(literal, 0, out var alsoDouble);
            var among = expected;
            if (float.IsFinite(expected))
            {
                const int Room = 64;
                Span<byte> body = stackalloc byte[Room + literal.Length + 1 + Room];
                body.Fill((byte)'7');
                literal.CopyTo(body[Room..]);
                body[Room + literal.Length] = (byte)',';
                var position = Room;
                among = float.NaN;
                DecimalParser.ReadSingles(body, ref position, new Span<float>(ref among));
            }

            if (end != literal.Length
                || endOfDouble != literal.Length
                || BitConverter.SingleToInt32Bits(alone) != BitConverter.SingleToInt32Bits(expected)
                || BitConverter.SingleToInt32Bits(among) != BitConverter.SingleToInt32Bits(expected)
                || BitConverter.DoubleToInt64Bits(alsoDouble) != BitConverter.DoubleToInt64Bits(expectedDouble))
            {
                Assert.Fail($"{Encoding.ASCII.GetString(literal)}: float {alone:R}, in a run {among:R}, expected {expected:R}; double {alsoDouble:R}, expected {expectedDouble:R}; ends {end}, {endOfDouble}");
            }
        }
    }
}
