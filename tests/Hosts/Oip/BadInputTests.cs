using System.Text;
using Skiff.Models;
using Skiff.Support;

namespace Skiff.Hosts.Oip;

/// <summary>Whatever is wrong with a request, the answer says what it was and what is allowed, in JSON, and is the caller's fault, not the server's.</summary>
public sealed class BadInputTests(BadInputTests.Fixture fixture) : IClassFixture<BadInputTests.Fixture>
{
    private const int MaxBodyBytes = 4096;
    private const string Good = """{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}""";

    /// <summary>Bodies that are wrong for <c>matrix</c>, an FP32 [-1,4].</summary>
    private static readonly Dictionary<string, Case> Bodies = new()
    {
        ["empty body"] = new("", "malformed JSON", "an object", "ends too early"),
        ["white space only"] = new(" \r\n\t", "malformed JSON", "an object", "ends too early"),
        ["not JSON"] = new("hello", "malformed JSON", "byte 0", "an object", "'h'"),
        ["an array"] = new("[]", "an object", "an array"),
        ["null"] = new("null", "an object", "null"),
        ["truncated in a number"] = new("""{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3""", "malformed JSON", "ends too early"),
        ["truncated in a string"] = new("""{"inputs":[{"name":"x""", "malformed JSON", "quote", "ends too early"),
        ["truncated after a colon"] = new("""{"inputs":""", "malformed JSON", "ends too early"),
        ["truncated before the end"] = new(Good[..^1], "malformed JSON", "'}'", "ends too early"),
        ["trailing garbage"] = new(Good + " x", "malformed JSON", "the end of the body", "'x'"),
        ["two documents"] = new(Good + Good, "malformed JSON", "the end of the body", "'{'"),
        ["a byte order mark"] = new("\uFEFF" + Good, "byte order mark"),
        ["trailing comma in data"] = new(Good.Replace("4]}", "4,]}"), "malformed JSON", "']'"),
        ["missing comma in data"] = new(Good.Replace("3,4]}", "3 4]}"), "malformed JSON", "','", "'4'"),
        ["single quotes"] = new("{'inputs':[]}", "malformed JSON", "quotes"),
        ["a comment"] = new("/* */" + Good, "malformed JSON", "'/'"),
        ["a control character in a string"] = new("{\"id\":\"a\nb\"}", "malformed JSON", "escaped"),
        ["a lone surrogate"] = new("""{"id":"\ud800"}""", "malformed JSON", "surrogate"),
        ["an unknown escape"] = new("""{"id":"\x"}""", "malformed JSON", "escape"),
        ["too deep in data"] = new(Good.Replace("[1,2,3,4]", new string('[', 1000) + new string(']', 1000)), "64 levels"),
        ["too deep elsewhere"] = new($$"""{"own":{{new string('[', 1000)}}""", "64 levels"),
        ["leading zero"] = new(Good.Replace("4]}", "04]}"), "malformed JSON"),
        ["leading plus"] = new(Good.Replace("4]}", "+4]}"), "malformed JSON", "'+'"),
        ["hexadecimal"] = new(Good.Replace("4]}", "0x4]}"), "malformed JSON", "'x'"),
        ["a point without digits"] = new(Good.Replace("4]}", "4.]}"), "malformed JSON", "a digit"),

        ["no inputs"] = new("{}", "'inputs'", "{name, shape, datatype, data}"),
        ["inputs is an object"] = new("""{"inputs":{}}""", "'inputs'", "an array", "an object"),
        ["inputs is empty"] = new("""{"inputs":[]}""", "'x'", "missing", "FP32 [-1,4]"),
        ["an input is a number"] = new("""{"inputs":[1]}""", "'inputs'", "an object", "a number"),
        ["inputs twice"] = new("""{"inputs":[],"inputs":[]}""", "'inputs'", "twice"),
        ["id is a number"] = new("""{"id":1}""", "'id'", "a string", "a number"),
        ["parameters is an array"] = new("""{"parameters":[]}""", "'parameters'", "an object", "an array"),
        ["binary_data_output is a string"] = new("""{"parameters":{"binary_data_output":"yes"}}""", "'binary_data_output'", "true or false", "a string"),
        ["timeout is negative"] = new("""{"parameters":{"timeout":-1}}""", "'timeout'", "-1", "microseconds"),
        ["priority is no level"] = new("""{"parameters":{"priority":6}}""", "'priority'", "6", "to 5"),
        ["priority is a word"] = new("""{"parameters":{"priority":"high"}}""", "'priority'", "integer", "a string"),
        ["timeout is a fraction"] = new("""{"parameters":{"timeout":1.5}}""", "'timeout'", "1.5", "integer"),
        ["outputs is a string"] = new("""{"outputs":"y"}""", "'outputs'", "an array", "a string"),
        ["an output without a name"] = new("""{"outputs":[{}]}""", "output 0", "'name'"),
        ["unknown output"] = new("""{"outputs":[{"name":"z"}],""" + Good[1..], "'z'", "'y' FP32 [-1,4]"),
        ["output twice"] = new("""{"outputs":[{"name":"y"},{"name":"y"}],""" + Good[1..], "'y'", "twice"),

        ["no name"] = new(Fields("""
            "shape":[1,4],"datatype":"FP32","data":[1,2,3,4]
            """), "input 0", "'name'"),
        ["no shape"] = new(Fields("""
            "name":"x","datatype":"FP32","data":[1,2,3,4]
            """), "'x'", "'shape'"),
        ["no datatype"] = new(Fields("""
            "name":"x","shape":[1,4],"data":[1,2,3,4]
            """), "'x'", "'datatype'", "FP32", "BYTES"),
        ["no data"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":"FP32"
            """), "'x'", "'data'", "'binary_data_size'"),
        ["data twice"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4],"data":[1,2,3,4]
            """), "input 0", "'data'", "twice"),
        ["data is null"] = new(Input(data: "null"), "'x'", "null"),
        ["data is a number"] = new(Input(data: "1"), "'x'", "an array", "a number"),
        ["data is an object"] = new(Input(data: "{}"), "'x'", "an array", "an object"),
        ["unknown input"] = new(Good.Replace("\"x\"", "\"z\""), "'z'", "'x' FP32 [-1,4]"),
        ["repeated input"] = new("""
            {"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]},{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}
            """, "'x'", "twice"),

        ["unknown datatype"] = new(Input(type: "FLOAT"), "'FLOAT'", "BOOL, UINT8", "FP32"),
        ["datatype in lower case"] = new(Input(type: "fp32"), "'fp32'", "FP32"),
        ["datatype is a number"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":1,"data":[1,2,3,4]
            """), "'datatype'", "a string", "a number"),
        ["another datatype than the model's"] = new(Input(type: "INT64"), "'x'", "INT64", "FP32"),
        ["strings for FP32"] = new(Input(data: """["1","2","3","4"]"""), "'x'", "numbers", "a string"),
        ["booleans for FP32"] = new(Input(data: "[true,1,2,3]"), "'x'", "numbers", "true"),
        ["a null among the numbers"] = new(Input(data: "[1,2,null,4]"), "'x'", "numbers", "null"),

        ["too few elements"] = new(Input(data: "[1,2,3]"), "'x'", "[1,4]", "4 values", "3"),
        ["too many elements"] = new(Input(data: "[1,2,3,4,5]"), "'x'", "[1,4]", "4 values", "5"),
        ["no elements"] = new(Input(data: "[]"), "'x'", "[1,4]", "4 values", "0"),
        ["elements for a shape of none"] = new(Input(shape: "[0,4]"), "'x'", "[0,4]", "0 values", "4"),
        ["ragged rows"] = new(Input(shape: "[2,4]", data: "[[1,2,3,4],[5,6,7]]"), "'x'", "[2,4]", "4 values", "3"),
        ["too many rows"] = new(Input(shape: "[1,4]", data: "[[1,2,3,4],[5,6,7,8]]"), "'x'", "[1,4]", "2"),
        ["another width than the model's"] = new(Input(shape: "[1,3]", data: "[1,2,3]"), "'x'", "[1,3]", "[-1,4]"),
        ["another rank than the model's"] = new(Input(shape: "[4]"), "'x'", "[4]", "[-1,4]"),
        ["no dimensions"] = new(Input(shape: "[]", data: "[1]"), "'x'", "[]", "[-1,4]"),
        ["negative dimension"] = new(Input(shape: "[-1,4]"), "input 0", "-1", "0 or more"),
        ["zero width"] = new(Input(shape: "[1,0]", data: "[]"), "'x'", "[1,0]", "[-1,4]"),
        ["shape that overflows"] = new(Input(shape: "[4294967296,4294967296,4]"), "'x'", "[4294967296,4294967296,4]", "values"),
        ["shape of the largest number"] = new(Input(shape: "[9223372036854775807,4]"), "'x'", "[9223372036854775807,4]", "values"),
        ["dimension beyond 64 bits"] = new(Input(shape: "[9223372036854775808,4]"), "'shape'", "9223372036854775808", "64-bit integer"),
        ["shape that would take gigabytes"] = new(Input(shape: "[1000000000,4]"), "'x'", "[1000000000,4]", "4000000000 values"),
        ["zero beside a huge dimension"] = new(Input(shape: "[0,9223372036854775807]", data: "[]"), "'x'", "[0,9223372036854775807]", "[-1,4]"),
        ["dimension with a fraction"] = new(Input(shape: "[1.0,4]"), "'shape'", "1.0", "integer"),
        ["dimension as a string"] = new(Input(shape: "[\"1\",4]"), "'shape'", "integer", "a string"),
        ["shape is a number"] = new(Input(shape: "4"), "'shape'", "an array", "a number"),
        ["too many dimensions"] = new(Input(shape: $"[{string.Join(',', Enumerable.Repeat(1, 17))}]"), "input 0", "16 dimensions"),
        ["strings of a shape that overflows"] = new(Input(shape: "[4294967296,4294967296]", type: "BYTES", data: "[\"a\"]"), "'x'", "[4294967296,4294967296]", "1"),

        ["NaN"] = new(Input(data: "[NaN,2,3,4]"), "NaN or infinity", "JSON"),
        ["Infinity"] = new(Input(data: "[Infinity,2,3,4]"), "NaN or infinity", "JSON"),
        ["-Infinity"] = new(Input(data: "[-Infinity,2,3,4]"), "NaN or infinity", "JSON"),
        ["NaN as a string"] = new(Input(data: "[\"NaN\",2,3,4]"), "'x'", "numbers", "a string"),
        ["1e999"] = new(Input(data: "[1,1e999,3,4]"), "'x'", "1e999", "index 1", "FP32's range"),
        ["-1e999"] = new(Input(data: "[1,-1e999,3,4]"), "'x'", "-1e999", "index 1", "FP32's range"),
        ["just beyond FP32"] = new(Input(data: "[1,2,3,3.5e38]"), "'x'", "3.5e38", "index 3", "FP32's range"),
        ["beyond FP64"] = new(Input(type: "FP64", data: "[1,2,3,1.8e308]"), "'x'", "1.8e308", "index 3", "FP64's range"),
        ["beyond FP16"] = new(Input(type: "FP16", data: "[1,2,3,65520]"), "'x'", "65520", "index 3", "FP16's range"),
        ["a long number beyond FP32"] = new(Input(data: $"[{new string('9', 500)},2,3,4]"), "'x'", "999…", "500 characters", "FP32's range"),
        ["BOOL of 2"] = new(Input(type: "BOOL", data: "[0,1,2,0]"), "'x'", "true, false, 1 and 0", "2", "index 2"),
        ["BYTES of numbers"] = new(Input(type: "BYTES"), "'x'", "strings", "a number"),
        ["binary_data_size without binary data"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}
            """), "'x'", "'binary_data_size'", "16", "0 bytes"),
    };

    /// <summary>An input of <c>matrix</c> in binary, and what follows the JSON.</summary>
    private static readonly Dictionary<string, BinaryCase> Binaries = new()
    {
        ["size larger than the body"] = new(Size(17), 16, "'x'", "'binary_data_size'", "17", "16 bytes"),
        ["size beyond 32 bits"] = new(Size(4294967312), 16, "'x'", "'binary_data_size'", "4294967312"),
        ["size beyond 64 bits"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":18446744073709551632}
            """), 16, "'binary_data_size'", "18446744073709551632", "64-bit integer"),
        ["size is negative"] = new(Size(-16), 16, "'x'", "'binary_data_size'", "-16"),
        ["size too small for the shape"] = new(Size(12), 12, "'x'", "FP32", "[1,4]", "16 bytes", "12"),
        ["size too large for the shape"] = new(Size(20), 20, "'x'", "FP32", "[1,4]", "16 bytes", "20"),
        ["size is no multiple"] = new(Size(15), 15, "'x'", "16 bytes", "15"),
        ["size is a string"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":"16"}
            """), 16, "'binary_data_size'", "integer", "a string"),
        ["leftover bytes"] = new(Size(16), 17, "1 bytes", "'binary_data_size'"),
        ["bytes that no input speaks for"] = new(Good, 16, "16 bytes", "'binary_data_size'"),
        ["data and binary data"] = new(Fields("""
            "name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4],"parameters":{"binary_data_size":16}
            """), 16, "'x'", "'data'", "'binary_data_size'", "one of them"),
        ["shape that overflows"] = new(Size(16, "[4294967296,4294967296,4]"), 16, "'x'", "[4294967296,4294967296,4]", "2^63", "16"),
        ["bytes that overflow"] = new(Size(16, "[9223372036854775807]"), 16, "'x'", "36893488147419103228 bytes", "16"),
        ["negative dimension"] = new(Size(16, "[-1,4]"), 16, "input 0", "-1", "0 or more"),
        ["another width than the model's"] = new(Size(16, "[2,2]"), 16, "'x'", "[2,2]", "[-1,4]"),
        ["another datatype than the model's"] = new(Size(16, "[1,4]", "INT32"), 16, "'x'", "INT32", "FP32"),
        ["BYTES that are cut off"] = new(Size(3, "[1]", "BYTES"), 3, "'x'", "element 0", "uint32 length"),
        ["fewer BYTES than the shape"] = new(Size(4, "[2]", "BYTES"), 4, "'x'", "[2]", "2 elements", "1"),
        ["more BYTES than the shape"] = new(Size(8, "[1]", "BYTES"), 8, "'x'", "[1]", "1 elements", "2"),
    };

    public static TheoryData<string> BodyNames => [.. Bodies.Keys];

    public static TheoryData<string> BinaryNames => [.. Binaries.Keys];

    private HttpClient Client => fixture.Server.Client;

    [Theory, MemberData(nameof(BodyNames))]
    public async Task BadBody_IsRefusedWithItsReason(string name)
    {
        var answer = await PostAsync(Bodies[name].Body);

        answer.AssertRefused(400, Bodies[name].Fragments);
    }

    [Theory, MemberData(nameof(BinaryNames))]
    public async Task BadBinaryBody_IsRefusedWithItsReason(string name)
    {
        var answer = await HttpAnswer.PostBinaryAsync(Client, "/v2/models/matrix/infer", Binaries[name].Json, new byte[Binaries[name].Bytes]);

        answer.AssertRefused(400, Binaries[name].Fragments);
    }

    [Theory]
    [InlineData("UINT8", "256", "0 to 255")]
    [InlineData("UINT8", "-1", "0 to 255")]
    [InlineData("UINT16", "65536", "0 to 65535")]
    [InlineData("UINT32", "4294967296", "0 to 4294967295")]
    [InlineData("UINT64", "18446744073709551616", "0 to 18446744073709551615")]
    [InlineData("UINT64", "-1", "0 to 18446744073709551615")]
    [InlineData("INT8", "128", "-128 to 127")]
    [InlineData("INT8", "-129", "-128 to 127")]
    [InlineData("INT16", "32768", "-32768 to 32767")]
    [InlineData("INT32", "-2147483649", "-2147483648 to 2147483647")]
    [InlineData("INT64", "9223372036854775808", "-9223372036854775808 to 9223372036854775807")]
    [InlineData("INT64", "-9223372036854775809", "-9223372036854775808 to 9223372036854775807")]
    public async Task IntegerOutOfRange_IsRefusedWithTheRange(string type, string value, string range)
    {
        var answer = await PostAsync(Input(type: type, data: $"[0,{value},0,0]"));

        answer.AssertRefused(400, "'x'", value, "index 1", type, range);
    }

    [Theory]
    [InlineData("1.5")]
    [InlineData("1.0")]
    [InlineData("1e2")]
    [InlineData("1E-2")]
    public async Task FractionOrExponentForAnInteger_IsRefused(string value)
    {
        var answer = await PostAsync(Input(type: "INT32", data: $"[0,{value},0,0]"));

        answer.AssertRefused(400, "'x'", "integers", value, "index 1");
    }

    [Fact]
    public async Task BodyThatIsNotUtf8_IsRefused()
    {
        var answer = await HttpAnswer.PostAsync(Client, "/v2/models/matrix/infer", [.. "{\"id\":\""u8, 0xC3, 0x28, .. "\"}"u8]);

        answer.AssertRefused(400, "malformed JSON", "UTF-8", "0xC3");
    }

    [Fact]
    public async Task MissingInput_IsNamedWithWhatTheModelTakes()
    {
        var answer = await PostAsync("""{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[1]}]}""", "pair");

        answer.AssertRefused(400, "'b'", "missing", "'a' FP32 [-1], 'b' FP32 [-1]");
    }

    [Fact]
    public async Task SizesThatDoNotFitEachOther_AreTheCallersFault()
    {
        var answer = await PostAsync("""{"inputs":[{"name":"a","shape":[2],"datatype":"FP32","data":[1,2]},{"name":"b","shape":[3],"datatype":"FP32","data":[1,2,3]}]}""", "pair");

        answer.AssertRefused(400, "'pair'", "could not be run on these inputs");
    }

    [Fact]
    public async Task IndexOutOfTheModelsTable_IsTheCallersFault()
    {
        var answer = await PostAsync("""{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[99]}]}""", "table");

        answer.AssertRefused(400, "'table'", "could not be run on these inputs", "99");
    }

    [Theory]
    [InlineData("1 6")]
    [InlineData("-1")]
    [InlineData("+1")]
    [InlineData("1.0")]
    [InlineData("0x10")]
    [InlineData("many")]
    [InlineData("99999999999999999999")]
    public async Task MalformedHeaderLength_IsRefused(string length)
    {
        var answer = await HttpAnswer.PostAsync(Client, "/v2/models/matrix/infer", Good, (HttpAnswer.HeaderLength, length));

        answer.AssertRefused(400, HttpAnswer.HeaderLength, "length of the JSON in bytes");
    }

    [Fact]
    public async Task HeaderLengthBeyondTheBody_IsRefused()
    {
        var answer = await HttpAnswer.PostAsync(Client, "/v2/models/matrix/infer", Good, (HttpAnswer.HeaderLength, "5000"));

        answer.AssertRefused(400, HttpAnswer.HeaderLength, "5000", $"{Good.Length} bytes");
    }

    [Fact]
    public async Task HeaderLengthInsideTheJson_IsRefused()
    {
        var answer = await HttpAnswer.PostAsync(Client, "/v2/models/matrix/infer", Good, (HttpAnswer.HeaderLength, "20"));

        answer.AssertRefused(400, "malformed JSON", "ends too early");
    }

    [Fact]
    public async Task AnnouncedBodyOverTheLimit_IsTooLarge()
    {
        var answer = await PostAsync(Good + new string(' ', MaxBodyBytes));

        answer.AssertRefused(413, $"{MaxBodyBytes} bytes", "SKIFF_MAX_BODY_BYTES");
    }

    [Fact]
    public async Task ChunkedBodyOverTheLimit_IsTooLarge()
    {
        var body = Encoding.UTF8.GetBytes(Good + new string(' ', MaxBodyBytes));

        var answer = await HttpAnswer.SendAsync(Client, HttpMethod.Post, "/v2/models/matrix/infer", new PiecesContent(body, 512));

        answer.AssertRefused(413, $"{MaxBodyBytes} bytes", "SKIFF_MAX_BODY_BYTES");
    }

    [Fact]
    public async Task BodyOfExactlyTheLimit_IsTaken()
    {
        var answer = await PostAsync(Good + new string(' ', MaxBodyBytes - Good.Length));

        answer.AssertOk();
    }

    [Theory]
    [InlineData("/v2/models/nobody/infer", "'nobody'", "/v2/repository/index")]
    [InlineData("/v2/models/matrix/versions/2/infer", "version 2", "it has 1")]
    [InlineData("/v2/models/matrix/versions/0/infer", "'0'", "whole numbers from 1")]
    [InlineData("/v2/models/matrix/versions/-1/infer", "'-1'", "whole numbers from 1")]
    [InlineData("/v2/models/matrix/versions/1.0/infer", "'1.0'", "whole numbers from 1")]
    [InlineData("/v2/models/matrix/versions/latest/infer", "'latest'", "whole numbers from 1")]
    [InlineData("/v2/models/matrix/versions/99999999999/infer", "'99999999999'", "whole numbers from 1")]
    public async Task UnknownModelOrVersion_IsNotFound(string path, params string[] fragments)
    {
        var answer = await HttpAnswer.PostAsync(Client, path, Good);

        answer.AssertRefused(404, fragments);
    }

    [Theory]
    [InlineData("a%20b")]
    [InlineData("%2e%2e%2fmatrix")]
    [InlineData("..%2F..%2Fetc%2Fpasswd")]
    [InlineData("matrix.onnx")]
    [InlineData("m%C3%A4trix")]
    [InlineData("matrix%0A")]
    [InlineData("%5Cmatrix")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public async Task InvalidModelName_IsRefusedWithTheRule(string name)
    {
        Assert.All(
            [
                await HttpAnswer.PostAsync(Client, $"/v2/models/{name}/infer", Good),
                await HttpAnswer.GetAsync(Client, $"/v2/models/{name}"),
                await HttpAnswer.GetAsync(Client, $"/v2/models/{name}/ready"),
                await HttpAnswer.PostAsync(Client, $"/v2/repository/models/{name}/load", ""),
                await HttpAnswer.PostAsync(Client, $"/v2/repository/models/{name}/unload", ""),
            ],
            answer => answer.AssertRefused(400, "not a valid model name", "1 to 64 characters"));
    }

    [Theory]
    [InlineData("/v2/models/%2e%2e/infer")]
    [InlineData("/v2/models/../models/../infer")]
    [InlineData("/v2/models/%2e%2e/%2e%2e/%2e%2e/etc/passwd")]
    [InlineData("/v2/models//infer")]
    [InlineData("/v2/models/matrix/versions//infer")]
    [InlineData("/v2/models/matrix/infer/more")]
    [InlineData("/v3/models/matrix/infer")]
    public async Task UnknownRoute_IsNotFoundInJson(string path)
    {
        var answer = await HttpAnswer.PostAsync(Client, path, Good);

        answer.AssertRefused(404, "POST");
    }

    [Theory]
    [InlineData("GET", "/v2/models/matrix/infer", "POST")]
    [InlineData("PUT", "/v2/models/matrix/infer", "POST")]
    [InlineData("DELETE", "/v2/models/matrix", "GET")]
    [InlineData("POST", "/v2/models/matrix/ready", "GET")]
    [InlineData("POST", "/v2", "GET")]
    [InlineData("GET", "/v2/repository/index", "POST")]
    [InlineData("GET", "/v2/repository/models/matrix/load", "POST")]
    public async Task WrongMethod_IsRefusedInJsonWithTheRightOne(string method, string path, string allowed)
    {
        var answer = await HttpAnswer.SendAsync(Client, new HttpMethod(method), path);

        answer.AssertRefused(405, method, path, allowed);
        Assert.Equal(allowed, answer.Header("Allow"));
    }

    [Fact]
    public async Task AfterAllThat_NothingWasWritten()
    {
        var before = Files();

        await HttpAnswer.PostAsync(Client, "/v2/repository/models/..%2F..%2Fx/load", "");
        await HttpAnswer.PostAsync(Client, "/v2/models/new-name/infer", Good);
        await HttpAnswer.PostAsync(Client, "/v2/repository/models/new-name/unload", "");

        Assert.Equal(before, Files());
    }

    private string[] Files() => [.. Directory.EnumerateFileSystemEntries(fixture.Server.Data, "*", SearchOption.AllDirectories).Where(path => !Path.GetFileName(path).Contains(".db", StringComparison.Ordinal)).Order()];

    private Task<HttpAnswer> PostAsync(string body, string model = "matrix") => HttpAnswer.PostAsync(Client, $"/v2/models/{model}/infer", body);

    private static string Fields(string fields) => $$$"""{"inputs":[{{{{fields.Trim()}}}}]}""";

    private static string Input(string shape = "[1,4]", string type = "FP32", string data = "[1,2,3,4]") => Fields($"""
        "name":"x","shape":{shape},"datatype":"{type}","data":{data}
        """);

    private static string Size(long size, string shape = "[1,4]", string type = "FP32") => Fields($$"""
        "name":"x","shape":{{shape}},"datatype":"{{type}}","parameters":{"binary_data_size":{{size}} }
        """);

    private sealed record Case(string Body, params string[] Fragments);

    private sealed record BinaryCase(string Json, int Bytes, params string[] Fragments);

    public sealed class Fixture() : ServerFixture(("SKIFF_MAX_BODY_BYTES", $"{MaxBodyBytes}"))
    {
        protected override async Task PublishAsync()
        {
            await Server.PushAsync("matrix", OnnxBuilder.Identity(DataType.Fp32, -1, 4));
            await Server.PushAsync("pair", new OnnxBuilder()
                .Input("a", DataType.Fp32, -1).Input("b", DataType.Fp32, -1)
                .Output("y", DataType.Fp32, -1)
                .Node("Add", ["a", "b"], ["y"])
                .Build());
            await Server.PushAsync("table", new OnnxBuilder()
                .Initializer("rows", [1f, 2f, 3f], 3)
                .Input("x", DataType.Int64, -1)
                .Output("y", DataType.Fp32, -1)
                .Node("Gather", ["rows", "x"], ["y"])
                .Build());
        }
    }
}
