using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Unicode;

namespace Skiff.Serving.Json;

/// <summary>What kind of value stands next.</summary>
internal enum JsonKind : byte
{
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// <summary>A place in a document to come back to: <see cref="JsonCursor.Mark"/>.</summary>
internal readonly record struct JsonMark(int Position, int Depth, bool IsFresh);

/// <summary>
/// Reads one JSON document (RFC 8259, strictly) forward, value by value, out of a buffer that holds all of it. Nothing is allocated but strings and what escapes hide.
/// <code>
/// cursor.BeginObject();
/// while (cursor.NextProperty(out var name))
/// {
///     if (name.SequenceEqual("id"u8)) id = cursor.ReadString("'id'");
///     else cursor.Skip();
/// }
/// cursor.End();
/// </code>
/// Every property and every element must be read or skipped before the next is asked for.
/// </summary>
/// <remarks>
/// What the caller should mend is thrown as <see cref="RequestException"/>: malformed JSON with its byte, or a value of the wrong kind. For the latter each method takes
/// <c>what</c>, the name of the field as the message should call it, and where the kind alone says too little <c>takes</c>, what the field takes: constants, so that they cost
/// nothing while all goes well.
/// </remarks>
internal ref struct JsonCursor(ReadOnlySpan<byte> json)
{
    /// <summary>Objects and arrays that may stand within each other.</summary>
    public const int MaxDepth = 64;

    private static readonly SearchValues<byte> EndsPlainText = SearchValues.Create([(byte)'"', (byte)'\\', .. Enumerable.Range(0, 0x20).Select(control => (byte)control)]);

    private readonly ReadOnlySpan<byte> _json = json;
    private int _position;
    private int _depth;

    /// <summary>Whether the innermost object or array was only just opened, so that no comma is due.</summary>
    private bool _isFresh;

    /// <summary>Bytes read so far.</summary>
    public readonly int Position => _position;

    /// <summary>Bytes of the whole document.</summary>
    public readonly int Length => _json.Length;

    /// <summary>Where white space that may start at <paramref name="at"/> ends.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int SkipWhiteSpace(ReadOnlySpan<byte> json, int at)
    {
        // The comparison is for speed: mostly it alone decides.
        while ((uint)at < (uint)json.Length && json[at] <= ' ' && json[at] is (byte)' ' or (byte)'\n' or (byte)'\r' or (byte)'\t')
            at++;
        return at;
    }

    /// <summary>A number as a message should show it.</summary>
    public static string Shorten(ReadOnlySpan<byte> literal) =>
        literal.Length <= 40 ? Encoding.ASCII.GetString(literal) : $"{Encoding.ASCII.GetString(literal[..40])}… ({literal.Length} characters)";

    /// <summary>Remembers this place, so that a value can be skipped now and read later.</summary>
    public readonly JsonMark Mark() => new(_position, _depth, _isFresh);

    public void Return(JsonMark mark) => (_position, _depth, _isFresh) = mark;

    /// <summary>Moves to the next value and tells its kind, by its first byte.</summary>
    public JsonKind Peek()
    {
        SkipWhiteSpace();
        return KindHere() ?? throw Malformed("a value");
    }

    public void BeginObject(string? what = null, string takes = "an object") => Begin((byte)'{', what, takes);

    /// <summary>Moves to the value of the next property. False, and the object is left, where there is none.</summary>
    /// <param name="name">The name, unescaped.</param>
    public bool NextProperty(out ReadOnlySpan<byte> name)
    {
        if (!Next((byte)'}', "',' or '}'"))
        {
            name = default;
            return false;
        }
        if (!IsHere((byte)'"'))
            throw Malformed("a property name in quotes");
        name = ReadText();
        SkipWhiteSpace();
        if (!IsHere((byte)':'))
            throw Malformed("':'");
        _position++;
        return true;
    }

    public void BeginArray(string? what = null, string takes = "an array") => Begin((byte)'[', what, takes);

    /// <summary>Moves to the next element. False, and the array is left, where there is none.</summary>
    public bool NextElement() => Next((byte)']', "',' or ']'");

    /// <summary>Reads a string: a slice of the input where it has no escapes, otherwise a new array.</summary>
    public ReadOnlySpan<byte> ReadUtf8String(string? what = null, string takes = "a string")
    {
        SkipWhiteSpace();
        if (!IsHere((byte)'"'))
            throw Mismatch(what, takes);
        return ReadText();
    }

    public string ReadString(string? what = null, string takes = "a string") => Encoding.UTF8.GetString(ReadUtf8String(what, takes));

    /// <summary>Reads a number as it is written.</summary>
    public ReadOnlySpan<byte> ReadNumber(string? what = null, string takes = "a number")
    {
        var start = ExpectNumber(what, takes);
        MoveTo(DecimalParser.Skip(_json, start));
        return _json[start.._position];
    }

    /// <summary>Reads a number that is written without fraction and exponent: not <c>1.0</c>, not <c>1e3</c>.</summary>
    public long ReadInt64(string? what = null, string takes = "a 64-bit integer")
    {
        var literal = ReadNumber(what, takes);
        return long.TryParse(literal, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value) ? value : throw Mismatch(what, takes, literal);
    }

    /// <summary>Reads a number that is finite as a double.</summary>
    public double ReadDouble(string? what = null, string takes = "a number")
    {
        var start = ExpectNumber(what, takes);
        MoveTo(DecimalParser.ReadDouble(_json, start, out var value));
        return double.IsFinite(value) ? value : throw Mismatch(what, $"{takes} within the range of a double", _json[start.._position]);
    }

    /// <summary>Reads numbers, of which <see cref="NextElement"/> has found the first, and the comma after each, in a tight loop; stops before one that is no finite float.</summary>
    /// <returns>How many there are now in <paramref name="destination"/>. An element must follow them.</returns>
    public int ReadSingles(Span<float> destination) => DecimalParser.ReadSingles(_json, ref _position, destination);

    public bool ReadBoolean(string? what = null, string takes = "true or false")
    {
        SkipWhiteSpace();
        switch (KindHere())
        {
            case JsonKind.True:
                ReadWord("true"u8);
                return true;
            case JsonKind.False:
                ReadWord("false"u8);
                return false;
            default:
                throw Mismatch(what, takes);
        }
    }

    /// <summary>Moves past a null, where there is one.</summary>
    public bool TryReadNull()
    {
        if (Peek() != JsonKind.Null)
            return false;
        ReadWord("null"u8);
        return true;
    }

    /// <summary>Moves past a value of any kind, as strict about it as reading would be.</summary>
    public void Skip()
    {
        switch (Peek())
        {
            case JsonKind.Object:
                BeginObject();
                while (NextProperty(out _))
                    Skip();
                break;
            case JsonKind.Array:
                BeginArray();
                while (NextElement())
                    Skip();
                break;
            case JsonKind.String:
                ReadText();
                break;
            case JsonKind.Number:
                ReadNumber();
                break;
            case JsonKind.True:
                ReadWord("true"u8);
                break;
            case JsonKind.False:
                ReadWord("false"u8);
                break;
            case JsonKind.Null:
                ReadWord("null"u8);
                break;
        }
    }

    /// <summary>Makes sure that nothing but white space is left.</summary>
    public void End()
    {
        SkipWhiteSpace();
        if (_position < _json.Length)
            throw Malformed("the end of the body");
    }

    private readonly JsonKind? KindHere() => (uint)_position >= (uint)_json.Length ? null : _json[_position] switch
    {
        (byte)'{' => JsonKind.Object,
        (byte)'[' => JsonKind.Array,
        (byte)'"' => JsonKind.String,
        (byte)'-' or (>= (byte)'0' and <= (byte)'9') => JsonKind.Number,
        (byte)'t' => JsonKind.True,
        (byte)'f' => JsonKind.False,
        (byte)'n' => JsonKind.Null,
        _ => null,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly bool IsHere(byte expected) => (uint)_position < (uint)_json.Length && _json[_position] == expected;

    private void SkipWhiteSpace() => _position = SkipWhiteSpace(_json, _position);

    private void Begin(byte opening, string? what, string takes)
    {
        SkipWhiteSpace();
        if (!IsHere(opening))
            throw Mismatch(what, takes);
        if (_depth == MaxDepth)
            throw Malformed($"at most {MaxDepth} levels of objects and arrays");
        _depth++;
        _position++;
        _isFresh = true;
    }

    private bool Next(byte closing, string expected)
    {
        SkipWhiteSpace();
        if (IsHere(closing))
        {
            _position++;
            _depth--;
            _isFresh = false;
            return false;
        }
        if (_isFresh)
        {
            _isFresh = false;
            return true;
        }
        if (!IsHere((byte)','))
            throw Malformed(expected);
        _position++;
        SkipWhiteSpace();
        return true;
    }

    private int ExpectNumber(string? what, string takes)
    {
        SkipWhiteSpace();
        return KindHere() == JsonKind.Number ? _position : throw Mismatch(what, takes);
    }

    /// <summary>Moves to the end of a number, as <see cref="DecimalParser"/> gives it.</summary>
    private void MoveTo(int end)
    {
        _position = end < 0 ? ~end : end;
        if (end < 0)
            throw Malformed("a digit");
    }

    private void ReadWord(ReadOnlySpan<byte> word)
    {
        foreach (var letter in word)
        {
            if (!IsHere(letter))
                throw Malformed($"'{Encoding.ASCII.GetString(word)}'");
            _position++;
        }
    }

    /// <summary>Reads the string whose opening quote stands here.</summary>
    private ReadOnlySpan<byte> ReadText()
    {
        var start = ++_position;
        var isEscaped = false;
        while (true)
        {
            var plain = _json[_position..].IndexOfAny(EndsPlainText);
            _position = plain < 0 ? _json.Length : _position + plain;
            if (IsHere((byte)'"'))
                break;
            if (_position == _json.Length)
                throw Malformed("the quote that ends a string");
            if (!IsHere((byte)'\\'))
                throw Malformed("control characters in strings to be escaped");
            // Whatever is escaped here, a quote above all, doesn't end the string.
            isEscaped = true;
            _position = Math.Min(_position + 2, _json.Length);
        }

        var end = _position;
        var text = _json[start..end];
        if (!Utf8.IsValid(text))
        {
            _position = start + ValidPrefix(text);
            throw Malformed("UTF-8");
        }
        if (isEscaped)
            text = Unescape(start, end);
        _position = end + 1;
        return text;
    }

    private ReadOnlySpan<byte> Unescape(int start, int end)
    {
        // No escape is shorter than what it stands for.
        var text = new byte[end - start];
        var written = 0;
        _position = start;
        while (true)
        {
            var rest = _json[_position..end];
            var escape = rest.IndexOf((byte)'\\');
            var plain = escape < 0 ? rest : rest[..escape];
            plain.CopyTo(text.AsSpan(written));
            written += plain.Length;
            if (escape < 0)
                return text.AsSpan(0, written);
            _position += escape + 1;
            written += ReadEscape().EncodeToUtf8(text.AsSpan(written));
        }
    }

    /// <summary>Reads an escape, of which the backslash has been read.</summary>
    private Rune ReadEscape()
    {
        var letter = _json[_position];
        if (letter == 'u')
        {
            _position++;
            return ReadUtf16();
        }
        Rune meaning = letter switch
        {
            (byte)'"' or (byte)'\\' or (byte)'/' => new(letter),
            (byte)'b' => new('\b'),
            (byte)'f' => new('\f'),
            (byte)'n' => new('\n'),
            (byte)'r' => new('\r'),
            (byte)'t' => new('\t'),
            _ => throw Malformed("an escape: one of \"\\/bfnrtu"),
        };
        _position++;
        return meaning;
    }

    /// <summary>Reads a character as <c>\u</c> escapes have it, one unit of UTF-16 or a surrogate pair, of which the first <c>\u</c> has been read.</summary>
    private Rune ReadUtf16()
    {
        var unit = ReadHexadecimal();
        if (Rune.TryCreate(unit, out var character))
            return character;
        if (char.IsHighSurrogate(unit) && _json[_position..].StartsWith("\\u"u8))
        {
            _position += 2;
            if (Rune.TryCreate(unit, ReadHexadecimal(), out character))
                return character;
        }
        throw Malformed("a surrogate and its other half");
    }

    private char ReadHexadecimal()
    {
        var unit = 0;
        for (var i = 0; i < 4; i++)
        {
            var digit = _position < _json.Length ? (char)_json[_position] : default;
            if (!char.IsAsciiHexDigit(digit))
                throw Malformed("four hexadecimal digits");
            unit = unit * 16 + (char.IsAsciiDigit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
            _position++;
        }
        return (char)unit;
    }

    private static int ValidPrefix(ReadOnlySpan<byte> text)
    {
        var valid = 0;
        while (Rune.DecodeFromUtf8(text[valid..], out _, out var consumed) == OperationStatus.Done)
            valid += consumed;
        return valid;
    }

    /// <summary>The value that stands here is not what its field takes; unless none stands here.</summary>
    private readonly RequestException Mismatch(string? what, string takes) => KindHere() switch
    {
        JsonKind.Object => Mismatch(what, takes, _position, "an object"),
        JsonKind.Array => Mismatch(what, takes, _position, "an array"),
        JsonKind.String => Mismatch(what, takes, _position, "a string"),
        JsonKind.Number => Mismatch(what, takes, _position, "a number"),
        JsonKind.True => Mismatch(what, takes, _position, "true"),
        JsonKind.False => Mismatch(what, takes, _position, "false"),
        JsonKind.Null => Mismatch(what, takes, _position, "null"),
        _ => Malformed(takes),
    };

    /// <summary>The number that was just read is not what its field takes.</summary>
    private readonly RequestException Mismatch(string? what, string takes, ReadOnlySpan<byte> literal) =>
        Mismatch(what, takes, _position - literal.Length, Shorten(literal));

    private static RequestException Mismatch(string? what, string takes, int position, string found) => RequestException.Invalid(
        what is null ? $"at byte {position}: expected {takes}, found {found}" : $"{what} takes {takes}, found {found} at byte {position}");

    /// <summary>What stands here is not JSON.</summary>
    private readonly RequestException Malformed(string expected)
    {
        var rest = _json[_position..];
        if (_position == 0 && rest.StartsWith("\uFEFF"u8))
            return RequestException.Invalid("malformed JSON at byte 0: the body starts with a byte order mark, which JSON goes without");
        var found = rest switch
        {
            [] => "but the body ends too early",
            _ when rest.StartsWith("NaN"u8) || rest.StartsWith("Infinity"u8) => "found NaN or infinity, which JSON can't carry",
            [> (byte)' ' and <= (byte)'~' and var character, ..] => $"found '{(char)character}'",
            [var other, ..] => $"found byte 0x{other:X2}",
        };
        return RequestException.Invalid($"malformed JSON at byte {_position}: expected {expected}, {found}");
    }
}
