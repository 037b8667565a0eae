using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Skiff.Serving.Json;

/// <summary>
/// Reads JSON numbers (RFC 8259 §6, strictly) out of UTF-8, to the nearest value of their type, ties to even: bit for bit what the framework's parser gives, several times faster.
/// Each method takes the place where a number starts and returns the place after it, or where no number stands there the complement, ~, of the place of the byte that doesn't fit.
/// What may follow a number is the caller's business: of <c>01</c> and <c>1.5x</c> these read <c>0</c> and <c>1.5</c>.
/// </summary>
/// <remarks>
/// <para>
/// Write the number as x = ±m × 10ᵉ, with m all its digits. Up to 19 digits fit a <see cref="ulong"/>, and the powers of ten to 10²² are doubles without error.
/// </para>
/// <para>
/// Double, m ≤ 2⁵³ and |e| ≤ 22: both operands are exact and IEEE 754 rounds their product or quotient once, so the result is the nearest double.
/// (W. D. Clinger, How to Read Floating Point Numbers Accurately, PLDI 1990.)
/// </para>
/// <para>
/// Float, m &lt; 2⁶³ and |e| ≤ 22: take d = round(round(m) × 10ᵉ) in double, and let ulp be the spacing of doubles at d. The first rounding changes m, and so the result,
/// by at most one part in 2⁵³, which is at most 1 ulp; the second adds at most ½ ulp. So |d − x| &lt; 2 ulp. The float nearest to d is the float nearest to x unless a midpoint
/// between two adjacent floats lies between them, or on one of them. A float has 29 bits of mantissa less than a double, so that the midpoints are the doubles whose low 29 bits
/// are 0x1000_0000 (the one above <see cref="float.MaxValue"/>, where overflow begins, is another). Where those bits of d are more than 2 away from that, no midpoint is in reach.
/// Subnormal floats have fewer bits, but they can't come up: m ≥ 1 gives x ≥ 10⁻²², far above 2⁻¹²⁶, and m = 0 is exact.
/// </para>
/// <para>
/// What is left, about one in 10⁸ of the numbers that models are sent, goes to the framework, which has rounded correctly since .NET Core 3.0. Digits are gathered many at a time,
/// in a register or a vector, as in D. Lemire, Number Parsing at a Gigabyte per Second, Software: Practice and Experience 51(8), 2021.
/// </para>
/// </remarks>
internal static class DecimalParser
{
    /// <summary>Digits that a <see cref="ulong"/> holds whatever they are.</summary>
    private const int MaxDigits = 19;

    /// <summary>The largest power of ten that a double holds exactly: 5²² &lt; 2⁵³.</summary>
    private const int MaxPower = 22;

    /// <summary>In place of an exponent: too many digits or too large a power, so that the framework must read the number.</summary>
    private const int NotShort = int.MaxValue;

    /// <summary>Bytes that the digits after a point are looked for in.</summary>
    private const int Window = 32;

    private const NumberStyles JsonNumber = NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;

    private static ReadOnlySpan<double> PowersOfTen =>
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

    private static ReadOnlySpan<ulong> IntegerPowersOfTen =>
    [
        1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000,
        10_000_000_000, 100_000_000_000, 1_000_000_000_000, 10_000_000_000_000, 100_000_000_000_000, 1_000_000_000_000_000,
        10_000_000_000_000_000, 100_000_000_000_000_000, 1_000_000_000_000_000_000, 10_000_000_000_000_000_000,
    ];

    /// <summary>Reads the nearest float; infinity where the number rounds to beyond <see cref="float.MaxValue"/>.</summary>
    public static int ReadSingle(ReadOnlySpan<byte> json, int start, out float value)
    {
        var end = Scan(json, start, out var sign, out var digits, out var exponent);
        if (exponent == NotShort || digits > long.MaxValue || !TryRound(Scale(digits, exponent), sign, out value))
            value = end < 0 ? 0 : float.Parse(json[start..end], JsonNumber, CultureInfo.InvariantCulture);
        return end;
    }

    /// <summary>
    /// Reads floats from <paramref name="position"/>, which moves past them, while they are finite, a comma follows and there is room for them. Returns how many.
    /// </summary>
    public static int ReadSingles(ReadOnlySpan<byte> json, ref int position, Span<float> destination)
    {
        // Hot: a server of small models spends more time here than anywhere else.
        var at = position;
        var count = 0;
        for (; count < destination.Length; count++)
        {
            at = JsonCursor.SkipWhiteSpace(json, at);
            if (Ssse3.IsSupported && at >= Window && json.Length - at >= 2 * Window)
            {
                var length = ReadPlain(ref Unsafe.Add(ref MemoryMarshal.GetReference(json), (nuint)(uint)at), out destination[count]);
                if (length > 0)
                {
                    at += length;
                    continue;
                }
            }
            var end = ReadSingle(json, at, out var value);
            if (!IsAt(json, end, ',') || !float.IsFinite(value))
                break;
            destination[count] = value;
            at = end + 1;
        }
        position = at;
        return count;
    }

    /// <summary>Reads the nearest double; infinity where the number rounds to beyond <see cref="double.MaxValue"/>.</summary>
    public static int ReadDouble(ReadOnlySpan<byte> json, int start, out double value)
    {
        const ulong MaxExact = 1UL << 53;
        var end = Scan(json, start, out var sign, out var digits, out var exponent);
        if (exponent != NotShort && digits <= MaxExact)
            value = BitConverter.UInt64BitsToDouble(BitConverter.DoubleToUInt64Bits(Scale(digits, exponent)) | sign);
        else
            value = end < 0 ? 0 : double.Parse(json[start..end], JsonNumber, CultureInfo.InvariantCulture);
        return end;
    }

    /// <summary>Moves past a number.</summary>
    public static int Skip(ReadOnlySpan<byte> json, int start) => Scan(json, start, out _, out _, out _);

    /// <summary>digits × 10^exponent, for digits below 2⁶³.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static double Scale(ulong digits, int exponent) => exponent < 0 ? (long)digits / PowersOfTen[-exponent] : (long)digits * PowersOfTen[exponent];

    /// <summary>Rounds a product that is off by less than 2 ulp, unless that leaves two floats to choose from.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryRound(double magnitude, ulong sign, out float value)
    {
        const uint Low29 = 0x1FFF_FFFF, Midpoint = 0x1000_0000, Margin = 2;
        var bits = BitConverter.DoubleToUInt64Bits(magnitude);
        value = (float)BitConverter.UInt64BitsToDouble(bits | sign);
        return ((uint)bits & Low29) - (Midpoint - Margin) > 2 * Margin;
    }

    /// <summary>
    /// Reads a number that is written plainly: up to eight digits before the point, up to 18 after it, no exponent, and a comma. Returns their length; 0 for any other.
    /// Looks at no more than the <see cref="Window"/> bytes before <paramref name="here"/> and twice as many from there.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int ReadPlain(ref byte here, out float value)
    {
        value = 0;
        nint at = 0;
        ulong sign = 0;
        if (here == '-')
        {
            sign = 1UL << 63;
            at++;
        }

        var first = at;
        var digits = Unsafe.Add(ref here, at) - (ulong)'0';
        if (digits > 9)
            return 0;
        at++;
        if (digits != 0)
        {
            for (ulong digit; at - first < 8 && (digit = Unsafe.Add(ref here, at) - (ulong)'0') <= 9; at++)
                digits = digits * 10 + digit;
        }

        var next = Unsafe.Add(ref here, at);
        at++;
        if (next == ',')
        {
            value = (float)BitConverter.UInt64BitsToDouble(BitConverter.DoubleToUInt64Bits((long)digits) | sign);
            return (int)at;
        }
        if (next != '.')
            return 0;
        if (digits == 0 && Unsafe.Add(ref here, at) == '0' && Unsafe.Add(ref here, at + 1) == ',')
        {
            // 0.0, of which there are so many that it pays to guess it: what follows needn't wait for a count.
            value = (float)BitConverter.UInt64BitsToDouble(sign);
            return (int)at + 2;
        }
        var count = CountDigits(ref Unsafe.Add(ref here, at));
        var length = (int)(at - first) + count; // with the point
        at += count;
        if (Unsafe.Add(ref here, at) != ',' || count == 0 || length > 20)
            return 0;
        digits = digits * IntegerPowersOfTen[count] + Combine(ref Unsafe.Add(ref here, at - Window), count);
        at++;
        return digits <= long.MaxValue && TryRound((long)digits / PowersOfTen[count], sign, out value) ? (int)at : 0;
    }

    /// <summary>How many of the bytes here, at most <see cref="Window"/>, are digits before one is not.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int CountDigits(ref byte here)
    {
        // A digit is 0 to 9 after the subtraction; anything else is more, and saturates to 128 or more, where the high bit is set.
        var (zero, rest) = (Vector128.Create((byte)'0'), Vector128.Create((byte)(128 - 10)));
        var low = Sse2.AddSaturate(Vector128.LoadUnsafe(ref here) - zero, rest).ExtractMostSignificantBits();
        var high = Sse2.AddSaturate(Vector128.LoadUnsafe(ref here, 16) - zero, rest).ExtractMostSignificantBits();
        return BitOperations.TrailingZeroCount(low | high << 16);
    }

    /// <summary>The number that the last <paramref name="count"/> of the <see cref="Window"/> bytes here make: at most 19 digits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Combine(ref byte here, int count)
    {
        // The low half of each byte that counts.
        ReadOnlySpan<byte> keep =
        [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
        ];
        ref var mask = ref Unsafe.Add(ref MemoryMarshal.GetReference(keep), (nuint)(uint)count);
        var fours = Sse2.PackSignedSaturate(
            CombineFours(Vector128.LoadUnsafe(ref here) & Vector128.LoadUnsafe(ref mask)),
            CombineFours(Vector128.LoadUnsafe(ref here, 16) & Vector128.LoadUnsafe(ref mask, 16)));
        var eights = Sse2.MultiplyAddAdjacent(fours, Vector128.Create((short)10_000, 1, 10_000, 1, 10_000, 1, 10_000, 1)).AsUInt64();
        var (high, low) = (eights.GetElement(0), eights.GetElement(1));
        return (high >> 32) * 10_000_000_000_000_000 + (uint)low * 100_000_000UL + (low >> 32);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> CombineFours(Vector128<byte> digits)
    {
        var pairs = Ssse3.MultiplyAddAdjacent(digits, Vector128.Create((sbyte)10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1));
        return Sse2.MultiplyAddAdjacent(pairs, Vector128.Create((short)100, 1, 100, 1, 100, 1, 100, 1));
    }

    /// <summary>The grammar, <c>-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?</c>, and what it says: ± digits × 10^exponent.</summary>
    /// <param name="sign">The sign bit of a double.</param>
    /// <param name="exponent">From -22 to 22, or <see cref="NotShort"/>; then the digits mean nothing.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Scan(ReadOnlySpan<byte> json, int start, out ulong sign, out ulong digits, out int exponent)
    {
        sign = 0;
        digits = 0;
        exponent = NotShort;
        var first = start;
        if (IsAt(json, start, '-'))
        {
            sign = 1UL << 63;
            first++;
        }

        var digit = Digit(json, first);
        if (digit > 9)
            return ~first;
        digits = digit;
        var at = first + 1;
        if (digit != 0)
        {
            for (; (digit = Digit(json, at)) <= 9; at++)
                digits = digits * 10 + digit;
        }

        var power = 0;
        if (IsAt(json, at, '.'))
        {
            var point = at + 1;
            at = AppendDigits(json, point, ref digits);
            if (at == point)
                return ~at;
            power = point - at;
        }
        if (at - first > MaxDigits || IsAt(json, at, 'e') || IsAt(json, at, 'E'))
            (at, power) = ScanRest(json, first, at, power);
        exponent = power;
        return at;
    }

    /// <summary>What is rare: an exponent at <paramref name="at"/>, and perhaps too many digits from <paramref name="first"/> up to there.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static (int End, int Exponent) ScanRest(ReadOnlySpan<byte> json, int first, int at, int power)
    {
        // Leading zeros take no room.
        var significant = json[first..at].TrimStart("0."u8);
        var fits = significant.Length <= MaxDigits || significant.Length - significant.Count((byte)'.') <= MaxDigits;
        long exponent = power;
        if (IsAt(json, at, 'e') || IsAt(json, at, 'E'))
        {
            // More than there can be digits after a point, so that what is cut off here never brings the sum near zero.
            const long Enough = 1L << 32;
            at++;
            var minus = IsAt(json, at, '-');
            if (minus || IsAt(json, at, '+'))
                at++;
            if (Digit(json, at) > 9)
                return (~at, NotShort);
            long written = 0;
            for (uint digit; (digit = Digit(json, at)) <= 9; at++)
                written = Math.Min(written * 10 + digit, Enough);
            exponent += minus ? -written : written;
        }
        return (at, fits && exponent is >= -MaxPower and <= MaxPower ? (int)exponent : NotShort);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsAt(ReadOnlySpan<byte> json, int at, char expected) => (uint)at < (uint)json.Length && json[at] == expected;

    /// <summary>The digit at a place, or something greater than 9.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Digit(ReadOnlySpan<byte> json, int at) => (uint)at < (uint)json.Length ? json[at] - (uint)'0' : uint.MaxValue;

    /// <summary>Appends the run of digits that starts at <paramref name="at"/>, modulo 2⁶⁴, and returns where it ends.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int AppendDigits(ReadOnlySpan<byte> json, int at, ref ulong digits)
    {
        while (json.Length - at >= sizeof(ulong))
        {
            // Each byte becomes its digit, 0 to 9, or something greater.
            var eight = BinaryPrimitives.ReadUInt64LittleEndian(json[at..]) ^ 0x3030_3030_3030_3030;
            // The high bit of a byte is set where the byte was greater than 9. Carries spoil only the bytes after the first such one.
            var others = ((eight + 0x7676_7676_7676_7676) | eight) & 0x8080_8080_8080_8080;
            if (others != 0)
            {
                // Moving the count digits that there are up to the end of the word puts zeros before them. Two shifts, because one by 64 would do nothing.
                var count = BitOperations.TrailingZeroCount(others) >> 3;
                digits = digits * IntegerPowersOfTen[count] + CombineEight(eight << 8 << (56 - 8 * count));
                return at + count;
            }
            digits = digits * 100_000_000 + CombineEight(eight);
            at += sizeof(ulong);
        }
        for (uint digit; (digit = Digit(json, at)) <= 9; at++)
            digits = digits * 10 + digit;
        return at;
    }

    /// <summary>The number that eight digits make, the first of them in the lowest byte: pairs in one multiplication, then all four pairs in two.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint CombineEight(ulong eight)
    {
        const ulong Pairs = 0x0000_00FF_0000_00FF;
        const ulong FirstAndThird = 100 + (1_000_000UL << 32), SecondAndFourth = 1 + (10_000UL << 32);
        eight = eight * 10 + (eight >> 8);
        return (uint)(((eight & Pairs) * FirstAndThird + ((eight >> 16) & Pairs) * SecondAndFourth) >> 32);
    }
}
