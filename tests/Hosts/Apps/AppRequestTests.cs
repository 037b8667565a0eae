using System.Text.Json;
using Skiff.Apps;
using Skiff.Models;
using Skiff.Serving;
using Skiff.Support;

namespace Skiff.Hosts.Apps;

/// <summary>Requests to apps, right and wrong: predictions, and feedback on them.</summary>
public sealed class AppRequestTests(AppRequestTests.Fixture fixture) : IClassFixture<AppRequestTests.Fixture>
{
    private const string Good = """{"input":[9,0,0,0]}""";

    /// <summary>Bodies that are wrong for predictions of <c>letters</c>: four FP32 values, labels a, b, c.</summary>
    private static readonly Dictionary<string, Case> Predictions = new()
    {
        ["empty body"] = new("", "malformed JSON", "an object"),
        ["truncated"] = new("""{"input":[9,0""", "malformed JSON", "ends too early"),
        ["trailing garbage"] = new(Good + "]", "malformed JSON", "the end of the body"),
        ["an array"] = new("[]", "an object", "an array"),
        ["too deep"] = new($$"""{"input":{{new string('[', 1000)}}""", "64 levels"),
        ["unknown field"] = new("""{"input":[9,0,0,0],"deadline":20}""", "'deadline'", "context, user, input or inputs, deadline_ms, priority and explain"),
        ["field in another case"] = new("""{"Input":[9,0,0,0]}""", "'Input'", "input or inputs"),
        ["both input and inputs"] = new("""{"input":[9,0,0,0],"inputs":[[9,0,0,0]]}""", "'input'", "'inputs'", "one of them"),
        ["neither input nor inputs"] = new("""{"user":"u"}""", "'input'", "4 values", "'inputs'"),
        ["input twice"] = new("""{"input":[9,0,0,0],"input":[9,0,0,0]}""", "'input'", "twice"),
        ["inputs twice"] = new("""{"inputs":[[9,0,0,0]],"inputs":[[9,0,0,0]]}""", "'inputs'", "twice"),
        ["too few values"] = new("""{"input":[9,0,0]}""", "'input'", "4 values", "3"),
        ["too many values"] = new("""{"input":[9,0,0,0,0]}""", "'input'", "4 values", "5"),
        ["no values"] = new("""{"input":[]}""", "'input'", "4 values", "0"),
        ["input is a number"] = new("""{"input":9}""", "'input'", "an array", "a number"),
        ["input is null"] = new("""{"input":null}""", "'input'", "an array", "null"),
        ["input of strings"] = new("""{"input":["9","0","0","0"]}""", "'input'", "numbers", "a string"),
        ["input of objects"] = new("""{"input":[{},{},{},{}]}""", "'input'", "numbers", "an object"),
        ["NaN"] = new("""{"input":[NaN,0,0,0]}""", "NaN or infinity"),
        ["1e999"] = new("""{"input":[0,1e999,0,0]}""", "'input'", "1e999", "index 1", "FP32's range"),
        ["inputs are empty"] = new("""{"inputs":[]}""", "'inputs'", "at least one row"),
        ["inputs is one row"] = new("""{"inputs":[9,0,0,0]}""", "'inputs[0]'", "an array", "a number"),
        ["ragged inputs"] = new("""{"inputs":[[9,0,0,0],[9,0,0]]}""", "'inputs[1]'", "4 values", "3"),
        ["a row of inputs is null"] = new("""{"inputs":[[9,0,0,0],null]}""", "'inputs[1]'", "an array", "null"),
        ["user is a number"] = new("""{"user":1,"input":[9,0,0,0]}""", "'user'", "a string", "a number"),
        ["user is an array"] = new("""{"user":["u"],"input":[9,0,0,0]}""", "'user'", "a string", "an array"),
        ["user is empty"] = new("""{"user":"","input":[9,0,0,0]}""", "'user'", "0 characters", "1 to 256"),
        ["user is too long"] = new($$"""{"user":"{{new string('u', 257)}}","input":[9,0,0,0]}""", "'user'", "257 characters", "1 to 256"),
        ["user is a dot"] = new("""{"user":".","input":[9,0,0,0]}""", "'user'", "'.' or '..'", "control character"),
        ["user is two dots"] = new("""{"user":"..","input":[9,0,0,0]}""", "'user'", "'.' or '..'", "control character"),
        ["user is a line"] = new("""{"user":"a\nb","input":[9,0,0,0]}""", "'user'", "'.' or '..'", "control character"),
        ["user is with a control character"] = new("""{"user":"\u0085","input":[9,0,0,0]}""", "'user'", "'.' or '..'", "control character"),
        ["priority is no level"] = new("""{"input":[9,0,0,0],"priority":6}""", "'priority'", "6", "to 5"),
        ["priority is a fraction"] = new("""{"input":[9,0,0,0],"priority":1.5}""", "'priority'", "1.5", "integer"),
        ["deadline is zero"] = new("""{"input":[9,0,0,0],"deadline_ms":0}""", "'deadline_ms'", "0", "positive"),
        ["deadline is negative"] = new("""{"input":[9,0,0,0],"deadline_ms":-1}""", "'deadline_ms'", "-1", "positive"),
        ["deadline is a string"] = new("""{"input":[9,0,0,0],"deadline_ms":"20"}""", "'deadline_ms'", "a number", "a string"),
        ["deadline is null"] = new("""{"input":[9,0,0,0],"deadline_ms":null}""", "'deadline_ms'", "a number", "null"),
        ["deadline is infinite"] = new("""{"input":[9,0,0,0],"deadline_ms":1e999}""", "'deadline_ms'", "a number", "1e999"),
        ["explain is a number"] = new("""{"input":[9,0,0,0],"explain":1}""", "'explain'", "true or false", "a number"),
    };

    /// <summary>Bodies that are wrong for feedback to <c>letters</c>.</summary>
    private static readonly Dictionary<string, Case> Feedback = new()
    {
        ["empty body"] = new("", "malformed JSON"),
        ["truncated"] = new("""{"user":"u","input":[9,0,0,0],"label":""", "malformed JSON", "ends too early"),
        ["an array"] = new("[]", "an object", "an array"),
        ["nothing"] = new("{}", "'id'", "'user' and 'input'"),
        ["unknown field"] = new("""{"user":"u","input":[9,0,0,0],"label":1,"weight":2}""", "'weight'", "label or value"),
        ["inputs"] = new("""{"user":"u","inputs":[[9,0,0,0]],"label":1}""", "'inputs'", "user and input"),
        ["user without input"] = new("""{"user":"u","label":1}""", "'id'", "'user' and 'input'"),
        ["input without user"] = new("""{"input":[9,0,0,0],"label":1}""", "'id'", "'user' and 'input'"),
        ["id with user"] = new("""{"id":"x","user":"u","label":1}""", "'id'", "'user' and 'input'"),
        ["id with input"] = new("""{"id":"x","input":[9,0,0,0],"label":1}""", "'id'", "'user' and 'input'"),
        ["id is a number"] = new("""{"id":1,"label":1}""", "'id'", "a string", "a number"),
        ["user is empty"] = new("""{"user":"","input":[9,0,0,0],"label":1}""", "'user'", "0 characters", "1 to 256"),
        ["user is a dot"] = new("""{"user":".","input":[9,0,0,0],"label":1}""", "'user'", "'.' or '..'", "control character"),
        ["user is two dots"] = new("""{"user":"..","input":[9,0,0,0],"label":1}""", "'user'", "'.' or '..'", "control character"),
        ["user is a line"] = new("""{"user":"a\nb","input":[9,0,0,0],"label":1}""", "'user'", "'.' or '..'", "control character"),
        ["user is with a control character"] = new("""{"user":"\u0085","input":[9,0,0,0],"label":1}""", "'user'", "'.' or '..'", "control character"),
        ["too few values"] = new("""{"user":"u","input":[9,0,0],"label":1}""", "'input'", "4 values", "3"),
        ["no label"] = new("""{"user":"u","input":[9,0,0,0]}""", "'label'", "missing", "0 to 2"),
        ["value for a classifier"] = new("""{"user":"u","input":[9,0,0,0],"value":1}""", "'letters'", "'label'", "'value'"),
        ["label beyond the last"] = new("""{"user":"u","input":[9,0,0,0],"label":3}""", "'letters'", "label 3", "0 to 2", "name"),
        ["negative label"] = new("""{"user":"u","input":[9,0,0,0],"label":-1}""", "'letters'", "label -1", "0 to 2"),
        ["huge label"] = new("""{"user":"u","input":[9,0,0,0],"label":4294967296}""", "'letters'", "label 4294967296", "0 to 2"),
        ["label beyond 64 bits"] = new("""{"user":"u","input":[9,0,0,0],"label":99999999999999999999}""", "'label'", "99999999999999999999", "name or index"),
        ["label with a fraction"] = new("""{"user":"u","input":[9,0,0,0],"label":1.5}""", "'label'", "1.5", "name or index"),
        ["unknown label name"] = new("""{"user":"u","input":[9,0,0,0],"label":"d"}""", "'letters'", "'d'", "a, b, c"),
        ["label name in another case"] = new("""{"user":"u","input":[9,0,0,0],"label":"A"}""", "'A'", "a, b, c"),
        ["label is null"] = new("""{"user":"u","input":[9,0,0,0],"label":null}""", "'label'", "name or index", "null"),
        ["label is a boolean"] = new("""{"user":"u","input":[9,0,0,0],"label":true}""", "'label'", "name or index", "true"),
        ["feedback id is empty"] = new("""{"user":"u","input":[9,0,0,0],"label":1,"feedback_id":""}""", "'feedback_id'", "0 characters", "1 to 1024"),
        ["feedback id is too long"] = new($$"""{"user":"u","input":[9,0,0,0],"label":1,"feedback_id":"{{new string('f', 1025)}}"}""", "'feedback_id'", "1025 characters", "1 to 1024"),
        ["feedback id is a number"] = new("""{"user":"u","input":[9,0,0,0],"label":1,"feedback_id":7}""", "'feedback_id'", "a string", "a number"),
        ["batch is empty"] = new("""{"feedback":[]}""", "'feedback'", "at least one"),
        ["batch is an object"] = new("""{"feedback":{}}""", "'feedback'", "an array", "an object"),
        ["batch of numbers"] = new("""{"feedback":[1]}""", "feedback", "an object", "a number"),
        ["something behind a batch"] = new("""{"feedback":[{"user":"u","input":[9,0,0,0],"label":1}],"user":"u"}""", "'user'", "nothing beside 'feedback'"),
        ["something before a batch"] = new("""{"user":"u","feedback":[{"user":"u","input":[9,0,0,0],"label":1}]}""", "'user'", "nothing beside 'feedback'"),
    };

    /// <summary>Wrong items of a batch for <c>letters</c>.</summary>
    private static readonly Dictionary<string, Case> Items = new()
    {
        ["unknown label"] = new("""{"user":"u","input":[9,0,0,0],"label":3}""", "label 3", "0 to 2"),
        ["no label"] = new("""{"user":"u","input":[9,0,0,0]}""", "'label'", "0 to 2"),
        ["wrong count"] = new("""{"user":"u","input":[9,0,0],"label":1}""", "'input'", "4 values", "3"),
        ["empty user"] = new("""{"user":"","input":[9,0,0,0],"label":1}""", "'user'", "1 to 256"),
        ["unknown field"] = new("""{"user":"u","input":[9,0,0,0],"label":1,"x":1}""", "'x'", "label or value"),
        ["neither id nor user"] = new("""{"label":1}""", "'id'", "'user' and 'input'"),
        ["not an object"] = new("7", "an object", "a number"),
    };

    public static TheoryData<string> PredictionNames => [.. Predictions.Keys];

    public static TheoryData<string> FeedbackNames => [.. Feedback.Keys];

    public static TheoryData<string> ItemNames => [.. Items.Keys];

    private HttpClient Client => fixture.Server.Client;

    [Theory]
    [InlineData("[1000,0,0,0]", 0)]
    [InlineData("[0,0,1e30,0]", 2)]
    [InlineData("[90,90.5,0,0]", 1)]
    [InlineData("[-1000,-1000,-1001,0]", 0)]
    public async Task LargeScores_AreAnsweredLikeAnyOther(string input, int label)
    {
        var (status, answer) = await fixture.Server.PostAsync("/apps/letters/predict", $$"""{"input":{{input}},"explain":true}""");

        Assert.Equal(System.Net.HttpStatusCode.OK, status);
        Assert.False(answer.GetProperty("is_default").GetBoolean());
        Assert.Equal(label, answer.GetProperty("label").GetInt32());
    }

    [Fact]
    public async Task MoreRowsThanAnswersAreGivenAtOnce_AreRefused()
    {
        var row = string.Join(',', Enumerable.Repeat("[9,0,0,0]", 10_001));
        (await PredictAsync($$"""{"inputs":[{{row}}]}""")).AssertRefused(400, "'inputs'", "10000");
        var item = string.Join(',', Enumerable.Repeat("""{"user":"u","input":[9,0,0,0],"label":1}""", 10_001));
        (await FeedbackAsync($$"""{"feedback":[{{item}}]}""")).AssertRefused(400, "'feedback'", "10000", "none was accepted");
    }

    [Fact]
    public async Task ModelVersionThatNoLongerFitsTheApp_IsUnavailableAndNeverMisread()
    {
        await using var server = await SkiffServer.StartAsync();
        await server.PushAsync("m", OnnxBuilder.Identity(DataType.Fp32, -1, 4));
        await server.PushAppAsync("""{"name":"a","input":{"name":"x","type":"FP32","shape":[4]},"labels":["a","b","c","d"],"cascade":[{"model":"m"}]}""");
        await server.PushAppAsync("""{"name":"h","input":{"name":"x","type":"FP32","shape":[4]},"labels":["a","b"],"head":{"features":"m","kind":"classes"}}""");
        Assert.Equal(System.Net.HttpStatusCode.OK, (await server.PostAsync("/apps/a/predict", Good)).Status);
        Assert.Equal(System.Net.HttpStatusCode.OK, (await server.PostAsync("/apps/h/predict", Good)).Status);

        var wider = new OnnxBuilder().Input("x", DataType.Fp32, -1, 4).Output("y", DataType.Fp32, -1, 8).Node("Concat", ["x", "x"], ["y"], "", OnnxAttributes.Integer("axis", 1)).Build();
        foreach (var content in new[] { wider, OnnxBuilder.Identity(DataType.Int32, -1, 4), OnnxBuilder.Identity(DataType.Fp32, -1, 5) })
        {
            await server.PushAsync("m", content);
            await server.PostAsync("/v2/repository/models/m/load", "");
            foreach (var app in new[] { "a", "h" })
            {
                var (status, answer) = await server.PostAsync($"/apps/{app}/predict", Good);
                Assert.Equal(System.Net.HttpStatusCode.ServiceUnavailable, status);
                Assert.Contains("no longer fits the app", answer.GetProperty("error").GetString(), StringComparison.Ordinal);
            }
        }
    }

    [Theory, MemberData(nameof(PredictionNames))]
    public async Task BadPrediction_IsRefusedWithItsReason(string name)
    {
        var answer = await PredictAsync(Predictions[name].Body);

        answer.AssertRefused(400, Predictions[name].Fragments);
    }

    [Theory, MemberData(nameof(FeedbackNames))]
    public async Task BadFeedback_IsRefusedWithItsReason(string name)
    {
        var answer = await FeedbackAsync(Feedback[name].Body);

        answer.AssertRefused(400, Feedback[name].Fragments);
    }

    [Theory, MemberData(nameof(ItemNames))]
    public async Task BatchWithABadItem_NamesItsIndexAndAcceptsNone(string name)
    {
        var before = await AcceptedAsync();

        var answer = await FeedbackAsync($$"""{"feedback":[{"user":"u","input":[9,0,0,0],"label":1},{"user":"v","input":[9,0,0,0],"label":1},{{Items[name].Body}}]}""");

        answer.AssertRefused(400, ["feedback[2]", .. Items[name].Fragments]);
        Assert.Equal(before, await AcceptedAsync());
    }

    [Fact]
    public async Task BatchWithAForgedDecision_NamesItsIndexAndAcceptsNone()
    {
        var before = await AcceptedAsync();

        var answer = await FeedbackAsync("""{"feedback":[{"user":"u","input":[9,0,0,0],"label":1},{"id":"forged","label":1}]}""");

        answer.AssertRefused(404, "feedback[1]", "no such decision");
        Assert.Equal(before, await AcceptedAsync());
    }

    [Theory]
    [InlineData("""{"user":"u","input":[1,2,3,4],"label":1}""", "'number'", "no labels", "'value'")]
    [InlineData("""{"user":"u","input":[1,2,3,4],"label":"a"}""", "'number'", "no labels", "'value'")]
    [InlineData("""{"user":"u","input":[1,2,3,4]}""", "'value'", "missing", "a number")]
    [InlineData("""{"user":"u","input":[1,2,3,4],"value":"1"}""", "'value'", "a number", "a string")]
    [InlineData("""{"user":"u","input":[1,2,3,4],"value":null}""", "'value'", "a number", "null")]
    [InlineData("""{"user":"u","input":[1,2,3,4],"value":NaN}""", "NaN or infinity")]
    [InlineData("""{"user":"u","input":[1,2,3,4],"value":1e39}""", "'value'", "1E+39", "FP32's range")]
    public async Task BadFeedbackForARegression_IsRefusedWithItsReason(string body, params string[] fragments)
    {
        var answer = await FeedbackAsync(body, "number");

        answer.AssertRefused(400, fragments);
    }

    [Theory]
    [InlineData("nobody")]
    [InlineData("a%20b")]
    [InlineData("..%2F..%2Fetc%2Fpasswd")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public async Task UnknownApp_IsNotFound(string app)
    {
        Assert.All(
            [
                await HttpAnswer.GetAsync(Client, $"/apps/{app}"),
                await PredictAsync(Good, app),
                await FeedbackAsync("""{"user":"u","input":[9,0,0,0],"label":1}""", app),
            ],
            answer => answer.AssertRefused(404, "unknown app", "GET /apps"));
    }

    [Theory]
    [InlineData("GET", "/apps/letters/predict", "POST")]
    [InlineData("PUT", "/apps/letters/feedback", "POST")]
    [InlineData("POST", "/apps", "GET")]
    public async Task WrongMethod_IsRefusedWithTheRightOne(string method, string path, string allowed)
    {
        var answer = await HttpAnswer.SendAsync(Client, new HttpMethod(method), path);

        answer.AssertRefused(405, method, path, allowed);
    }

    [Fact]
    public async Task IntegerInput_TakesNoFraction()
    {
        var answer = await PredictAsync("""{"input":[1.5]}""", "table");

        answer.AssertRefused(400, "'input'", "integers", "1.5");
    }

    [Theory]
    [InlineData("table")]
    [InlineData("personal-table")]
    public async Task ValueThatTheModelCanNotUse_IsTheCallersFault(string app)
    {
        var answer = await PredictAsync("""{"input":[99]}""", app);

        answer.AssertRefused(400, "could not be run on this input", "99");
    }

    [Fact]
    public async Task Prediction_SaysWhatAnsweredAndHow()
    {
        var answer = (await PredictAsync(Good)).AssertOk().Json;

        Assert.Equal(0, answer.GetProperty("label").GetInt32());
        Assert.Equal("a", answer.GetProperty("label_name").GetString());
        Assert.Equal("small", answer.GetProperty("stage").GetString());
        Assert.InRange(answer.GetProperty("confidence").GetDouble(), 0.99, 1);
        Assert.False(answer.GetProperty("is_default").GetBoolean());
        Assert.Equal("""{"app":1,"small":1}""", answer.GetProperty("versions").GetRawText());
        Assert.True(answer.GetProperty("cost_usd").GetDouble() > 0);
        Assert.True(answer.GetProperty("latency_ms").GetDouble() > 0);
        Assert.NotEmpty(answer.GetProperty("id").GetString()!);
        Assert.False(answer.TryGetProperty("explanation", out _));
    }

    [Fact]
    public async Task Explain_ShowsScoresAndStages()
    {
        var explanation = (await PredictAsync("""{"input":[0,1,0,0],"explain":true}""")).AssertOk().Json.GetProperty("explanation");

        Assert.Equal(3, explanation.GetProperty("scores").GetArrayLength());
        Assert.Equal(["small", "big"], explanation.GetProperty("stages").EnumerateArray().Select(stage => stage.GetProperty("model").GetString()));
        Assert.Equal(0.9, explanation.GetProperty("stages")[0].GetProperty("gate").GetDouble());
        Assert.False(explanation.GetProperty("stages")[1].TryGetProperty("gate", out _));
    }

    [Fact]
    public async Task Batch_AnswersEachRowFromItsOwnStage()
    {
        var predictions = (await PredictAsync("""{"inputs":[[9,0,0,0],[0,1,0,0],[0,0,9,0]]}""")).AssertOk().Json.GetProperty("predictions").EnumerateArray().ToArray();

        Assert.Equal([0, 1, 2], predictions.Select(row => row.GetProperty("label").GetInt32()));
        Assert.Equal(["small", "big", "small"], predictions.Select(row => row.GetProperty("stage").GetString()));
        Assert.Equal(3, predictions.Select(row => row.GetProperty("id").GetString()).Distinct().Count());
    }

    [Fact]
    public async Task BatchOfOne_IsStillABatch()
    {
        var answer = (await PredictAsync("""{"inputs":[[9,0,0,0]]}""")).AssertOk().Json;

        Assert.Equal(1, answer.GetProperty("predictions").GetArrayLength());
    }

    [Theory]
    [InlineData("""{"input":[[9,0],[0,0]]}""")]
    [InlineData("""{"input":[9,0,0,0]}""")]
    public async Task InputWithSeveralDimensions_IsTakenNestedOrFlat(string body)
    {
        var answer = (await PredictAsync(body, "grid")).AssertOk().Json;

        Assert.Equal("a", answer.GetProperty("label_name").GetString());
    }

    [Fact]
    public async Task RaggedInput_IsRefused()
    {
        var answer = await PredictAsync("""{"input":[[9,0],[0]]}""", "grid");

        answer.AssertRefused(400, "'input'", "[2,2]", "2 values", "1");
    }

    [Fact]
    public async Task LongestUser_IsTaken()
    {
        (await PredictAsync($$"""{"user":"{{new string('u', 256)}}","input":[9,0,0,0]}""")).AssertOk();
    }

    [Fact]
    public async Task UserOfNull_IsNobody()
    {
        (await PredictAsync("""{"user":null,"input":[9,0,0,0]}""")).AssertOk();
    }

    [Fact]
    public async Task DeadlineThatHasPassed_GivesTheDefaultAndSaysSo()
    {
        var answer = (await PredictAsync("""{"input":[9,0,0,0],"deadline_ms":0.000001}""")).AssertOk().Json;

        Assert.True(answer.GetProperty("is_default").GetBoolean());
        Assert.Equal("deadline", answer.GetProperty("degraded").GetString());
        Assert.Equal("c", answer.GetProperty("label_name").GetString());
    }

    [Theory]
    [InlineData("1e18")]
    [InlineData("1e300")]
    public async Task HugeDeadline_IsNoDeadline(string milliseconds)
    {
        var answer = (await PredictAsync($$$"""{"input":[9,0,0,0],"deadline_ms":{{{milliseconds}}}}""")).AssertOk().Json;

        Assert.False(answer.GetProperty("is_default").GetBoolean());
    }

    [Fact]
    public async Task DefaultLabelThatTheAppDoesNotHave_IsNotPublished()
    {
        var refused = await Assert.ThrowsAsync<PublishException>(() => fixture.Server.PushAppAsync("""
            {"name":"wrong-default","input":{"name":"x","type":"FP32","shape":[4]},"labels":["a","b","c"],"cascade":[{"model":"small"}],"default":{"label":3}}
            """));

        Assert.Contains("'default.label' is 3", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task FeedbackByDecision_IsAcceptedUnderItsId()
    {
        var id = await DecideAsync();

        var answer = await FeedbackAsync($$"""{"id":"{{id}}","label":1}""");

        Assert.Equal(202, answer.Status);
        Assert.Equal(id, answer.Json.GetProperty("feedback_id").GetString());
    }

    [Fact]
    public async Task FeedbackId_IsGivenBack()
    {
        var answer = await FeedbackAsync("""{"user":"u","input":[9,0,0,0],"label":1,"feedback_id":"mine \u00e9"}""");

        Assert.Equal(202, answer.Status);
        Assert.Equal("mine é", answer.Json.GetProperty("feedback_id").GetString());
    }

    [Fact]
    public async Task FeedbackWithoutAnyId_GetsOne()
    {
        var answer = await FeedbackAsync("""{"user":"u","input":[9,0,0,0],"label":1}""");

        Assert.NotEmpty(answer.AssertOk().Json.GetProperty("feedback_id").GetString()!);
    }

    [Fact]
    public async Task FeedbackBatch_IsAcceptedInOrder()
    {
        var id = await DecideAsync();

        var answer = await FeedbackAsync($$"""{"feedback":[{"user":"u","input":[9,0,0,0],"label":1,"feedback_id":"first"},{"id":"{{id}}","label":"b"}]}""");

        Assert.Equal(202, answer.Status);
        Assert.Equal(["first", id], answer.Json.GetProperty("feedback_ids").EnumerateArray().Select(item => item.GetString()));
    }

    [Theory]
    [InlineData("by-name", "\"b\"")]
    [InlineData("by-index", "1")]
    public async Task Label_IsLearntByNameOrIndex(string user, string label)
    {
        (await FeedbackAsync($$$"""{"user":"{{{user}}}","input":[0,0,0,5],"label":{{{label}}}}""", "personal")).AssertOk();

        await UntilAsync("personal", $$"""{"user":"{{user}}","input":[0,0,0,5]}""", answer => answer.GetProperty("label_name").GetString() == "b" && answer.GetProperty("confidence").GetDouble() > 0.5);
    }

    [Fact]
    public async Task Value_IsLearnt()
    {
        (await FeedbackAsync("""{"user":"valued","input":[0,0,0,5],"value":-8}""", "number")).AssertOk();

        await UntilAsync("number", """{"user":"valued","input":[0,0,0,5]}""", answer => answer.GetProperty("output").GetDouble() < -4);
    }

    [Fact]
    public async Task DecisionThatWeSealed_IsTaken()
    {
        var answer = await FeedbackAsync($$"""{"id":"{{Seal()}}","label":1}""");

        answer.AssertOk();
    }

    [Fact]
    public async Task ForgedForeignAndExpiredDecisions_GetOneAndTheSameAnswer()
    {
        var good = Seal();
        var expected = await FeedbackAsync("""{"id":"forged","label":1}""");
        expected.AssertRefused(404, "no such decision, or its time for feedback is over");

        var bad = new Dictionary<string, string>
        {
            ["empty"] = "",
            ["no base64"] = "not+base64/",
            ["cut off"] = good[..^4],
            ["too short"] = "AQ",
            ["another format"] = "Ag" + good[2..],
            ["first byte changed"] = (good[0] == 'B' ? 'C' : 'B') + good[1..],
            ["a byte changed"] = good[..60] + (good[60] == 'A' ? 'B' : 'A') + good[61..],
            ["the tag changed"] = good[..^10] + (good[^10] == 'A' ? 'B' : 'A') + good[^9..],
            ["another app's"] = await DecideAsync("grid"),
            ["another tenant's"] = Seal(tenant: "acme"),
            ["long expired"] = Seal(validFor: TimeSpan.FromSeconds(-2) - DecisionSeal.LateFor),
            ["another server's"] = Seal(secret: "another secret of enough letters"),
            ["much too long"] = new('A', 100_000),
        };
        foreach (var (name, id) in bad)
        {
            var answer = await FeedbackAsync($$"""{"id":"{{id}}","label":1}""");
            Assert.Equal((name, 404, expected.Text), (name, answer.Status, answer.Text));
        }
    }

    [Fact]
    public async Task SameDecisionInAnotherSpelling_IsNotAnotherDecision()
    {
        var id = await DecideAsync();

        Assert.All(
            [
                await FeedbackAsync($$"""{"id":"{{id}} ","label":1}"""),
                await FeedbackAsync($$"""{"id":"{{id.Insert(8, "\\n")}}","label":1}"""),
                await FeedbackAsync($$"""{"id":"{{id}}=","label":1}"""),
            ],
            answer => answer.AssertRefused(404, "no such decision"));
    }

    private Task<HttpAnswer> PredictAsync(string body, string app = "letters") => HttpAnswer.PostAsync(Client, $"/apps/{app}/predict", body);

    private Task<HttpAnswer> FeedbackAsync(string body, string app = "letters") => HttpAnswer.PostAsync(Client, $"/apps/{app}/feedback", body);

    private async Task<string> DecideAsync(string app = "letters") => (await PredictAsync(Good, app)).AssertOk().Json.GetProperty("id").GetString()!;

    private static string Seal(string tenant = "default", string app = "letters", TimeSpan? validFor = null, string secret = Fixture.Secret) =>
        new DecisionSeal([secret], TimeProvider.System).Seal(new Decision
        {
            Tenant = tenant,
            App = app,
            AppVersion = 1,
            User = "u",
            Label = 0,
            Expires = TimeProvider.System.GetUtcNow() + (validFor ?? TimeSpan.FromHours(1)),
        });

    private async Task<string> AcceptedAsync() =>
        (await HttpAnswer.GetAsync(Client, "/metrics")).Text.Split('\n').Single(line => line.StartsWith("skiff_feedback_accepted_total ", StringComparison.Ordinal));

    /// <summary>Feedback is learnt soon after it was accepted, not before.</summary>
    private Task UntilAsync(string app, string body, Func<JsonElement, bool> isLearnt) =>
        Eventually.HoldsAsync("the feedback is learnt", async () => isLearnt((await PredictAsync(body, app)).AssertOk().Json));

    private sealed record Case(string Body, params string[] Fragments);

    public sealed class Fixture() : ServerFixture(("SKIFF_SECRET", Secret))
    {
        public const string Secret = "a secret that only the tests know";

        protected override async Task PublishAsync()
        {
            await Server.PushAsync("small", Scores(scale: 1));
            await Server.PushAsync("big", Scores(scale: 9));
            await Server.PushAsync("flatten", new OnnxBuilder()
                .Initializer("w", Weights(1), 4, 3)
                .Input("x", DataType.Fp32, -1, 2, 2).Output("y", DataType.Fp32, -1, 3)
                .Node("Flatten", ["x"], ["flat"]).Node("MatMul", ["flat", "w"], ["y"])
                .Build());
            await Server.PushAsync("features", OnnxBuilder.Identity(DataType.Fp32, -1, 4));
            await Server.PushAsync("rows", new OnnxBuilder()
                .Initializer("w", Weights(9), 4, 3)
                .Input("x", DataType.Int64, -1).Output("y", DataType.Fp32, -1, 3)
                .Node("Gather", ["w", "x"], ["y"])
                .Build());

            await Server.PushAppAsync("""
                {"name":"letters","input":{"name":"x","type":"FP32","shape":[4]},"labels":["a","b","c"],"default":{"label":2},
                 "cascade":[{"model":"small","gate":{"on":"max_softmax","at":0.9}},{"model":"big"}]}
                """);
            await Server.PushAppAsync("""{"name":"grid","input":{"name":"x","type":"FP32","shape":[2,2]},"labels":["a","b","c"],"cascade":[{"model":"flatten"}]}""");
            await Server.PushAppAsync("""{"name":"personal","input":{"name":"x","type":"FP32","shape":[4]},"labels":["a","b","c"],"head":{"features":"features","kind":"classes"}}""");
            await Server.PushAppAsync("""{"name":"number","input":{"name":"x","type":"FP32","shape":[4]},"head":{"features":"features","kind":"regression"}}""");
            await Server.PushAppAsync("""{"name":"table","input":{"name":"x","type":"INT64","shape":[]},"labels":["a","b","c"],"cascade":[{"model":"rows"}]}""");
            await Server.PushAppAsync("""{"name":"personal-table","input":{"name":"x","type":"INT64","shape":[]},"labels":["a","b","c"],"head":{"features":"rows","kind":"classes"}}""");
        }

        /// <summary>The first three of four inputs are the classes' scores.</summary>
        private static byte[] Scores(float scale) => new OnnxBuilder()
            .Initializer("w", Weights(scale), 4, 3)
            .Input("x", DataType.Fp32, -1, 4).Output("y", DataType.Fp32, -1, 3)
            .Node("MatMul", ["x", "w"], ["y"])
            .Build();

        private static float[] Weights(float scale) => [scale, 0, 0, 0, scale, 0, 0, 0, scale, 0, 0, 0];
    }
}
