using System.Text;
using System.Text.Json;
using Skiff.Serving;
using Skiff.Serving.Json;

namespace Skiff.Unit.Serving.Json;

public sealed class JsonCursorTests
{
    private delegate void Reading(ref JsonCursor cursor);

    [Fact]
    public void Document_IsReadInOrder()
    {
        var cursor = new JsonCursor("""
             { "id" : "a\u00e9", "shape":[1, -784], "x": 1.5e3, "yes": true, "no": false, "none": null, "some": 1, "deep": {"skipped": [{}, [], [[1]]]}, "\u0065nd": {} }
            """u8);

        cursor.BeginObject();
        Assert.Equal("id", Name(ref cursor));
        Assert.Equal("aé", cursor.ReadString());
        Assert.Equal("shape", Name(ref cursor));
        cursor.BeginArray();
        Assert.True(cursor.NextElement());
        Assert.Equal(1, cursor.ReadInt64());
        Assert.True(cursor.NextElement());
        Assert.Equal(-784, cursor.ReadInt64());
        Assert.False(cursor.NextElement());
        Assert.Equal("x", Name(ref cursor));
        Assert.Equal(1500, cursor.ReadDouble());
        Assert.Equal("yes", Name(ref cursor));
        Assert.True(cursor.ReadBoolean());
        Assert.Equal("no", Name(ref cursor));
        Assert.False(cursor.ReadBoolean());
        Assert.Equal("none", Name(ref cursor));
        Assert.True(cursor.TryReadNull());
        Assert.Equal("some", Name(ref cursor));
        Assert.False(cursor.TryReadNull());
        Assert.Equal("1", Encoding.ASCII.GetString(cursor.ReadNumber()));
        Assert.Equal("deep", Name(ref cursor));
        cursor.Skip();
        Assert.Equal("end", Name(ref cursor));
        cursor.BeginObject();
        Assert.False(cursor.NextProperty(out _));
        Assert.False(cursor.NextProperty(out _));
        cursor.End();
    }

    [Theory]
    [InlineData("{}", JsonKind.Object)]
    [InlineData(" []", JsonKind.Array)]
    [InlineData("\t\"\"", JsonKind.String)]
    [InlineData("\r\n-1", JsonKind.Number)]
    [InlineData("0", JsonKind.Number)]
    [InlineData("9", JsonKind.Number)]
    [InlineData("true", JsonKind.True)]
    [InlineData("false", JsonKind.False)]
    [InlineData("null", JsonKind.Null)]
    internal void Peek_TellsTheKind(string json, JsonKind kind) => Assert.Equal(kind, new JsonCursor(Encoding.UTF8.GetBytes(json)).Peek());

    [Fact]
    public void ValueSkippedAndReturnedTo_IsReadWhereItWas()
    {
        var cursor = new JsonCursor("""{"data":[1,2],"shape":[2]}"""u8);
        cursor.BeginObject();
        Assert.Equal("data", Name(ref cursor));
        var data = cursor.Mark();
        cursor.Skip();
        Assert.Equal("shape", Name(ref cursor));
        cursor.Skip();
        Assert.False(cursor.NextProperty(out _));
        cursor.End();
        var end = cursor.Mark();

        cursor.Return(data);
        cursor.BeginArray();
        Assert.True(cursor.NextElement());
        Assert.Equal(1, cursor.ReadInt64());
        cursor.Return(end);

        cursor.End();
    }

    [Fact]
    public void StringWithoutEscapes_IsASliceOfTheInput()
    {
        ReadOnlySpan<byte> json = "\"plain é\""u8;
        var text = new JsonCursor(json).ReadUtf8String();
        Assert.True(text.Overlaps(json));
        Assert.True(text.SequenceEqual("plain é"u8));
    }

    [Theory]
    [InlineData("""
        "\"\\\/\b\f\n\r\t"
        """, "\"\\/\b\f\n\r\t")]
    [InlineData("""
        "a\u0041\u00e9\u20AC\ud83d\ude00z"
        """, "aAé€😀z")]
    [InlineData("""
        "\u0000\\u0041"
        """, "\0\\u0041")]
    public void Escapes_AreUndone(string json, string expected) => Assert.Equal(expected, new JsonCursor(Encoding.UTF8.GetBytes(json)).ReadString());

    [Theory]
    [InlineData("", "malformed JSON at byte 0: expected a value, but the body ends too early")]
    [InlineData("  ", "malformed JSON at byte 2: expected a value, but the body ends too early")]
    [InlineData("x", "malformed JSON at byte 0: expected a value, found 'x'")]
    [InlineData("\u0001", "malformed JSON at byte 0: expected a value, found byte 0x01")]
    [InlineData("\uFEFF{}", "malformed JSON at byte 0: the body starts with a byte order mark, which JSON goes without")]
    [InlineData("{} {}", "malformed JSON at byte 3: expected the end of the body, found '{'")]
    [InlineData("{1:2}", "malformed JSON at byte 1: expected a property name in quotes, found '1'")]
    [InlineData("{\"a\":1,}", "malformed JSON at byte 7: expected a property name in quotes, found '}'")]
    [InlineData("{,\"a\":1}", "malformed JSON at byte 1: expected a property name in quotes, found ','")]
    [InlineData("{\"a\" 1}", "malformed JSON at byte 5: expected ':', found '1'")]
    [InlineData("{\"a\":1 \"b\":2}", "malformed JSON at byte 7: expected ',' or '}', found '\"'")]
    [InlineData("{\"a\":1", "malformed JSON at byte 6: expected ',' or '}', but the body ends too early")]
    [InlineData("{\"a\":1]", "malformed JSON at byte 6: expected ',' or '}', found ']'")]
    [InlineData("[1 2]", "malformed JSON at byte 3: expected ',' or ']', found '2'")]
    [InlineData("[1,]", "malformed JSON at byte 3: expected a value, found ']'")]
    [InlineData("[,1]", "malformed JSON at byte 1: expected a value, found ','")]
    [InlineData("[1,", "malformed JSON at byte 3: expected a value, but the body ends too early")]
    [InlineData("[01]", "malformed JSON at byte 2: expected ',' or ']', found '1'")]
    [InlineData("[1.]", "malformed JSON at byte 3: expected a digit, found ']'")]
    [InlineData("[-]", "malformed JSON at byte 2: expected a digit, found ']'")]
    [InlineData("[NaN]", "malformed JSON at byte 1: expected a value, found NaN or infinity, which JSON can't carry")]
    [InlineData("[Infinity]", "malformed JSON at byte 1: expected a value, found NaN or infinity, which JSON can't carry")]
    [InlineData("[-Infinity]", "malformed JSON at byte 2: expected a digit, found NaN or infinity, which JSON can't carry")]
    [InlineData("tru", "malformed JSON at byte 3: expected 'true', but the body ends too early")]
    [InlineData("nul1", "malformed JSON at byte 3: expected 'null', found '1'")]
    [InlineData("\"ab", "malformed JSON at byte 3: expected the quote that ends a string, but the body ends too early")]
    [InlineData("\"ab\\", "malformed JSON at byte 4: expected the quote that ends a string, but the body ends too early")]
    [InlineData("\"a\nb\"", "malformed JSON at byte 2: expected control characters in strings to be escaped, found byte 0x0A")]
    [InlineData("\"a\\x\"", "malformed JSON at byte 3: expected an escape: one of \"\\/bfnrtu, found 'x'")]
    [InlineData("\"\\u12g4\"", "malformed JSON at byte 5: expected four hexadecimal digits, found 'g'")]
    [InlineData("\"\\u12\"", "malformed JSON at byte 5: expected four hexadecimal digits, found '\"'")]
    [InlineData("\"\\ud800\"", "malformed JSON at byte 7: expected a surrogate and its other half, found '\"'")]
    [InlineData("\"\\ud800\\u0041\"", "malformed JSON at byte 13: expected a surrogate and its other half, found '\"'")]
    [InlineData("\"\\udc00\"", "malformed JSON at byte 7: expected a surrogate and its other half, found '\"'")]
    public void MalformedJson_IsRefusedWithItsByte(string json, string message) => Assert.Equal(message, Refused(Encoding.UTF8.GetBytes(json), SkipAll));

    [Fact]
    public void InvalidUtf8_IsRefusedWithItsByte() =>
        Assert.Equal("malformed JSON at byte 2: expected UTF-8, found byte 0xC3", Refused([(byte)'"', (byte)'a', 0xC3, (byte)'"'], SkipAll));

    [Fact]
    public void Nesting_IsAllowedToItsLimitAndRefusedBeyond()
    {
        var deepest = new JsonCursor(Encoding.ASCII.GetBytes(new string('[', 64) + new string(']', 64)));
        deepest.Skip();
        deepest.End();

        Assert.Equal("malformed JSON at byte 64: expected at most 64 levels of objects and arrays, found '['", Refused(Encoding.ASCII.GetBytes(new string('[', 65)), SkipAll));
    }

    [Fact]
    public void WrongKind_IsRefusedInTheWordsOfTheField()
    {
        Assert.Equal("at byte 1: expected a string, found a number", Refused(" 1", (ref c) => c.ReadString()));
        Assert.Equal("'id' takes a string, found a number at byte 1", Refused(" 1", (ref c) => c.ReadString("'id'")));
        Assert.Equal("'shape' takes an array of integers, found a string at byte 0", Refused("\"1\"", (ref c) => c.BeginArray("'shape'", "an array of integers")));
        Assert.Equal("the body takes an object, found an array at byte 0", Refused("[]", (ref c) => c.BeginObject("the body")));
        Assert.Equal("'n' takes a 64-bit integer, found an object at byte 0", Refused("{}", (ref c) => c.ReadInt64("'n'")));
        Assert.Equal("'x' takes a number, found true at byte 0", Refused("true", (ref c) => c.ReadDouble("'x'")));
        Assert.Equal("'x' takes a number, found false at byte 0", Refused("false", (ref c) => c.ReadNumber("'x'")));
        Assert.Equal("'binary' takes true or false, found null at byte 0", Refused("null", (ref c) => c.ReadBoolean("'binary'")));
        Assert.Equal("malformed JSON at byte 0: expected a string, but the body ends too early", Refused("", (ref c) => c.ReadString("'id'")));
    }

    [Theory]
    [InlineData("1.5")]
    [InlineData("1.0")]
    [InlineData("1e3")]
    [InlineData("9223372036854775808")]
    [InlineData("-9223372036854775809")]
    public void NumberThatIsNo64BitInteger_IsRefusedAsOne(string json) =>
        Assert.Equal($"'n' takes a 64-bit integer, found {json} at byte 0", Refused(json, (ref c) => c.ReadInt64("'n'")));

    [Theory]
    [InlineData("9223372036854775807", long.MaxValue)]
    [InlineData("-9223372036854775808", long.MinValue)]
    [InlineData("-0", 0)]
    public void IntegersOf64Bits_AreRead(string json, long expected) => Assert.Equal(expected, new JsonCursor(Encoding.ASCII.GetBytes(json)).ReadInt64());

    [Fact]
    public void NumberBeyondADouble_IsRefused() =>
        Assert.Equal("'x' takes a number within the range of a double, found -1e309 at byte 1", Refused(" -1e309", (ref c) => c.ReadDouble("'x'")));

    [Fact]
    public void LongLiteral_IsShortenedInItsMessage() =>
        Assert.Equal($"'n' takes a 64-bit integer, found {new string('1', 40)}… (100 characters) at byte 0", Refused(new string('1', 100), (ref c) => c.ReadInt64("'n'")));

    /// <summary>
    /// System.Text.Json as the judge of what is JSON and what it says. It is as strict as we are once its strings are asked for: until then it lets pass invalid UTF-8 and lone
    /// surrogates, which we refuse at once. There is no other difference.
    /// </summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public void RandomDocumentWithMutations_IsReadOrRefusedAsSystemTextJsonDoes(int mutations)
    {
        var random = new Random(mutations);
        var accepted = 0;
        const int Documents = 12_000;
        for (var i = 0; i < Documents; i++)
        {
            var json = Mutate(RandomJson.Next(random), mutations, random);
            var (ours, theirs) = (ReadAll(json), ReadAllOfSystemTextJson(json));
            if (ours != theirs)
                Assert.Fail($"{Convert.ToHexString(json)} {Encoding.UTF8.GetString(json)}: ours {ours ?? "refused"}, theirs {theirs ?? "refused"}");
            accepted += ours is null ? 0 : 1;
        }
        Assert.True(mutations == 0 ? accepted == Documents : accepted is > Documents / 100 and < Documents * 9 / 10, $"accepted {accepted}");
    }

    private static byte[] Mutate(byte[] json, int mutations, Random random)
    {
        const string Likely = "{}[],:\"\\0123456789.eE+-tfnu \n\u0001\u007f";
        var bytes = json.ToList();
        for (var i = 0; i < mutations && bytes.Count > 0; i++)
        {
            var at = random.Next(bytes.Count);
            var other = random.Next(8) == 0 ? (byte)random.Next(256) : (byte)Likely[random.Next(Likely.Length)];
            switch (random.Next(5))
            {
                case 0: bytes.RemoveAt(at); break;
                case 1: bytes.Insert(at, other); break;
                case 2: bytes[at] = other; break;
                case 3: bytes[at] = bytes[random.Next(bytes.Count)]; break;
                case 4 when random.Next(4) == 0: bytes.RemoveRange(at, bytes.Count - at); break;
            }
        }
        return [.. bytes];
    }

    /// <summary>What a document says, or null where it is refused.</summary>
    private static string? ReadAll(byte[] json)
    {
        var text = new StringBuilder();
        try
        {
            var cursor = new JsonCursor(json);
            Read(ref cursor);
            cursor.End();
            var skipping = new JsonCursor(json);
            skipping.Skip();
            skipping.End();
            return text.ToString();
        }
        catch (RequestException)
        {
            return null;
        }

        void Read(ref JsonCursor cursor)
        {
            switch (cursor.Peek())
            {
                case JsonKind.Object:
                    text.Append('{');
                    cursor.BeginObject();
                    while (cursor.NextProperty(out var name))
                    {
                        text.Append(Encoding.UTF8.GetString(name)).Append(':');
                        Read(ref cursor);
                    }
                    text.Append('}');
                    break;
                case JsonKind.Array:
                    text.Append('[');
                    cursor.BeginArray();
                    while (cursor.NextElement())
                        Read(ref cursor);
                    text.Append(']');
                    break;
                case JsonKind.String:
                    text.Append(cursor.ReadString()).Append('"');
                    break;
                case JsonKind.Number:
                    text.Append(Encoding.ASCII.GetString(cursor.ReadNumber())).Append(',');
                    break;
                case JsonKind.Null:
                    text.Append(cursor.TryReadNull() ? 'n' : '?');
                    break;
                default:
                    text.Append(cursor.ReadBoolean() ? 't' : 'f');
                    break;
            }
        }
    }

    private static string? ReadAllOfSystemTextJson(byte[] json)
    {
        var text = new StringBuilder();
        try
        {
            using var document = JsonDocument.Parse(json);
            Read(document.RootElement);
            return text.ToString();
        }
        catch (Exception refusal) when (refusal is JsonException or InvalidOperationException)
        {
            return null;
        }

        void Read(JsonElement element)
        {
            switch (element.ValueKind)
            {
                case JsonValueKind.Object:
                    text.Append('{');
                    foreach (var property in element.EnumerateObject())
                    {
                        text.Append(property.Name).Append(':');
                        Read(property.Value);
                    }
                    text.Append('}');
                    break;
                case JsonValueKind.Array:
                    text.Append('[');
                    foreach (var item in element.EnumerateArray())
                        Read(item);
                    text.Append(']');
                    break;
                case JsonValueKind.String:
                    text.Append(element.GetString()).Append('"');
                    break;
                case JsonValueKind.Number:
                    text.Append(element.GetRawText()).Append(',');
                    break;
                case JsonValueKind.Null:
                    text.Append('n');
                    break;
                default:
                    text.Append(element.GetBoolean() ? 't' : 'f');
                    break;
            }
        }
    }

    private static string Name(ref JsonCursor cursor)
    {
        Assert.True(cursor.NextProperty(out var name));
        return Encoding.UTF8.GetString(name);
    }

    private static void SkipAll(ref JsonCursor cursor)
    {
        cursor.Skip();
        cursor.End();
    }

    private static string Refused(string json, Reading reading) => Refused(Encoding.UTF8.GetBytes(json), reading);

    private static string Refused(byte[] json, Reading reading)
    {
        var refusal = Assert.Throws<RequestException>(() =>
        {
            var cursor = new JsonCursor(json);
            reading(ref cursor);
        });
        Assert.Equal(Refusal.Invalid, refusal.Refusal);
        return refusal.Message;
    }

    /// <summary>Documents of every kind of value, with white space and escapes here and there.</summary>
    private static class RandomJson
    {
        private static readonly string[] Pieces = ["a", "id", "é", "€", "😀", " ", "\\n", "\\\"", "\\\\", "\\/", "\\u0041", "\\u00e9", "\\ud83d\\ude00", "\\u0000"];
        private static readonly string[] Scalars = ["0", "-0", "1", "-12", "1.5", "0.0", "-1.25e-3", "1E5", "2e+10", "12345678901234567890.5", "true", "false", "null"];
        private static readonly string[] Spaces = ["", "", "", " ", "\n", "\t", "\r\n", "  "];

        public static byte[] Next(Random random)
        {
            var json = new StringBuilder();
            Value(0);
            return Encoding.UTF8.GetBytes(json.ToString());

            void Value(int depth)
            {
                Space();
                switch (random.Next(depth > 4 ? 2 : 4))
                {
                    case 0: json.Append(Scalars[random.Next(Scalars.Length)]); break;
                    case 1: Text(); break;
                    case 2: Sequence('[', ']', () => Value(depth + 1)); break;
                    default: Sequence('{', '}', () => Property(depth)); break;
                }
                Space();
            }

            void Property(int depth)
            {
                Space();
                Text();
                Space();
                json.Append(':');
                Value(depth + 1);
            }

            void Sequence(char opening, char closing, Action next)
            {
                json.Append(opening);
                var count = random.Next(4);
                for (var i = 0; i < count; i++)
                {
                    if (i > 0)
                        json.Append(',');
                    next();
                }
                Space();
                json.Append(closing);
            }

            void Text()
            {
                json.Append('"');
                for (var i = random.Next(4); i > 0; i--)
                    json.Append(Pieces[random.Next(Pieces.Length)]);
                json.Append('"');
            }

            void Space() => json.Append(Spaces[random.Next(Spaces.Length)]);
        }
    }
}
